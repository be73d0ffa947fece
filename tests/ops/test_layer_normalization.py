"""LayerNormalization against the same formula in Python integers, and the integer square root."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkit.errors import UnsupportedOpError
from quantkit.graph.program import Array
from quantkit.numerics.affine import IntegerArray, QuantParams, per_tensor
from quantkit.numerics.arithmetic import ARITHMETICS
from quantkit.ops.contract import OPS, Lowering
from quantkit.ops.layer_normalization import integer_square_root
from tests.ops.case import make_node, random_codes
from tests.ops.checks import lower

EPSILON = 1e-5


def codes_of(
    q: IntegerArray, x: QuantParams, y: QuantParams, gamma: Array, beta: Array
) -> IntegerArray:
    node = make_node("LayerNormalization", 3, {"epsilon": EPSILON})
    arithmetic = ARITHMETICS["onnxruntime"]
    return lower(Lowering(node, (x, gamma, beta), (y,), arithmetic, strict_integer=True))([q])[0]


def in_python_integers(
    row: list[int], x: QuantParams, y: QuantParams, gamma: Array, beta: Array
) -> list[int]:
    """One row, as the module's docstring says it; Python integers have no width."""
    count, zero_point = len(row), int(x.zero_point)
    centered = [q - zero_point for q in row]
    total = sum(centered)
    variance = count * sum(c * c for c in centered) - total**2
    radicand = variance + max(1, min(round(EPSILON / float(x.scale) ** 2 * count**2), 2**61))
    k = 0
    while radicand << (2 * k + 2) < 2**62:
        k += 1
    root = math.isqrt(radicand << (2 * k))
    largest = max(abs(float(g)) / float(y.scale) for g in gamma)
    up = max(min(23, 30 - max(math.frexp(largest)[1], 0)), -18)
    codes = []
    for c, g, b in zip(centered, gamma, beta, strict=True):
        normalized = (((count * c - total) << (k + 19)) + root // 2) // root
        factor = round(math.ldexp(float(g) / float(y.scale), up))
        offset = round(math.ldexp(float(b) / float(y.scale), up + 19))
        code = (normalized * factor + offset + (1 << (up + 18))) >> (up + 19)
        codes.append(min(max(code + int(y.zero_point), y.qmin), y.qmax))
    return codes


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16])
@pytest.mark.parametrize("count", [1, 2, 7, 64, 3000])
def test_it_equals_python_integers(dtype: type[np.integer], count: int) -> None:
    rng = np.random.default_rng(count)
    info = np.iinfo(dtype)
    for y_scale, spread in ((1.0 / 50, 1.0), (3e-5, 1.0), (0.7, 1e-4), (1e-6, 300.0)):
        x = per_tensor(10.0 ** rng.uniform(-4, 1), int(rng.integers(info.min, info.max)), dtype)
        y = per_tensor(y_scale, int(rng.integers(info.min, info.max)), dtype)
        gamma, beta = (rng.normal(0.0, spread, count).astype(np.float32) for _ in range(2))
        q = random_codes(rng, (6, count), dtype)
        q[0] = info.max
        q[1] = q[1, 0]
        q[1, 0] = info.min
        q[2] = np.where(np.arange(count) % 2, info.min, info.max)
        expected = [in_python_integers(row, x, y, gamma, beta) for row in q.tolist()]
        np.testing.assert_array_equal(codes_of(q, x, y, gamma, beta), expected)


def test_it_rounds_the_exact_value() -> None:
    """Before its one rounding a code is exact to a thousandth, measured with epsilon 0."""
    rng = np.random.default_rng(0)
    x, y = per_tensor(0.1, 100, np.uint8), per_tensor(0.03, 128, np.uint8)
    q = random_codes(rng, (50, 48))
    gamma, beta = (rng.normal(1.0, 0.5, 48).astype(np.float32) for _ in range(2))
    node = make_node("LayerNormalization", 3, {"epsilon": 1e-12})
    (got,) = lower(Lowering(node, (x, gamma, beta), (y,), ARITHMETICS["onnxruntime"]))([q])
    wide = q.astype(np.float64)
    normalized = (wide - wide.mean(axis=1, keepdims=True)) / wide.std(axis=1, keepdims=True)
    exact = (normalized * gamma + beta) / float(y.scale) + 128
    assert np.abs(got - np.clip(exact, 0, 255)).max() < 0.501


@given(st.integers(0, 2**62 - 1))
def test_the_root_is_exact(value: int) -> None:
    assert integer_square_root(np.array([value]))[0] == math.isqrt(value)


@pytest.mark.parametrize("root", [1, 2, 3, 2**15, 2**30, 2**31 - 1])
def test_the_root_of_squares(root: int) -> None:
    values = np.array([root**2 - 1, root**2, root**2 + 1])
    expected = [math.isqrt(int(value)) for value in values]
    np.testing.assert_array_equal(integer_square_root(values), expected)


def test_rows_that_do_not_fit_are_refused() -> None:
    x = per_tensor(0.1, 0, np.uint16)
    ones = np.ones(40000, np.float32)
    with pytest.raises(UnsupportedOpError, match="rows of 40000 values do not fit int64"):
        codes_of(np.zeros((1, 40000), np.uint16), x, x, ones, ones)


def test_the_float_form_is_the_definition() -> None:
    x = np.array([[1.0, 2.0, 4.0, 5.0]], np.float32)
    gamma, beta = np.full(4, 2.0, np.float32), np.full(4, 0.5, np.float32)
    node = make_node("LayerNormalization", 3, {"epsilon": 0.5})
    (got,) = OPS["LayerNormalization"].float_form(node, [x, gamma, beta])
    deviation = math.sqrt(Fraction(5, 2) + Fraction(1, 2))
    np.testing.assert_allclose(got[0], [2 * v / deviation + 0.5 for v in (-2, -1, 1, 2)], rtol=1e-6)
