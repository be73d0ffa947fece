"""The "fixed_point" functions of codes against TFLite's definitions in Python integers.

All 256 x 256 pairs of codes, at ratios of scales that put many results on a half.
"""

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from itertools import product

import numpy as np
import pytest

from quantkit.numerics.affine import IntegerArray, QuantParams, per_tensor
from quantkit.numerics.arithmetic import ARITHMETICS
from quantkit.numerics.code_table import every_code
from tests.numerics.gemmlowp import multiply, quantize_multiplier

FIXED_POINT = ARITHMETICS["fixed_point"]
Codes = Callable[[int, int], int]

# Scales of a, b and y: powers of two, thirds and usual ones; results that saturate and that do not.
SCALES = [(0.5, 0.25, 1.0), (1.0, 1.0, 3.0), (0.02, 0.01, 0.04), (0.013, 0.027, 0.031)]
ZERO_POINTS = [(0, 255, 128), (255, 0, 101), (128, 77, 0)]
DTYPES = [(np.uint8, 0), (np.int8, -128)]
CASES = [
    pytest.param(
        *(per_tensor(s, z + low, dtype) for s, z in zip(scales, points, strict=True)),
        id=f"{np.dtype(dtype)}-{scales}-{points}",
    )
    for index, (scales, (dtype, low)) in enumerate(product(SCALES, DTYPES))
    for points in [ZERO_POINTS[index % 3]]
]


def clamp(code: int, y: QuantParams) -> int:
    return min(max(code + int(y.zero_point), y.qmin), y.qmax)


def by(real: float) -> Callable[[int], int]:
    """MultiplyByQuantizedMultiplier by a real number."""
    mantissa, shift = quantize_multiplier(real)
    return cache(lambda value: multiply(value, mantissa, shift))


def scale_of(params: QuantParams) -> float:
    return float(params.scale)


def tflite_mul(a: QuantParams, b: QuantParams, y: QuantParams) -> Codes:
    """reference_ops::Mul: the product of the differences, one multiplier."""
    scaled = by(scale_of(a) * scale_of(b) / scale_of(y))
    za, zb = int(a.zero_point), int(b.zero_point)
    return lambda p, q: clamp(scaled((p - za) * (q - zb)), y)


def tflite_sum(a: QuantParams, b: QuantParams, y: QuantParams, sign: int) -> Codes:
    """reference_ops::Add and Sub: both differences shifted by 20 bits and brought to one scale."""
    twice = 2 * max(scale_of(a), scale_of(b))
    first, second = by(scale_of(a) / twice), by(scale_of(b) / twice)
    last = by(twice / ((1 << 20) * scale_of(y)))
    za, zb = int(a.zero_point), int(b.zero_point)
    return lambda p, q: clamp(last(first((p - za) << 20) + sign * second((q - zb) << 20)), y)


def quotient(a: QuantParams, b: QuantParams, y: QuantParams) -> Codes:
    """No kernel of TFLite's: the shifted quotient rounded half away, then one multiplier."""
    za, zb = int(a.zero_point), int(b.zero_point)
    reach = max(a.qmax - za, za - a.qmin)
    left = 31 - reach.bit_length()
    scaled = by(scale_of(a) / (scale_of(b) * scale_of(y)) / 2.0**left)

    def divide(p: int, q: int) -> int:
        if q == zb:
            return y.qmax if p > za else y.qmin
        return clamp(scaled(half_away(Fraction((p - za) << left, q - zb))), y)

    return divide


def tflite_prelu(x: QuantParams, slope: QuantParams, y: QuantParams) -> Codes:
    """reference_ops::BroadcastPrelu4DSlow: one multiplier for each side of zero."""
    kept, scaled = by(scale_of(x) / scale_of(y)), tflite_mul(x, slope, y)
    zero_point = int(x.zero_point)
    return lambda p, q: clamp(kept(p - zero_point), y) if p >= zero_point else scaled(p, q)


def half_away(value: Fraction) -> int:
    magnitude = int(abs(value) + Fraction(1, 2))
    return magnitude if value >= 0 else -magnitude


FUNCTIONS: dict[str, Callable[[QuantParams, QuantParams, QuantParams], Codes]] = {
    "addition": lambda a, b, y: tflite_sum(a, b, y, 1),
    "subtraction": lambda a, b, y: tflite_sum(a, b, y, -1),
    "multiplication": tflite_mul,
    "division": quotient,
    "leaky_product": tflite_prelu,
}


def codes_of(params: QuantParams) -> list[int]:
    codes: list[int] = every_code(params).tolist()
    return codes


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
@pytest.mark.parametrize(("a", "b", "y"), CASES)
def test_every_pair(name: str, a: QuantParams, b: QuantParams, y: QuantParams) -> None:
    # A product or quotient needs a scale of its own for most codes not to saturate.
    if name in ("multiplication", "leaky_product"):
        y = per_tensor(scale_of(y) * scale_of(b) * 64, int(y.zero_point), y.dtype)
    if name == "division":
        y = per_tensor(scale_of(y) * 8 / scale_of(b) / 255, int(y.zero_point), y.dtype)
    function = FUNCTIONS[name](a, b, y)
    expected = [[function(p, q) for q in codes_of(b)] for p in codes_of(a)]
    a_q, b_q = every_code(a)[:, np.newaxis], every_code(b)[np.newaxis, :]
    got: IntegerArray = getattr(FIXED_POINT, name)(a, b, y)(a_q, b_q)
    np.testing.assert_array_equal(got, expected)
    assert np.mean((got > y.qmin) & (got < y.qmax)) > 0.05


