from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from quantkit.exporters.qdq import qdq_graph
from quantkit.graph.ort_session import open_session, with_outputs
from quantkit.integer_session import open_integer_session
from quantkit.quantized_model.model import QuantizedModel
from tests.quantized_model.checks import check_equals_onnxruntime
from tests.small_networks import random_feeds

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
network (float[N,3,6,6] x) => (float[N,2,6,6] y)
<float xs = {0.03}, uint8 xz = {120}, int8[2,3,1,1] w_q = {10, -20, 127, -127, 64, 3},
 float[2] ws = {0.02, 0.01}, int8[2] wz = {0, 0}, float[2] b = {0.06, -0.12},
 float[2] gamma = {1.5, -0.7}, float[2] beta = {0.1, 0.2}, float[2] mean = {0.3, -0.1},
 float[2] var = {1.0, 2.0}, float low = {0.0}, float high = {6.0},
 float[2] ms = {0.0235, 0.009}, uint8[2] mz = {0, 0},
 int8[2,1,3,3] d_q = {1, 20, -30, 44, 5, 66, -7, 8, 99, -10, 11, 12, 13, 14, 115, 16, 17, -98},
 float[2] ds = {0.011, 0.013}, float[2] db = {0.1, -0.2}, float ys = {0.04}, uint8 yz = {100}> {
  xq = QuantizeLinear(x, xs, xz)
  xd = DequantizeLinear(xq, xs, xz)
  w = DequantizeLinear<axis = 0>(w_q, ws, wz)
  [first] c = Conv(xd, w, b)
  [bn] n = BatchNormalization(c, gamma, beta, mean, var)
  [clamp] m = Clip(n, low, high)
  mq = QuantizeLinear<axis = 1>(m, ms, mz)
  md = DequantizeLinear<axis = 1>(mq, ms, mz)
  d = DequantizeLinear<axis = 0>(d_q, ds, wz)
  [depthwise] e = Conv<group = 2, pads = [1,1,1,1]>(md, d, db)
  yq = QuantizeLinear(e, ys, yz)
  y = DequantizeLinear(yq, ys, yz)
}"""
WITHOUT_BATCH_NORM = TEXT.replace(
    "[bn] n = BatchNormalization(c, gamma, beta, mean, var)", ""
).replace("[first] c =", "[first] n =")


def saved(text: str, folder: Path) -> Path:
    ir.save(ir.from_onnx_text(text), folder / "q.onnx")
    return folder / "q.onnx"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(TEXT, id="clip"),
        pytest.param(TEXT.replace("Clip(n, low, high)", "Relu(n)"), id="relu"),
        pytest.param(WITHOUT_BATCH_NORM, id="no-batch-norm"),
        pytest.param(TEXT.replace("Conv(xd, w, b)", "Conv(xd, w)"), id="no-bias"),
    ],
)
def test_the_codes_between_stay(text: str, tmp_path: Path) -> None:
    path = saved(text, tmp_path)
    model = QuantizedModel.from_qdq(path, fold_batch_norm=True)
    assert not model.plan.kept_float
    feeds = random_feeds(model.prepared.model, (3, 6, 6), 3, seed=0)
    shown = open_session(with_outputs(ir.load(path), ["mq", "yq"])).run(feeds)
    found = open_integer_session(model).run_codes(feeds, list(model.code_tensors))
    codes = {name: found[value] for value, name in model.code_tensors.items()}
    assert len(np.unique(codes["mq"])) > 20
    for name in ("mq", "yq"):
        # Sums in floats against integers: a tie may round to the other side.
        assert np.abs(codes[name].astype(int) - shown[name].astype(int)).max() <= 1
        assert (codes[name] != shown[name]).mean() < 0.05
    check_equals_onnxruntime(model, qdq_graph(model), feeds)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(TEXT.replace("{0.0235, 0.009}", "{0.03, 0.009}"), id="clip-cuts-codes"),
        pytest.param(TEXT.replace("mz = {0, 0}", "mz = {0, 1}"), id="zero-points-differ"),
        pytest.param(TEXT.replace("float low = {0.0}", "float low = {-1.0}"), id="clip-from-below"),
    ],
)
def test_other_activations_per_channel_stay_float(text: str, tmp_path: Path) -> None:
    path = saved(text, tmp_path)
    model = QuantizedModel.from_qdq(path, fold_batch_norm=True)
    assert "quantized per channel" in model.plan.kept_float["depthwise"]
    feeds = random_feeds(model.prepared.model, (3, 6, 6), 3, seed=0)
    expected = open_session(path).run(feeds)["y"]
    gap = np.abs(open_integer_session(model).run(feeds)["y"] - expected)
    assert gap.max() <= 0.0401
