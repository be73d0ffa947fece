"""Files that hold one tensor: ONNX's ``TensorProto``, as in its test data."""

import math
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from quantkit.errors import CalibrationError
from quantkit.graph.model_checks import first_line
from quantkit.graph.program import Array

# Where values are that are not raw bytes (onnx.proto); of all other types in ``int32_data``.
_FIELDS = {
    ir.DataType.FLOAT: "float_data",
    ir.DataType.DOUBLE: "double_data",
    ir.DataType.INT64: "int64_data",
    ir.DataType.UINT32: "uint64_data",
    ir.DataType.UINT64: "uint64_data",
}
_NO_NUMBERS = (
    ir.DataType.UNDEFINED,
    ir.DataType.STRING,
    ir.DataType.COMPLEX64,
    ir.DataType.COMPLEX128,
)
_NUMBERS = frozenset(kind.value for kind in ir.DataType if kind not in _NO_NUMBERS)


@dataclass(frozen=True, slots=True, eq=False)
class NamedTensor:
    """A tensor's name ("" where it has none) and values."""

    name: str
    array: Array


def read_tensor(path: Path) -> NamedTensor:
    """Read a ``TensorProto``.

    Raises:
        CalibrationError: The file cannot be read, or holds no tensor of numbers: a sequence, a map,
            an optional value, strings, or values kept in another file.
    """
    tensor = onnx.TensorProto()
    try:
        tensor.ParseFromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise CalibrationError(
            f"{str(path)!r} cannot be read as an ONNX tensor: {first_line(error)}"
        ) from error
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise CalibrationError(
            f"{str(path)!r} keeps its values in another file; store them in the tensor itself"
        )
    if not _is_whole(tensor):
        raise CalibrationError(
            f"{str(path)!r} holds no whole tensor of numbers; quantkit feeds tensors, "
            "no sequences, maps, optional values or strings"
        )
    try:
        return NamedTensor(tensor.name, ir.serde.deserialize_tensor(tensor).numpy())
    except (ValueError, TypeError, ir.serde.SerdeError) as error:
        raise CalibrationError(
            f"{str(path)!r} cannot be read as an ONNX tensor: {first_line(error)}"
        ) from error


def _is_whole(tensor: onnx.TensorProto) -> bool:
    """Whether there are values for the shape.

    Other messages (a ``SequenceProto``) decode as a tensor with an odd shape and no values.
    """
    if tensor.HasField("segment") or min(tensor.dims, default=1) < 0:
        return False
    if tensor.data_type not in _NUMBERS:
        return False
    count, kind = math.prod(tensor.dims), ir.DataType(tensor.data_type)
    if tensor.HasField("raw_data"):
        return bool(len(tensor.raw_data) == math.ceil(count * kind.itemsize))
    return count == 0 or len(getattr(tensor, _FIELDS.get(kind, "int32_data"))) > 0
