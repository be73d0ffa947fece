"""onnxruntime's codes where showing them changes what it computes, and files that hold codes."""

from pathlib import Path

import numpy as np
import pytest

import quantkit
from quantkit.evaluation.integer_layers import integer_layers
from quantkit.evaluation.oracle import open_oracle
from quantkit.graph.ort_session import optimized_program
from quantkit.integer_session import open_integer_session
from quantkit.quantized_model.qdq_reader import read_qdq
from tests.evaluation.qdq_files import CHAIN, write_text

ARG_MAX = """q = QuantizeLinear(g, sy, zy)
 e = DequantizeLinear(q, sy, zy)
 [argmax] y = ArgMax<axis = 1>(e)"""
CODES = """(uint8[N,8] x, int8[5,8] wq, int32[5] bq) => (uint8[N,5] y)
<float sx={0.02}, uint8 zx={120}, float sw={0.01}, int8 zw={0}, float sb={0.0002}, int32 zb={0},
 float sy={0.03}, uint8 zy={111}> {
 d = DequantizeLinear(x, sx, zx)
 w = DequantizeLinear(wq, sw, zw)
 b = DequantizeLinear(bq, sb, zb)
 [gemm] g = Gemm<transB = 1>(d, w, b)
 y = QuantizeLinear(g, sy, zy)
}"""
QOPERATOR = """(uint8[N,8] x, int8[8,5] wq) => (uint8[N,5] y)
<float sx={0.02}, uint8 zx={120}, float sw={0.01}, int8 zw={0}, float sy={0.03}, uint8 zy={111}> {
 [matmul] y = QLinearMatMul(x, sx, zx, wq, sw, zw, sy, zy)
}"""


def test_what_cannot_be_shown_is_run_by_itself(tmp_path: Path) -> None:
    """Q-DQ-Q-DQ: onnxruntime merges the pairs, and does not where their codes are outputs."""
    path = write_text(tmp_path / "chain.onnx", CHAIN)
    types = [node.op_type for node in optimized_program(path).nodes]
    assert types.count("QLinearConv") == 2
    assert types.count("QuantizeLinear") == types.count("DequantizeLinear") == 1
    model = read_qdq(path)
    layers = integer_layers(open_integer_session(model), model)
    feeds = {"x": np.random.default_rng(1).normal(size=(1, 3, 6, 6)).astype(np.float32)}
    oracle = open_oracle(path, model, layers, feeds)
    assert {"first", "second"} <= set(oracle.alone)
    assert oracle.not_compared == {}
    codes, expected, moved = oracle.codes(feeds)
    assert moved == 0.0
    assert 0 < len(codes) < len(model.code_tensors)
    assert set(expected) == {"y"}

    data = np.concatenate([feeds["x"] * factor for factor in (1, 2, 3, -1)])
    found = quantkit.verify(path, data)
    assert found.passed
    rows = {layer.node: layer for layer in found.layers}
    assert rows["first"].isolated.total == 4 * 4 * 16
    assert rows["first"].isolated.mismatches == rows["second"].isolated.mismatches == 0
    assert rows["first"].remark == "compared by itself, cut out of the file"
    assert found.first_divergence is not None
    assert found.first_divergence.node == "second"
    assert "onnxruntime merges with its neighbours" in found.first_divergence.reason


@pytest.mark.parametrize("text", [CODES, QOPERATOR], ids=["QDQ", "QOperator"])
def test_inputs_and_outputs_that_are_codes(tmp_path: Path, text: str) -> None:
    path = write_text(tmp_path / "codes.onnx", text)
    real = np.random.default_rng(1).normal(size=(16, 8)).astype(np.float32)
    found = quantkit.verify(path, real)
    assert found.passed
    (layer,) = found.layers
    assert layer.isolated.total == layer.accumulated.total == 16 * 5
    assert (layer.isolated.mismatches, found.differing_outputs) == (0, 0)
    assert (layer.tolerance, layer.remark) == (0, "")


def test_indices_are_compared_too(tmp_path: Path) -> None:
    """ArgMax writes no codes; its integers are compared as they are."""
    text = CODES.replace("y = QuantizeLinear(g, sy, zy)", ARG_MAX).replace(
        "uint8[N,5] y", "int64[N,1] y"
    )
    found = quantkit.verify(
        write_text(tmp_path / "indices.onnx", text),
        np.random.default_rng(1).normal(size=(16, 8)).astype(np.float32),
    )
    assert found.passed
    (_, layer) = found.layers
    assert (layer.op_type, layer.isolated.total, layer.isolated.mismatches) == ("ArgMax", 16, 0)


EQUAL_PAIRS = """(float[N,8] x, int8[5,8] wq, int32[5] bq) => (float[N,5] y)
<float sx={0.02}, uint8 zx={120}, float sw={0.01}, int8 zw={0}, float sb={0.0002}, int32 zb={0},
 float sy={0.03}, uint8 zy={111}, float st={0.06}> {
 q = QuantizeLinear(x, sx, zx)
 d = DequantizeLinear(q, sx, zx)
 w = DequantizeLinear(wq, sw, zw)
 b = DequantizeLinear(bq, sb, zb)
 [gemm] g = Gemm<transB = 1>(d, w, b)
 q1 = QuantizeLinear(g, sy, zy)
 d1 = DequantizeLinear(q1, sy, zy)
 q2 = QuantizeLinear(g, sy, zy)
 d2 = DequantizeLinear(q2, sy, zy)
 q3 = QuantizeLinear(g, sy, zy)
 d3 = DequantizeLinear(q3, sy, zy)
 [sum] s = Add(d1, d2)
 qs = QuantizeLinear(s, st, zy)
 ds = DequantizeLinear(qs, st, zy)
 [last] t = Add(ds, d3)
 qt = QuantizeLinear(t, st, zy)
 y = DequantizeLinear(qt, st, zy)
}"""


def test_equal_pairs_of_one_value_are_one(tmp_path: Path) -> None:
    """onnxruntime merges them and fuses the Gemm; not where the codes of one are an output."""
    path = write_text(tmp_path / "pairs.onnx", EQUAL_PAIRS)
    assert "QGemm" in [node.op_type for node in optimized_program(path).nodes]
    data = np.random.default_rng(1).normal(size=(64, 8)).astype(np.float32)
    found = quantkit.verify(path, data)
    assert found.passed
    names = ["gemm", "sum", "last"]
    assert [(layer.node, layer.remark) for layer in found.layers] == [(name, "") for name in names]
    assert sum(layer.isolated.mismatches for layer in found.layers) == found.differing_outputs == 0
