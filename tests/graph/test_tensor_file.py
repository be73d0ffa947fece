from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest
from google.protobuf.message import Message

from quantkit.errors import CalibrationError
from quantkit.graph.tensor_file import read_tensor


def tensor(array: npt.NDArray[np.generic], name: str = "x") -> onnx.TensorProto:
    proto = ir.serde.serialize_tensor(ir.tensor(array, name=name))
    assert isinstance(proto, onnx.TensorProto)
    return proto


def written(path: Path, message: Message) -> Path:
    path.write_bytes(message.SerializeToString())
    return path


def others() -> dict[str, Message]:
    sequence = onnx.SequenceProto(name="seq", elem_type=onnx.SequenceProto.TENSOR)
    sequence.tensor_values.append(tensor(np.ones((2, 3), np.float32)))
    mapping = onnx.MapProto(name="map", key_type=onnx.TensorProto.INT64, keys=[1, 2])
    mapping.values.CopyFrom(sequence)
    optional = onnx.OptionalProto(name="opt", elem_type=onnx.OptionalProto.TENSOR)
    optional.tensor_value.CopyFrom(tensor(np.ones(3, np.float32)))
    strings = onnx.TensorProto(data_type=onnx.TensorProto.STRING, dims=[1], string_data=[b"a"])
    return {
        "sequence": sequence,
        "unnamed sequence": onnx.SequenceProto(
            elem_type=1, tensor_values=[tensor(np.ones(1, np.float32))]
        ),
        "sequence whose name reads as a dimension of 0": onnx.SequenceProto(
            name="\0", elem_type=1, tensor_values=[tensor(np.ones(1, np.float32))]
        ),
        "empty sequence": onnx.SequenceProto(elem_type=onnx.SequenceProto.TENSOR),
        "map": mapping,
        "optional": optional,
        "strings": strings,
        "nothing": onnx.TensorProto(),
        "unknown type": onnx.TensorProto(data_type=999, dims=[1], raw_data=b"1"),
        "no values": onnx.TensorProto(data_type=1, dims=[2**40]),
        "negative": onnx.TensorProto(data_type=1, dims=[-1], raw_data=b""),
    }


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(2, 3), (), (0, 3)])
def test_round_trip(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    array = (np.random.default_rng(0).standard_normal(shape) * 3).astype(dtype)
    got = read_tensor(written(tmp_path / "input_0.pb", tensor(array, "name")))
    assert (got.name, got.array.dtype) == ("name", array.dtype)
    np.testing.assert_array_equal(got.array, array)


def test_typed_fields(tmp_path: Path) -> None:
    proto = onnx.TensorProto(data_type=onnx.TensorProto.FLOAT, dims=[2, 2], float_data=[1, 2, 3, 4])
    got = read_tensor(written(tmp_path / "a.pb", proto))
    assert got.name == ""
    np.testing.assert_array_equal(got.array, [[1, 2], [3, 4]])
    proto.dims[0] = 3
    with pytest.raises(CalibrationError, match=r"a\.pb' cannot be read as an ONNX tensor: [^\n]+$"):
        read_tensor(written(tmp_path / "a.pb", proto))


@pytest.mark.parametrize("what", others())
def test_what_is_no_tensor_of_numbers(tmp_path: Path, what: str) -> None:
    path = written(tmp_path / "input_0.pb", others()[what])
    with pytest.raises(CalibrationError, match=r"input_0\.pb' holds no whole tensor of numbers; "):
        read_tensor(path)


def test_values_elsewhere_are_not_followed(tmp_path: Path) -> None:
    proto = tensor(np.ones(3, np.float32))
    proto.ClearField("raw_data")
    proto.data_location = onnx.TensorProto.EXTERNAL
    proto.external_data.add(key="location", value="../secret")
    with pytest.raises(CalibrationError, match="keeps its values in another file"):
        read_tensor(written(tmp_path / "a.pb", proto))


def test_damaged_files(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pb", tensor(np.ones(3, np.float32)))
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with pytest.raises(CalibrationError, match=r"a\.pb' [^\n]+$"):
            read_tensor(path)
    path.write_text("garbage text")
    with pytest.raises(CalibrationError, match="cannot be read as an ONNX tensor"):
        read_tensor(path)
    with pytest.raises(CalibrationError, match="cannot be read as an ONNX tensor"):
        read_tensor(tmp_path / "absent.pb")
