"""What makes a file no usable ONNX model, each told apart with one line."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError, EncodeError

from quantkit.errors import ModelError, NonFiniteRangeError

_REAL_TYPES = frozenset(
    {
        ir.DataType.FLOAT,
        ir.DataType.FLOAT16,
        ir.DataType.BFLOAT16,
        ir.DataType.DOUBLE,
    }
)
_QDQ = ("QuantizeLinear", "DequantizeLinear")
# What a value is declared to be and what follows from its node; onnxruntime only warns of it.
_DECLARED_OTHERWISE = ("Inferred shape and existing shape differ", "Inferred elem type differs")
_INFERENCE_ERROR = re.compile(r"\(op_type:(\S+?)(?:, node name: ([^)]*))?\): (?:\[\w+\] )?(.*)")
_CHECKER_NODE = re.compile(r"Name: (\S+) OpType")


def check_file(path: Path) -> None:
    """Whether ``path`` is a whole and valid ONNX file (protobuf, whatever its suffix).

    Raises:
        ModelError: No such file, a folder, unreadable, empty, not ONNX, truncated, external data
            missing, or an invalid graph.
    """
    try:
        if path.is_dir():
            raise ModelError(f"model {str(path)!r} is a folder; give the path of an ONNX file")
        if not path.exists():
            raise ModelError(f"model {str(path)!r} does not exist; give the path of an ONNX file")
        if not path.is_file():
            raise ModelError(f"model {str(path)!r} is no regular file; save the model to a file")
        if path.stat().st_size == 0:
            raise ModelError(f"{str(path)!r} is empty; export the model again")
        proto = onnx.load(str(path), format="protobuf", load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise ModelError(
            f"{str(path)!r} is not an ONNX model, or is truncated ({first_line(error)})"
        ) from error
    except OSError as error:
        raise ModelError(f"model {str(path)!r} cannot be read: {first_line(error)}") from error
    if not proto.graph.node:
        raise ModelError(f"{str(path)!r} is not an ONNX model: it has no nodes")
    try:
        onnx.checker.check_model(str(path), full_check=False)
    except (onnx.checker.ValidationError, ValueError, TypeError) as error:
        reason = _checker_reason(error, proto)
        raise ModelError(f"{str(path)!r} is not a valid ONNX model: {reason}") from error


def _checker_reason(error: BaseException, proto: onnx.ModelProto) -> str:
    """The checker's words, with the name of the node concerned."""
    text, _, context = str(error).partition("==> Context:")
    reason = " ".join(text.split())
    named = _CHECKER_NODE.search(context)
    names = [named[1]] if named else _nodes_with(reason, proto)
    if names and not any(re.search(rf"\b{re.escape(name)}\b", reason) for name in names):
        reason += f" (node {', '.join(map(repr, names))})"
    return reason or type(error).__name__


def _nodes_with(reason: str, proto: onnx.ModelProto) -> list[str]:
    """The nodes that make a value the checker speaks of, or else those that read it."""
    words = {word.strip("'\"") for word in reason.split()}
    for field in ("output", "input"):
        found = [node.name for node in proto.graph.node if words & set(getattr(node, field))]
        if any(found):
            return [name for name in found if name][:3]
    return []


def refuse_inconsistent_nodes(model: ir.Model) -> None:
    """Check that every node's inputs fit it, as far as types and shapes are known.

    Where only what the file declares of a value contradicts what its node makes, which onnxruntime
    warns of, the declarations are dropped.

    Raises:
        ModelError: onnx's shape inference refuses a node, as onnxruntime would; it is named.
    """
    words = _inference_error(model)
    if any(phrase in words for phrase in _DECLARED_OTHERWISE):
        _drop_declarations(model)
        words = _inference_error(model)
    found = _INFERENCE_ERROR.search(words)
    if found is not None and not any(phrase in words for phrase in _DECLARED_OTHERWISE):
        op_type, name, reason = found.groups()
        raise ModelError(
            f"node {(name or op_type)!r} ({op_type}): {reason.rstrip('.')}; export the model again"
        )


def _inference_error(model: ir.Model) -> str:
    """What strict shape inference says of the first node that it refuses, or nothing."""
    try:
        onnx.shape_inference.infer_shapes(ir.to_proto(model), check_type=True, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        return str(error)
    except (EncodeError, ValueError, RuntimeError):
        pass  # above 2 GiB there is no message to infer from
    return ""


def _drop_declarations(model: ir.Model) -> None:
    for value in model.graph.initializers.values():
        if value.const_value is not None:
            value.type = ir.TensorType(value.const_value.dtype)
            value.shape = ir.Shape(value.const_value.numpy().shape)
    for node in model.graph:
        for output in node.outputs:
            output.shape = None
            if not output.is_graph_output():
                output.type = None


def refuse_non_finite_weights(model: ir.Model) -> None:
    """Check every floating-point constant, those of Constant nodes and of subgraphs included.

    Scales of Q/DQ nodes are left to the reader of quantized models, which names the node.

    Raises:
        NonFiniteRangeError: One holds NaN or infinity; it is named. A single infinite number is a
            bound or a mask value (Clip without an upper bound), and passes.
    """
    scales = {
        node.inputs[1].name
        for node in model.graph
        if node.op_type in _QDQ and len(node.inputs) > 1 and node.inputs[1] is not None
    }
    for name, tensor in _constants(model):
        if tensor.dtype not in _REAL_TYPES or name in scales:
            continue
        array = tensor.numpy().astype(np.float64, copy=False)
        has_nan = bool(np.isnan(array).any())
        if has_nan or (array.size > 1 and not np.isfinite(array).all()):
            raise NonFiniteRangeError(
                f"weight {name!r} of shape {array.shape} holds {'NaN' if has_nan else 'infinity'}; "
                "the float model itself is damaged: export it again"
            )


def first_line(error: BaseException) -> str:
    """The first line of an error's text that says something; of its first cause, if it has one."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__


def _constants(model: ir.Model) -> Iterator[tuple[str, ir.TensorProtocol]]:
    for graph in model.graphs():
        for name, value in graph.initializers.items():
            if value.const_value is not None:
                yield name, value.const_value
        for node in graph:
            attribute = node.attributes.get("value") if node.op_type == "Constant" else None
            if attribute is not None and attribute.type == ir.AttributeType.TENSOR:
                yield node.outputs[0].name or "", attribute.as_tensor()
