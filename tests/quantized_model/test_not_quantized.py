"""Files without Q/DQ pairs in their main graph: refused, with what they are."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from quantkit.errors import UnsupportedModelError
from quantkit.exporters.qdq import write_qdq
from quantkit.graph.ort_session import open_session
from quantkit.quantized_model.qdq_reader import read_qdq

HEADER = '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>\nnetwork '
DYNAMIC = """(float[N,3] x) => (float[N,2] y) <int8[3,2] w = {1, 2, 3, 4, 5, 6}> {
  [quantize] q, s, z = DynamicQuantizeLinear(x)
  i = MatMulInteger(q, w, z)
  f = Cast<to = 1>(i)
  y = Mul(f, s)
}"""
WEIGHTS_ONLY = """(float[N,16] x) => (float[N,1] y)
<uint8[1,1,8] w = {1, 2, 3, 4, 5, 6, 7, 8}, float[1] s = {0.5}> {
  [product] y = com.microsoft.MatMulNBits<K = 16, N = 1, bits = 4, block_size = 16>(x, w, s)
}"""
BRANCHES = """<then_branch = a () => (float[N,3] p) {{
    {then} = QuantizeLinear(v, s, z)
    p = DequantizeLinear({then}, s, z)
  }}, else_branch = b () => (float[N,3] n) {{ n = Neg(v) }}>"""
IN_BRANCHES = (
    "(float[N,3] x, bool c) => (float[N,3] y) <float s = {0.5}, uint8 z = {3}> {\n"
    "  v = Abs(x)\n  [choice] y = If (c) " + BRANCHES.format(then="q") + "\n}"
)
BEFORE_BRANCHES = (
    "(float[N,3] x, bool c) => (float[N,3] y)\n"
    "<float s = {0.5}, uint8 z = {3}, float t = {0.3}, uint8 u = {100}> {\n"
    "  xq = QuantizeLinear(x, t, u)\n  v = DequantizeLinear(xq, t, u)\n"
    "  [choice] y = If (c) " + BRANCHES.format(then="q") + "\n}"
)


def write(folder: Path, text: str) -> Path:
    ir.save(ir.from_onnx_text(HEADER + text), folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DYNAMIC, r"is dynamically quantized: node 'quantize' \(DynamicQuantizeLinear\)"),
        (WEIGHTS_ONLY, r"quantizes weights only: node 'product' \(MatMulNBits\)"),
        (IN_BRANCHES, r"only in graphs that other nodes hold \(node 'choice' \(If\)\)"),
        ("(float[N] x) => (float[N] y) { y = Abs(x) }", "is not quantized: it has no Quantize"),
    ],
)
def test_what_the_file_is(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        read_qdq(write(tmp_path, text))


@pytest.mark.parametrize("condition", [True, False])
def test_a_pair_whose_values_branches_read_is_exported(tmp_path: Path, condition: bool) -> None:
    """No node of the main graph names the value."""
    path = write(tmp_path, BEFORE_BRANCHES)
    model = read_qdq(path)
    assert set(model.plan.kept_float) == {"choice"}
    write_qdq(model, tmp_path / "exported.onnx")
    feeds = {"x": np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)}
    feeds["c"] = np.asarray(condition)
    expected = open_session(path).run(feeds)["y"]
    np.testing.assert_array_equal(
        open_session(tmp_path / "exported.onnx").run(feeds)["y"], expected
    )