@pytest.mark.parametrize("ratio", [0.5, 0.25, 1.5, 0.75, 1 / 3, 2.0, 0.0117])
@pytest.mark.parametrize("zero_point", [0, 133, 255])
def test_requantize(ratio: float, zero_point: int) -> None:
    """TFLite's Requantize, also of Concat's operands; equal parameters copy."""
    x, y = per_tensor(0.02, zero_point, np.uint8), per_tensor(0.02 / ratio, 120, np.uint8)
    scaled = by(scale_of(x) / scale_of(y))
    got = FIXED_POINT.rescaling(x, y)(every_code(x))
    assert got.tolist() == [clamp(scaled(q - zero_point), y) for q in codes_of(x)]
    assert FIXED_POINT.rescaling(x, x)(every_code(x)).tolist() == codes_of(x)


@pytest.mark.parametrize("alpha", [0.5, 0.25, -1.5])
def test_leaky_relu_is_a_table_rounded_half_away(alpha: float) -> None:
    x, y = per_tensor(0.5, 100, np.uint8), per_tensor(0.25, 90, np.uint8)
    got = FIXED_POINT.tabulation(lambda v: np.where(v >= 0, v, alpha * v), x, y)(every_code(x))
    exact = [Fraction(q - 100) * 2 * (1 if q >= 100 else Fraction(alpha)) for q in codes_of(x)]
    assert got.tolist() == [clamp(half_away(value), y) for value in exact]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9, 49, 64, 1000])
@pytest.mark.parametrize("ratio", [1.0, 0.5, 2.0, 1.3])
def test_mean(count: int, ratio: float) -> None:
    """TFLite's Mean: one multiplier, divided by the count in integers (here rounded)."""
    x, y = per_tensor(0.03, 77, np.uint8), per_tensor(0.03 / ratio, 130, np.uint8)
    left = 31 - (count * 255).bit_length()
    mantissa, shift = quantize_multiplier(scale_of(x) / scale_of(y))
    divisor = count << left
    up = (divisor - 1).bit_length()
    divided = int(Fraction(mantissa << up, divisor) + Fraction(1, 2))
    if divided >= 2**31:
        up -= 1
        divided = int(Fraction(mantissa << up, divisor) + Fraction(1, 2))
    totals = np.unique(np.linspace(0, 255 * count, 2000).astype(np.int32))
    got = FIXED_POINT.average_requantizer(x, y)(totals, count)
    expected = [
        clamp(multiply((total - 77 * count) << left, divided, shift - up), y)
        for total in totals.tolist()
    ]
    assert got.tolist() == expected


@pytest.mark.parametrize(("name", "sign"), [("addition", 1), ("subtraction", -1)])
def test_sums_that_cancel_show_the_last_bits(name: str, sign: int) -> None:
    """Of 2^20 units per code only those that nearly cancel are left: the shift by 20 is seen."""
    a, b = per_tensor(0.02, 128, np.uint8), per_tensor(0.02 * 1.0001, 128, np.uint8)
    y = per_tensor(0.02 / 2**20, 5, np.int16)
    function = tflite_sum(a, b, y, sign)
    p = every_code(a)[1:]
    q = p if sign < 0 else (256 - p.astype(np.int64)).astype(np.uint8)
    got: IntegerArray = getattr(FIXED_POINT, name)(a, b, y)(p, q)
    assert got.tolist() == [function(*pair) for pair in zip(p.tolist(), q.tolist(), strict=True)]
    assert np.unique(got).size > 200


def test_small_quotients_show_the_last_bits() -> None:
    a, b = per_tensor(1.0, 0, np.uint8), per_tensor(1.0, 0, np.uint8)
    y = per_tensor(1 / (2.0**23 * 0.9), 0, np.uint16)
    function = quotient(a, b, y)
    dividend, divisor = np.array([[1], [2]], np.uint8), every_code(b)[np.newaxis, :]
    got = FIXED_POINT.division(a, b, y)(dividend, divisor)
    assert got.tolist() == [[function(p, q) for q in codes_of(b)] for p in (1, 2)]
    assert np.unique(got).size > 100


@pytest.mark.parametrize("operation", ["addition", "subtraction"])
def test_the_arithmetics_are_one_apart_up_to_a_ratio_of_2_15(operation: str) -> None:
    """Beyond it 24 bits of float32, and the 20 that TFLite shifts by, do not hold the sum."""
    rng = np.random.default_rng(7)
    a_q, b_q = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    apart = {13: 0, 15: 0, 21: 0}
    for exponent in apart:
        for _ in range(20):
            y_scale = 10.0 ** rng.uniform(-6, 0)
            # A simple ratio, so that many sums cancel and do not saturate.
            ratio = float(rng.integers(1, 40) / rng.integers(40, 80))
            scales = (y_scale * 2.0**exponent, y_scale * 2.0**exponent * ratio)
            a, b, y = (
                per_tensor(scale, int(rng.integers(0, 256)), np.uint8)
                for scale in (*scales, y_scale)
            )
            first, second = (
                getattr(ARITHMETICS[name], operation)(a, b, y)(a_q, b_q).astype(np.int64)
                for name in ("onnxruntime", "fixed_point")
            )
            apart[exponent] = max(apart[exponent], int(np.abs(first - second).max()))
    assert apart[13] <= 1
    assert apart[15] <= 1
    assert apart[21] > 1
