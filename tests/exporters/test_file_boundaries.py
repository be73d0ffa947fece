"""Inputs and outputs that are codes in a file stay codes in every export of it."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from quantkit.exporters.contract import EXPORTERS
from quantkit.graph.ort_session import open_session
from quantkit.quantized_model.qdq_reader import read_qdq
from tests.quantized_model.qdq_texts import SHAPE, write

CODES = {"xq": "", "yd": ""}
FORMATS = ("qdq", "qoperator")


def write_codes(folder: Path, outputs: str = "uint8[N,2,6,6] yq") -> Path:
    """The Conv with codes as input ``xq`` and as output ``yq``."""
    path = write(folder, CODES if "float" not in outputs else {"xq": ""}, outputs=outputs)
    model = ir.load(path)
    value = model.graph.inputs[0]
    value.name, value.type = "xq", ir.TensorType(ir.DataType.UINT8)
    ir.save(model, path)
    return path


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("outputs", ["uint8[N,2,6,6] yq", "float[N,2,6,6] y, uint8[N,2,6,6] yq"])
def test_codes_in_and_codes_out(tmp_path: Path, format: str, outputs: str) -> None:
    path, exported = write_codes(tmp_path, outputs), tmp_path / "exported.onnx"
    EXPORTERS[format](read_qdq(path), exported)
    codes = np.random.default_rng(0).integers(0, 256, (3, *SHAPE)).astype(np.uint8)
    theirs, ours = open_session(path), open_session(exported)
    for before, after in zip(
        (*theirs.inputs, *theirs.outputs), (*ours.inputs, *ours.outputs), strict=True
    ):
        assert (after.name, after.dtype, after.shape) == (before.name, before.dtype, before.shape)
    expected, actual = theirs.run({"xq": codes}), ours.run({"xq": codes})
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array)
    assert read_qdq(exported).code_boundaries == read_qdq(path).code_boundaries


@pytest.mark.parametrize("format", FORMATS)
def test_nodes_at_the_ends_compute_on_codes(tmp_path: Path, format: str) -> None:
    exported = tmp_path / "exported.onnx"
    EXPORTERS[format](read_qdq(write_codes(tmp_path)), exported)
    types = [node.op_type for node in ir.load(exported).graph]
    if format == "qoperator":
        assert types == ["QLinearConv"]
    else:
        assert types.count("QuantizeLinear") == 1


@pytest.mark.parametrize("format", FORMATS)
def test_before_opset_21_codes_of_16_bits_need_onnxruntimes_own_ops(
    tmp_path: Path, format: str
) -> None:
    contrib = {
        "xq": "[x_q] xq = com.microsoft.QuantizeLinear(x, xs, xz)",
        "xd": "[x_dq] xd = com.microsoft.DequantizeLinear(xq, xs, xz)",
        "yq": "[y_q] yq = com.microsoft.QuantizeLinear(c, ys, yz)",
        "yd": "[y_dq] y = com.microsoft.DequantizeLinear(yq, ys, yz)",
    }
    wide = {"xs": "float xs = {0.0001}", "xz": "uint16 xz = {30000}"}
    wide |= {"ys": "float ys = {0.0001}", "yz": "uint16 yz = {30000}"}
    wide |= {"bs": "float[2] bs = {0.000002, 0.000001}"}
    path, exported = write(tmp_path, {**contrib, **wide}), tmp_path / "exported.onnx"
    model = read_qdq(path)
    assert not model.plan.kept_float
    EXPORTERS[format](model, exported)
    feeds = {"x": np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32)}
    expected = open_session(path).run(feeds)["y"]
    np.testing.assert_array_equal(open_session(exported).run(feeds)["y"], expected)
    assert not read_qdq(exported).plan.kept_float


@pytest.mark.parametrize(("bias", "is_stored"), [("0.3, -0.1", True), ("30000.0, -0.1", False)])
def test_int64_biases_are_int32_or_float(tmp_path: Path, bias: str, is_stored: bool) -> None:
    """DequantizeLinear takes no int64: what int32 does not hold is quantized when it is read."""
    changes = {
        "xs": "float xs = {0.0001}",
        "xz": "int16 xz = {10}",
        "ys": "float ys = {0.0001}",
        "yz": "int16 yz = {-7}",
        "b": f"float[2] b = {{{bias}}}",
        "bs": "",
        "bz": "",
        "bd": "",
        "c": "[conv] c = Conv(xd, wd, b)",
    }
    model = read_qdq(write(tmp_path, changes, opset=21))
    assert model.constants["b"].data.dtype == np.int64
    EXPORTERS["qdq"](model, tmp_path / "exported.onnx")
    back = read_qdq(tmp_path / "exported.onnx")
    assert not back.plan.kept_float
    (name,) = (name for name in back.constants if name.startswith("b"))
    np.testing.assert_array_equal(back.constants[name].data, model.constants["b"].data)
    assert back.constants[name].data.dtype == (np.int32 if is_stored else np.int64)
