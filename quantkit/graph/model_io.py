"""Load, check and save ONNX models; turn them into programs; digest them."""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError, EncodeError
from onnx import version_converter

from quantkit.errors import ModelError, NonFiniteRangeError, UnsupportedModelError
from quantkit.graph.program import Array, AttributeValue, Node, Program, TensorSpec

OLDEST_OPSET = 11
# QuantizeLinear and DequantizeLinear have a channel axis from here on.
PER_CHANNEL_OPSET = 13
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
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ModelError(f"model {str(path)!r} {what}; give the path of an ONNX file")
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{str(path)!r} is not an ONNX model, or is truncated ({_first_line(error)})"
        ) from error
    if not proto.graph.node:
        raise ModelError(f"{str(path)!r} is not an ONNX model: it has no nodes")
    try:
        onnx.checker.check_model(str(path), full_check=False)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ModelError(
            f"{str(path)!r} is not a valid ONNX model: {_first_line(error)}"
        ) from error
    try:
        model = ir.load(path)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{str(path)!r} cannot be read: {_first_line(error)}") from error
    model = raise_opset(model, OLDEST_OPSET)
    _refuse_non_finite_weights(model)
    return model


def raise_opset(model: ir.Model, opset: int) -> ir.Model:
    """The model with at least ``opset`` (onnx's converter); unchanged where it already has it.

    Raises:
        UnsupportedModelError: onnx's converter cannot do it; the message has its words.
    """
    present = model.opset_imports.get("", 1)
    if present >= opset:
        return model
    try:
        converted = version_converter.convert_version(ir.to_proto(model), opset)
    except (RuntimeError, ValueError, EncodeError, onnx.checker.ValidationError) as error:
        raise UnsupportedModelError(
            f"the model has opset {present}, and onnx cannot convert it to {opset} "
            f"({_first_line(error)}); export it again with opset {PER_CHANNEL_OPSET} or newer"
        ) from error
    return ir.from_proto(converted)


def save_model(model: ir.Model, path: str | Path) -> None:
    """Write an ONNX file beside its place, then rename: a half-written file is never seen.

    Tensors go to ``NAME.data`` where the model would exceed protobuf's 2 GiB.

    Raises:
        ModelError: The place cannot be written to.
    """
    path = Path(path)
    embed = _initializer_bytes(model) < _EMBED_LIMIT_BYTES
    try:
        with partial_file(path) as partial:
            if embed:
                ir.save(model, partial, format="protobuf")
            else:
                ir.save(model, partial, format="protobuf", external_data=f"{path.name}.data")
    except OSError as error:
        raise ModelError(f"cannot write {str(path)!r}: {_first_line(error)}") from error


@contextmanager
def partial_file(path: Path) -> Iterator[Path]:
    """A path beside ``path`` that is renamed to it at the end, or removed on any error."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    os.close(handle)
    partial = Path(name)
    umask = os.umask(0)
    os.umask(umask)
    partial.chmod(0o666 & ~umask)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def serialize(model: ir.Model) -> bytes:
    """The model as protobuf bytes.

    Raises:
        ModelError: The model exceeds protobuf's 2 GiB.
    """
    try:
        data: bytes = ir.to_proto(model).SerializeToString()
    except (ValueError, EncodeError) as error:
        raise ModelError(f"the model cannot be serialized: {_first_line(error)}") from error
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
    )


def model_digest(model: ir.Model) -> str:
    """SHA-256 of the graph's content: nodes, attributes, constants, inputs and outputs.

    Storage does not matter: external data, raw or typed fields, doc strings and metadata leave it
    unchanged.
    """
    program = program_of(model)
    sha = hashlib.sha256()
    for spec in (*program.inputs, *program.outputs):
        _update(sha, "value", spec.name, spec.dtype.str, repr(spec.shape))
    for node in program.nodes:
        _update(sha, "node", node.domain, node.op_type, str(node.version))
        _update(sha, *node.inputs, "->", *node.outputs)
        for name in sorted(node.attributes):
            value = node.attributes[name]
            if isinstance(value, np.ndarray):
                _update(sha, name, value.dtype.str, repr(value.shape))
                sha.update(np.ascontiguousarray(value).tobytes())
            else:
                _update(sha, name, repr(value))
    for name in sorted(program.constants):
        array = program.constants[name]
        _update(sha, "constant", name, array.dtype.str, repr(array.shape))
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


def _update(sha: "hashlib._Hash", *texts: str) -> None:
    for text in texts:
        encoded = text.encode()
        # The length makes the sequence of texts unambiguous.
        sha.update(len(encoded).to_bytes(8, "little") + encoded)


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
        shape = tuple(d if isinstance(d, int) else d.value for d in value.shape)
    try:
        dtype = value.dtype.numpy() if value.dtype is not None else np.dtype(np.void)
    except TypeError:  # strings have no fixed NumPy dtype
        dtype = np.dtype(np.object_)
    return TensorSpec(value.name or "", dtype, shape)


def _initializer_bytes(model: ir.Model) -> int:
    return sum(
        value.const_value.nbytes
        for value in model.graph.initializers.values()
        if value.const_value is not None
    )


def _floating_initializers(model: ir.Model) -> Iterable[tuple[str, Array]]:
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and tensor.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
            yield name, tensor.numpy()


def _refuse_non_finite_weights(model: ir.Model) -> None:
    for name, array in _floating_initializers(model):
        # One element is a bound or a mask value (Clip to infinity), not a weight.
        if array.size > 1 and not np.isfinite(array).all():
            bad = "NaN" if np.isnan(array).any() else "infinity"
            raise NonFiniteRangeError(
                f"weight {name!r} of shape {array.shape} holds {bad}; "
                "the float model itself is damaged: export it again"
            )


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__
