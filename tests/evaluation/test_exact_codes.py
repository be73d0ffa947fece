"""Ties, against exact fractions."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import quantkit
from quantkit.evaluation.exact_codes import NEAR_HALF, ExactCodes, exact_codes
from quantkit.graph.program import Array
from quantkit.quantized_model.model import QuantizedModel
from quantkit.quantized_model.qdq_reader import read_qdq
from tests.evaluation.qdq_files import write_qdq, write_text

HALF = Fraction(1, 2)
SCALES = {
    "powers of two": (2.0**-5, 2.0**-7, 2.0**-4),
    "thirds": (0.75, 3.0 * 2.0**-9, 1.5),
    "the same at both ends": (0.0213, 3.0 * 2.0**-9, 0.0213),
    "any": (0.0213, 0.0071, 0.0517),
    "barely off a power of two": (2.0**-5 * (1 + 2.0**-23), 2.0**-7, 2.0**-4),
}

AVERAGE = """(float[N,2,3,6] x) => (float[N,2,1,1] y)
<float s={0.0213}, uint8 zx={120}, uint8 zy={131}> {
 q = QuantizeLinear(x, s, zx)
 d = DequantizeLinear(q, s, zx)
 a = GlobalAveragePool(d)
 r = QuantizeLinear(a, s, zy)
 y = DequantizeLinear(r, s, zy)
}"""


def fraction(number: Array) -> Fraction:
    return Fraction(float(number))


def check(found: ExactCodes, exact: list[Fraction], zero_point: int) -> int:
    """Compare with fractions; returns how many ties there are."""
    codes = [min(max(round(value - zero_point) + zero_point, 0), 255) for value in exact]
    np.testing.assert_array_equal(found.codes.ravel(), codes)
    ties = [value % 1 == HALF and 0 <= value - HALF < 255 for value in exact]
    near = [
        abs(value % 1 - HALF) <= Fraction(NEAR_HALF) and 0 <= value - value % 1 < 255
        for value in exact
    ]
    np.testing.assert_array_equal(found.is_tie.ravel(), ties)
    np.testing.assert_array_equal(found.is_near_tie.ravel(), near)
    return sum(ties)


def model_of(path: Path, a: float, w: float, y: float, *, product: bool) -> QuantizedModel:
    node = "r = Gemm<transB = 1>(a, w, b)" if product else "r = Add(a, c)"
    return read_qdq(write_qdq(path, node, a=a, w=w, y=y))


@pytest.mark.parametrize("kind", SCALES)
def test_products(tmp_path: Path, kind: str) -> None:
    model = model_of(tmp_path / "m.onnx", *SCALES[kind], product=True)
    (node,) = (node for node in model.prepared.program.nodes if node.op_type == "Gemm")
    rng = np.random.default_rng(0)
    codes: Mapping[str, Array] = {node.inputs[0]: rng.integers(0, 256, (1000, 8), dtype=np.uint8)}
    (found,) = exact_codes(node, model, codes).values()
    a, y = (model.plan.params[name] for name in (node.inputs[0], node.outputs[0]))
    weight, bias = model.constants[node.inputs[1]], model.constants[node.inputs[2]]
    sums = (codes[node.inputs[0]].astype(int) - int(a.zero_point)) @ weight.data.astype(int).T
    sums += bias.data
    multiplier = fraction(a.scale) * fraction(weight.params.scale) / fraction(y.scale)
    exact = [int(value) * multiplier + int(y.zero_point) for value in sums.ravel()]
    ties = check(found, exact, int(y.zero_point))
    assert (ties > 0) == (kind in ("powers of two", "thirds", "the same at both ends"))


@pytest.mark.parametrize("kind", SCALES)
def test_sums(tmp_path: Path, kind: str) -> None:
    model = model_of(tmp_path / "m.onnx", *SCALES[kind], product=False)
    (node,) = (node for node in model.prepared.program.nodes if node.op_type == "Add")
    rng = np.random.default_rng(0)
    pairs = [rng.integers(0, 256, (512, 8), dtype=np.uint8) for _ in range(2)]
    (found,) = exact_codes(node, model, dict(zip(node.inputs, pairs, strict=True))).values()
    a, c = (model.plan.params[name] for name in node.inputs)
    y = model.plan.params[node.outputs[0]]
    exact = [
        (
            fraction(a.scale) * (int(p) - int(a.zero_point))
            + fraction(c.scale) * (int(q) - int(c.zero_point))
        )
        / fraction(y.scale)
        + int(y.zero_point)
        for p, q in zip(pairs[0].ravel(), pairs[1].ravel(), strict=True)
    ]
    assert (check(found, exact, int(y.zero_point)) > 0) == (
        kind not in ("any", "the same at both ends")
    )


def test_averages(tmp_path: Path) -> None:
    """18 taps: no average is a sum of powers of two."""
    path = write_text(tmp_path / "m.onnx", AVERAGE)
    model = read_qdq(path)
    (node,) = (node for node in model.prepared.program.nodes if node.op_type == "GlobalAveragePool")
    codes = np.random.default_rng(0).integers(0, 256, (500, 2, 3, 6), dtype=np.uint8)
    (found,) = exact_codes(node, model, {node.inputs[0]: codes}).values()
    sums = codes.astype(int).sum(axis=(2, 3)) - 18 * 120
    exact = [Fraction(int(value), 18) + 131 for value in sums.ravel()]
    assert check(found, exact, 131) > 0


def test_onnxruntime_and_fixed_point_differ_on_ties_only(tmp_path: Path) -> None:
    """Where every scale is a power of two, nothing is rounded but the tie itself."""
    path = write_qdq(
        tmp_path / "m.onnx", "r = Gemm<transB = 1>(a, w, b)", a=2.0**-5, w=2.0**-7, y=2.0**-4
    )
    data = np.random.default_rng(1).normal(0.0, 2.0, (64, 8)).astype(np.float32)
    found = quantkit.verify(path, data, num_samples=64, arithmetic="fixed_point")
    (layer,) = (layer for layer in found.layers if layer.op_type == "Gemm")
    assert layer.isolated.ties > 0
    assert layer.isolated.mismatches == layer.isolated.tie_mismatches > 0
    exact = quantkit.verify(path, data, num_samples=64)
    assert exact.layers[0].isolated.ties == layer.isolated.ties
    assert exact.layers[0].isolated.mismatches == 0
