"""Quantized files of other tools, good and damaged, through the commands that read them."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnxruntime.quantization import QuantFormat, QuantType

from tests.cli.runner import run, run_json
from tests.quantized_model.qdq_texts import SHAPE, write
from tests.quantized_model.test_folded_batch_norm import BATCH_NORM
from tests.quantized_model.test_malformed_files import DAMAGED
from tests.quantized_model.test_other_tools import quantized_by_onnxruntime
from tests.small_networks import NETWORKS, onnxruntime_outputs

FLOAT = """<ir_version: 8, opset_import: ["": 17]>
network (float[N,3,6,6] xq) => (float[N,2,6,6] yq)
<float[2,3,1,1] w = {0.2, -0.4, 2.5, -1.27, 0.64, 0.03}, float[2] b = {0.06, -0.12}> {
  [conv] yq = Conv(xq, w, b)
}"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    real = np.random.default_rng(0).normal(size=(4, *SHAPE)).astype(np.float32)
    np.save(tmp_path / "x.npy", real)
    return tmp_path / "x.npy"


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_one_error_line(
    name: str, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, _ = DAMAGED[name]
    path = write(tmp_path, {})
    proto = onnx.load(path)
    damage(proto.graph)
    onnx.save(proto, path)
    before = sorted(tmp_path.iterdir())
    exports = (
        f"export {path} --format {format} -o {tmp_path}/o"
        for format in ("qdq", "qoperator", "vectors")
    )
    for command in (f"verify {path} --data {data}", *exports):
        out, err = run(command, capsys, code=2)
        (line,) = err.splitlines()
        assert line.startswith("error: ")
        assert str(path) in line
        assert any(node in line for node in ("x_q", "x_dq", "w_dq", "b_dq", "conv", "y_q"))
        assert "bug in quantkit" not in line
        assert out == ""
    assert sorted(tmp_path.iterdir()) == before


def codes_file(folder: Path) -> Path:
    path = write(folder, {"xq": "", "yd": ""}, outputs="uint8[N,2,6,6] yq")
    model = ir.load(path)
    value = model.graph.inputs[0]
    value.name, value.type = "xq", ir.TensorType(ir.DataType.UINT8)
    ir.save(model, path)
    return path


def test_a_file_that_wants_codes_takes_them_as_samples(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = codes_file(tmp_path)
    ir.save(ir.from_onnx_text(FLOAT), tmp_path / "float.onnx")
    codes = np.random.default_rng(0).integers(0, 256, (4, *SHAPE)).astype(np.uint8)
    np.save(tmp_path / "codes.npy", codes)
    real = (codes.astype(np.int64) - 120).astype(np.float32) * np.float32(0.03)
    np.save(tmp_path / "real.npy", real)
    found = [
        run_json(f"verify {path} --data {tmp_path}/{name}.npy -q", capsys)
        for name in ("codes", "real")
    ]
    assert found[0] == found[1]
    assert found[0]["end_to_end"]["identical"]
    # Codes taken for real values would nearly all saturate.
    (layer,) = found[0]["layers"]
    assert layer["isolated"]["unsaturated"] > 0.2 * layer["isolated"]["codes"]
    for name in ("codes", "real"):
        command = f"report {tmp_path}/float.onnx {path} --data {tmp_path}/{name}.npy -q"
        engines = run_json(command, capsys)["engines"]
        assert [engine["sqnr_db"].get("yq", 99.0) > 10.0 for engine in engines] == [True] * 3
        run(
            f"export {path} --format vectors -o {tmp_path}/{name} --data {tmp_path}/{name}.npy -q",
            capsys,
        )
    arrays = [np.load(next((tmp_path / name).glob("*conv.npz"))) for name in ("codes", "real")]
    for key in arrays[0].files:
        np.testing.assert_array_equal(arrays[0][key], arrays[1][key])


def test_samples_that_are_no_codes_of_the_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = codes_file(tmp_path)
    np.save(tmp_path / "wide.npy", np.full((1, *SHAPE), 300, np.int64))
    _, err = run(f"verify {path} --data {tmp_path}/wide.npy --strict -q", capsys, code=2)
    assert "holds 300 to 300 for input 'xq', whose codes are uint8" in err


def test_batch_norm_is_folded_on_request(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, BATCH_NORM)
    fold = "--fold-batch-norm -q"
    _, err = run(f"export {path} -o {tmp_path}/plain.onnx", capsys)
    assert "has no integer node; the first, 'conv', stays float" in err
    assert "--fold-batch-norm" in err
    _, err = run(f"verify {path} --data {data} -q", capsys, code=2)
    assert "--fold-batch-norm" in err
    (layer,) = run_json(f"verify {path} --data {data} {fold}", capsys)["layers"]
    assert (layer["node"], layer["passed"], layer["tolerance"]) == ("conv", True, None)
    run(f"export {path} -o {tmp_path}/folded.onnx {fold}", capsys)
    found = run_json(f"verify {tmp_path}/folded.onnx --data {data} -q", capsys)
    assert found["end_to_end"]["identical"]
    assert not found["float_islands"]
    ir.save(ir.from_onnx_text(FLOAT.replace("xq", "x").replace("yq", "y")), tmp_path / "f.onnx")
    facts = run_json(f"report {tmp_path}/f.onnx {path} --data {data} {fold}", capsys)
    assert facts["kept_float"] == {}


def test_report_where_a_clamp_is_float_behind_an_integer_node(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bounds = "low = Constant<value = float {-0.5}>() high = Constant<value = float {0.5}>()"
    clip = f"{bounds} [clip] y = Clip(yd, low, high)"
    path = write(tmp_path, {"yd": f"yd = DequantizeLinear(yq, ys, yz) {clip}"})
    clip = clip.replace("yd,", "c,")
    text = FLOAT.replace("xq", "x").replace(" yq)", " y)")
    text = text.replace("yq = Conv(x, w, b)", f"c = Conv(x, w, b) {clip}")
    ir.save(ir.from_onnx_text(text), tmp_path / "float.onnx")
    facts = run_json(f"report {tmp_path}/float.onnx {path} --data {data} -q", capsys)
    assert list(facts["kept_float"]) == ["clip"]
    assert [layer["node"] for layer in facts["layers"]] == ["input x", "conv", "clip"]


@pytest.mark.parametrize(
    ("format", "activation"),
    [
        (QuantFormat.QDQ, QuantType.QUInt8),
        (QuantFormat.QDQ, QuantType.QInt8),
        (QuantFormat.QDQ, QuantType.QUInt16),  # of which there is no QOperator form
        (QuantFormat.QOperator, QuantType.QUInt8),
        (QuantFormat.QOperator, QuantType.QInt8),
    ],
)
def test_every_command_reads_onnxruntimes_files(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    format: QuantFormat,
    activation: QuantType,
) -> None:
    network = NETWORKS["mobile"]
    path = quantized_by_onnxruntime(
        network, tmp_path, activation_type=activation, quant_format=format
    )
    ir.save(network.model(), tmp_path / "float.onnx")
    feeds = network.feeds(3)
    np.save(tmp_path / "x.npy", feeds["x"])
    data = f"--data {tmp_path}/x.npy -q"
    layers = run_json(f"verify {path} {data}", capsys)["layers"]
    report = run_json(f"report {tmp_path}/float.onnx {path} {data}", capsys)
    assert all(engine["sqnr_db"].get("y", 99.0) > 15.0 for engine in report["engines"])
    expected = onnxruntime_outputs(path, feeds)["y"]
    for target in ("qdq", "qoperator"):
        exported = tmp_path / f"{target}.onnx"
        run(f"export {path} -o {exported} --format {target} -q", capsys)
        np.testing.assert_array_equal(onnxruntime_outputs(exported, feeds)["y"], expected)
        again = run_json(f"verify {exported} {data}", capsys)["layers"]
        assert len(again) == len(layers)
    run(f"export {path} -o {tmp_path}/vectors --format vectors -q", capsys)


def test_a_float_model_has_no_scales_to_fold_into(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = f"export m.onnx -c m.calib.npz -o {tmp_path}/o.onnx --fold-batch-norm"
    _, err = run(command, capsys, code=2)
    assert "--fold-batch-norm is for a MODEL that is quantized already" in err
