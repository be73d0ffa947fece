"""Load, check and save ONNX models; turn them into programs; digest them."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import EncodeError
from onnx import version_converter

from quantkit.errors import ModelError, UnsupportedModelError
from quantkit.graph.digest import GraphDigest
from quantkit.graph.model_checks import check_file, first_line, refuse_non_finite_weights
from quantkit.graph.partial_file import partial_file
from quantkit.graph.program import Array, AttributeValue, Dimension, Node, Program, TensorSpec

OLDEST_OPSET = 11
# QuantizeLinear and DequantizeLinear have a channel axis from here on.
PER_CHANNEL_OPSET = 13
_CONVERTER_ERRORS = (
    RuntimeError,
    ValueError,
    EncodeError,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    version_converter.ConvertError,
)
# onnx's converter passes these on as they are, although a later opset reads them otherwise.
_MEANING_CHANGED = {"Hardmax": 13, "Scan": 9}
_METADATA_PREFIX = "quantkit."
# A protobuf message cannot exceed 2 GiB; above this, tensors go to an external file.
_EMBED_LIMIT_BYTES = 1_800_000_000


def load_model(path: str | Path) -> ir.Model:
    """Read an ONNX file and check that it is whole.

    Opsets below 11 are converted upwards with onnx's own converter.

    Args:
        path: The file; external data is looked up beside it.

    Returns:
        The model, with an opset of at least 11.

    Raises:
        ModelError: No such file, not ONNX, truncated, external data missing, or invalid.
        UnsupportedModelError: The opset is too old to be converted.
        NonFiniteRangeError: A weight holds NaN or infinity.
    """
    path = Path(path)
    check_file(path)
    try:
        model = ir.load(path, format="protobuf")
        # Kept in memory: onnxruntime is given bytes, which have no folder to look beside.
        ir.external_data.load_to_model(model)
    except (OSError, ValueError, TypeError, KeyError, ir.serde.SerdeError) as error:
        raise ModelError(f"{str(path)!r} cannot be read: {first_line(error)}") from error
    model = raise_opset(model, OLDEST_OPSET)
    refuse_non_finite_weights(model)
    return model


def raise_opset(model: ir.Model, opset: int) -> ir.Model:
    """The model with at least ``opset`` (onnx's converter); unchanged where it already has it.

    Raises:
        UnsupportedModelError: onnx's converter cannot do it; the message has its words.
    """
    present = model.opset_imports.get("", opset)
    if present >= opset:
        return model
    for node in model.graph.all_nodes():
        changed = _MEANING_CHANGED.get(node.op_type, 0)
        if node.domain == "" and present < changed <= opset:
            raise UnsupportedModelError(
                f"the model has opset {present}, and node {node.name!r} ({node.op_type}) means "
                f"something else from opset {changed} on; export it again with opset "
                f"{PER_CHANNEL_OPSET} or newer"
            )
    try:
        converted = version_converter.convert_version(ir.to_proto(model), opset)
    except _CONVERTER_ERRORS as error:
        reason = first_line(error).rpartition("failed: ")[2]
        raise UnsupportedModelError(
            f"the model has opset {present}, and onnx cannot convert it to {opset} "
            f"({reason}); export it again with opset {PER_CHANNEL_OPSET} or newer"
        ) from error
    return ir.from_proto(converted)


def save_model(model: ir.Model, path: str | Path) -> None:
    """Write an ONNX file beside its place, then rename: a half-written file is never seen.

    Tensors go to ``NAME.data`` where the model would exceed protobuf's 2 GiB.

    Raises:
        ModelError: The place cannot be written to.
    """
    path = Path(path)
    try:
        if _initializer_bytes(model) < _EMBED_LIMIT_BYTES:
            with partial_file(path) as partial:
                ir.save(model, partial, format="protobuf")
        else:
            _save_with_external_data(model, path)
    except (OSError, ValueError, EncodeError) as error:
        raise ModelError(f"cannot write {str(path)!r}: {first_line(error)}") from error


def _save_with_external_data(model: ir.Model, path: Path) -> None:
    data = path.with_name(f"{path.name}.data")
    with (
        tempfile.TemporaryDirectory(prefix=".", suffix=".partial", dir=path.parent) as folder,
        partial_file(path) as partial,
        partial_file(data) as partial_data,
    ):
        # The model names its data file, so both are written under their own names first.
        whole = Path(folder) / path.name
        ir.save(model, whole, format="protobuf", external_data=data.name)
        whole.with_name(data.name).replace(partial_data)
        whole.replace(partial)


def serialize(model: ir.Model) -> bytes:
    """The model as protobuf bytes.

    Raises:
        ModelError: The model exceeds protobuf's 2 GiB.
    """
    try:
        data: bytes = ir.to_proto(model).SerializeToString()
    except (ValueError, EncodeError) as error:
        raise ModelError(f"the model cannot be serialized: {first_line(error)}") from error
    return data


def read_metadata(model: ir.Model) -> dict[str, str]:
    """Quantkit's own entries of the model's metadata, without their prefix."""
    return {
        key.removeprefix(_METADATA_PREFIX): value
        for key, value in model.metadata_props.items()
        if key.startswith(_METADATA_PREFIX)
    }


def write_metadata(model: ir.Model, entries: Mapping[str, str]) -> None:
    """Store entries in the model's metadata, under quantkit's prefix."""
    for key, value in entries.items():
        model.metadata_props[f"{_METADATA_PREFIX}{key}"] = value


def program_of(model: ir.Model) -> Program:
    """Read a model into plain data; arrays are views, nothing is copied.

    Unnamed nodes get the name of their first output.
    """
    graph = model.graph
    constants = {
        name: value.const_value.numpy()
        for name, value in graph.initializers.items()
        if value.const_value is not None
    }
    nodes = tuple(node_of(node, model.opset_imports) for node in graph)
    specs: dict[str, TensorSpec] = {}
    for value in (*graph.inputs, *(output for node in graph for output in node.outputs)):
        if value.name:
            specs[value.name] = _spec_of(value)
    return Program(
        nodes=nodes,
        constants=constants,
        inputs=tuple(_spec_of(v) for v in graph.inputs if v.name not in constants),
        outputs=tuple(_spec_of(value) for value in graph.outputs),
        specs=specs,
        feedable=frozenset(v.name for v in graph.inputs if v.name and v.name in constants),
    )


def model_digest(model: ir.Model) -> str:
    """SHA-256 of the model's content: nodes, attributes, constants, inputs, outputs, functions.

    Storage does not matter: external data, raw or typed fields, doc strings and metadata leave it
    unchanged.
    """
    digest = GraphDigest()
    digest.add_graph(model.graph, model.opset_imports)
    for identifier in sorted(model.functions):
        function = model.functions[identifier]
        digest.add_texts("function", *identifier)
        digest.add_graph(function.graph, function.opset_imports)
    return digest.hexdigest()


def node_of(node: ir.Node, opset_imports: Mapping[str, int]) -> Node:
    """Read one node into plain data."""
    attributes: dict[str, AttributeValue] = {}
    has_subgraph = False
    for name, attribute in node.attributes.items():
        if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
            has_subgraph = True
        elif not attribute.is_ref():
            value = _attribute_value(attribute)
            if value is not None:
                attributes[name] = value
    outputs = tuple(output.name or "" for output in node.outputs)
    return Node(
        name=node.name or next((output for output in outputs if output), node.op_type),
        op_type=node.op_type,
        domain=node.domain,
        version=node.version or opset_imports.get(node.domain, 1),
        inputs=tuple((value.name or "") if value is not None else "" for value in node.inputs),
        outputs=outputs,
        attributes=attributes,
        has_subgraph=has_subgraph,
    )


def _attribute_value(attribute: ir.Attr) -> AttributeValue | None:
    match attribute.type:
        case ir.AttributeType.INT:
            return int(attribute.as_int())
        case ir.AttributeType.FLOAT:
            return float(attribute.as_float())
        case ir.AttributeType.STRING:
            return attribute.as_string()
        case ir.AttributeType.INTS:
            return tuple(int(item) for item in attribute.as_ints())
        case ir.AttributeType.FLOATS:
            return tuple(float(item) for item in attribute.as_floats())
        case ir.AttributeType.STRINGS:
            return tuple(attribute.as_strings())
        case ir.AttributeType.TENSOR:
            tensor: Array = attribute.as_tensor().numpy()
            return tensor
        case _:
            return None


def _spec_of(value: ir.Value) -> TensorSpec:
    shape = None
    if value.shape is not None:
        shape = tuple(_dimension(size) for size in value.shape)
    try:
        dtype = value.dtype.numpy() if value.dtype is not None else np.dtype(np.void)
    except TypeError:  # strings have no fixed NumPy dtype
        dtype = np.dtype(np.object_)
    return TensorSpec(value.name or "", dtype, shape)


def _dimension(size: int | ir.SymbolicDim) -> Dimension:
    if isinstance(size, int):
        return size if size >= 0 else None  # some exporters write -1 for an open dimension
    return size.value


def _initializer_bytes(model: ir.Model) -> int:
    return sum(
        value.const_value.nbytes
        for value in model.graph.initializers.values()
        if value.const_value is not None
    )
