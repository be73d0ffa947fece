"""What makes a file no usable ONNX model, each told apart with one line."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from quantkit.errors import ModelError, NonFiniteRangeError

_REAL_TYPES = frozenset(
    {
        ir.DataType.FLOAT,
        ir.DataType.FLOAT16,
        ir.DataType.BFLOAT16,
        ir.DataType.DOUBLE,
    }
)


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
        raise ModelError(f"{str(path)!r} is not a valid ONNX model: {first_line(error)}") from error


def refuse_non_finite_weights(model: ir.Model) -> None:
    """Check every floating-point constant, those of Constant nodes and of subgraphs included.

    Raises:
        NonFiniteRangeError: One holds NaN or infinity; it is named. A single infinite number is a
            bound or a mask value (Clip without an upper bound), and passes.
    """
    for name, tensor in _constants(model):
        if tensor.dtype not in _REAL_TYPES:
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
