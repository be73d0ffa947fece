"""Elementwise kernels against Python's fractions, and what no case of onnxruntime's shows."""

from collections.abc import Callable
from fractions import Fraction
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantkit.numerics.affine import IntegerArray, QuantParams, per_tensor
from quantkit.numerics.arithmetic import ARITHMETICS, Arithmetic
from quantkit.numerics.code_table import PairedCodes
from quantkit.ops.activations import WITHOUT_ATTRIBUTES
from quantkit.ops.contract import OPS
from tests.numerics.test_float32_requantize import float32_of
from tests.ops.case import Case, make_node, middle_params
from tests.ops.checks import assert_codes_close, onnxruntime_codes, run, unsaturated_share
from tests.ops.elementwise_cases import every_pair

ONNXRUNTIME, FIXED_POINT = ARITHMETICS["onnxruntime"], ARITHMETICS["fixed_point"]
# Scales of a, b and y whose ratios are simple, usual, and extreme.
RATIOS = [(0.5, 0.25, 0.75), (0.02, 0.03, 0.05), (0.013, 0.027, 0.031), (1.0, 1.0, 3.0)]
EXTREMES = [(1e-8, 1e4, 1e-3), (1e4, 1e4, 1e4), (1e-8, 1e-8, 1e-8), (37.0, 1e4, 1e-8)]
DTYPES: tuple[npt.DTypeLike, ...] = (np.uint8, np.int8)


def zero_points(dtype: npt.DTypeLike, seed: int) -> tuple[int, int, int]:
    info = np.iinfo(np.dtype(dtype))
    low, high = int(info.min), int(info.max)
    triples = [(low, high, low), (high, low, high), (low + 37, low + 201, low + 128)]
    return triples[seed % 3]


def triple(
    scales: tuple[float, float, float], dtype: npt.DTypeLike, seed: int
) -> list[QuantParams]:
    points = zero_points(dtype, seed)
    return [per_tensor(scale, z, dtype) for scale, z in zip(scales, points, strict=True)]


@pytest.mark.parametrize("op_type", ["Add", "Mul"])
@pytest.mark.parametrize("scales", RATIOS + EXTREMES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=["uint8", "int8"])
def test_all_pairs_with_extreme_zero_points_equal_onnxruntime(
    op_type: str, scales: tuple[float, float, float], dtype: npt.DTypeLike
) -> None:
    for seed in range(3):
        a, b, y = triple(scales, dtype, seed)
        node = make_node(op_type, 2, {})
        case = Case("pairs", node, (a, b), (y,), every_pair(dtype), f"QLinear{op_type}")
        np.testing.assert_array_equal(
            run(case, "onnxruntime", strict_integer=False), onnxruntime_codes(case)
        )


def saturated(value: Fraction, y: QuantParams) -> int:
    """What x86 makes of a float32: half to even; from 2^31 on the smallest code."""
    rounded = round(value)
    return y.qmin if rounded >= 2**31 else min(max(rounded, y.qmin), y.qmax)


def f32(value: Fraction) -> Fraction:
    return float32_of(value) if value else value


def fma(a: Fraction, b: Fraction, c: Fraction) -> Fraction:
    return f32(a * b + c)


def exact(number: npt.ArrayLike) -> Fraction:
    return Fraction(float(np.asarray(number)))


def exact_add(a: QuantParams, b: QuantParams, y: QuantParams) -> Callable[[int, int], int]:
    ratio_a, ratio_b = (f32(exact(each.scale) / exact(y.scale)) for each in (a, b))
    zero_a, zero_b, zero_y = (Fraction(int(each.zero_point)) for each in (a, b, y))
    offset = f32(zero_y - fma(ratio_a, zero_a, f32(ratio_b * zero_b)))
    return lambda a_q, b_q: saturated(
        fma(Fraction(a_q), ratio_a, fma(Fraction(b_q), ratio_b, offset)), y
    )


def exact_mul(a: QuantParams, b: QuantParams, y: QuantParams) -> Callable[[int, int], int]:
    multiplier = f32(f32(exact(a.scale) * exact(b.scale)) / exact(y.scale))
    za, zb, zy = (int(each.zero_point) for each in (a, b, y))
    return lambda a_q, b_q: saturated(f32(f32((a_q - za) * (b_q - zb) * multiplier) + zy), y)


@pytest.mark.parametrize("scales", RATIOS + EXTREMES, ids=str)
@pytest.mark.parametrize(
    ("make", "exact_form"),
    [(ONNXRUNTIME.addition, exact_add), (ONNXRUNTIME.multiplication, exact_mul)],
    ids=["add", "mul"],
)
def test_pairs_equal_fractions(
    make: Callable[[QuantParams, QuantParams, QuantParams], PairedCodes],
    exact_form: Callable[[QuantParams, QuantParams, QuantParams], Callable[[int, int], int]],
    scales: tuple[float, float, float],
) -> None:
    for seed, dtype in product(range(3), DTYPES):
        a, b, y = triple(scales, dtype, seed)
        a_q, b_q = (codes[::17, ::13] for codes in every_pair(dtype))
        expected = np.vectorize(exact_form(a, b, y))(a_q.astype(object), b_q.astype(object))
        np.testing.assert_array_equal(make(a, b, y)(a_q.copy(), b_q.copy()), expected)


def dequantized(q: int, params: QuantParams) -> Fraction:
    return f32((q - int(params.zero_point)) * exact(params.scale))


def quantized(value: Fraction, y: QuantParams) -> int:
    return min(max(round(f32(value / exact(y.scale))) + int(y.zero_point), y.qmin), y.qmax)


def divided(a: Fraction, b: Fraction) -> Fraction:
    # Any code saturates at 10^30; 0 / 0 does so downwards.
    return f32(a / b) if b else Fraction(10**30 if a > 0 else -(10**30))


FLOAT_STEPS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "addition": lambda a, b: f32(a + b),
    "subtraction": lambda a, b: f32(a - b),
    "multiplication": lambda a, b: f32(a * b),
    "division": divided,
    "leaky_product": lambda a, b: a if a >= 0 else f32(a * b),
}


def pair_function(
    arithmetic: Arithmetic, name: str, a: QuantParams, b: QuantParams, y: QuantParams
) -> PairedCodes:
    function: PairedCodes = getattr(arithmetic, name)(a, b, y)
    return function


@st.composite
def any_params(draw: st.DrawFn) -> QuantParams:
    name = draw(st.sampled_from(["int8", "uint8", "int16", "uint16"]))
    info = np.iinfo(name)
    simple = st.sampled_from([0.25, 1 / 3, 0.05, 1.0, 1e-8, 1e4])
    scale = draw(st.one_of(simple, st.floats(1e-8, 1e4)))
    ends = st.sampled_from([int(info.min), 0, int(info.max)])
    zero_point = draw(st.one_of(ends, st.integers(int(info.min), int(info.max))))
    return per_tensor(scale, zero_point, name)


def some_codes(params: QuantParams, seed: int, size: int) -> IntegerArray:
    """Random codes, the ends and the neighbours of the zero point."""
    random = np.random.default_rng(seed).integers(params.qmin, params.qmax + 1, size)
    near = int(params.zero_point) + np.arange(-1, 2)
    codes = np.clip([*random, params.qmin, params.qmax, *near], params.qmin, params.qmax)
    chosen: IntegerArray = codes.astype(params.dtype)
    return chosen


@pytest.mark.parametrize("name", sorted(FLOAT_STEPS))
@settings(max_examples=25)
@given(any_params(), any_params(), any_params(), st.integers(0, 2**31))
def test_float_steps_in_integers_equal_fractions(
    name: str, a: QuantParams, b: QuantParams, y: QuantParams, seed: int
) -> None:
    # One dtype of 8 bits has kernels of its own in onnxruntime, see above.
    if name in ("addition", "multiplication"):
        a = per_tensor(float(a.scale), 0, np.int16)
    a_q, b_q = some_codes(a, seed, 12)[:, np.newaxis], some_codes(b, seed + 1, 9)[np.newaxis, :]
    step = FLOAT_STEPS[name]
    expected = [
        [quantized(step(dequantized(p, a), dequantized(q, b)), y) for q in b_q[0].tolist()]
        for p in a_q[:, 0].tolist()
    ]
    got = pair_function(ONNXRUNTIME, name, a, b, y)(a_q, b_q)
    np.testing.assert_array_equal(got, np.array(expected).astype(y.dtype))


@pytest.mark.parametrize("name", sorted(FLOAT_STEPS))
@given(any_params(), any_params(), st.integers(0, 2**31), st.floats(0.3, 3.0))
def test_fixed_point_is_one_code_from_the_exact_value(
    name: str, a: QuantParams, b: QuantParams, seed: int, spread: float
) -> None:
    """Operands of one size and an output that holds the results: what a sane model has."""
    dtype = np.int8 if a.dtype.itemsize == 1 else np.int16
    a = per_tensor(0.02, 0, dtype)
    b = per_tensor(0.02 * spread, 0, dtype)
    a_q, b_q = some_codes(a, seed, 12), some_codes(b, seed + 1, 12)
    b_q[b_q == 0] = 1
    reals = [
        FLOAT_STEPS[name](dequantized(p, a), dequantized(q, b))
        for p, q in zip(a_q.tolist(), b_q.tolist(), strict=True)
    ]
    y = per_tensor(float(max(map(abs, reals))) / a.qmax + 1e-6, 0, dtype)
    expected = np.array([quantized(real, y) for real in reals])
    got = pair_function(FIXED_POINT, name, a, b, y)(a_q, b_q).astype(np.int64)
    assert np.abs(got - expected).max() <= 1


@pytest.mark.parametrize("op_type", ["Sub", "Div", "PRelu"])
@pytest.mark.parametrize("dtype", DTYPES, ids=["uint8", "int8"])
def test_float_islands_have_the_codes_of_floats(op_type: str, dtype: npt.DTypeLike) -> None:
    """All pairs, quotients by zero among them: 0 codes differ from onnxruntime's float op."""
    free = 0.0
    for seed, scales in enumerate(RATIOS):
        a, b, y = triple(scales, dtype, seed)
        case = Case("pairs", make_node(op_type, 2, {}), (a, b), (y,), every_pair(dtype), "")
        expected = onnxruntime_codes(case)
        np.testing.assert_array_equal(run(case, "onnxruntime", strict_integer=True), expected)
        free = max(free, unsaturated_share(expected))
    assert free > 0.3


@pytest.mark.parametrize("op_type", sorted({*WITHOUT_ATTRIBUTES, "LeakyRelu"}))
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16], ids=["uint8", "int8", "int16"])
def test_codes_where_a_function_leaves_the_reals(op_type: str, dtype: npt.DTypeLike) -> None:
    """NaN and infinity, on all codes around 0: the codes are those of onnxruntime."""
    x = middle_params(0.03 if np.dtype(dtype).itemsize == 1 else 1e-4, dtype)
    codes = np.arange(x.qmin, x.qmax + 1).astype(dtype)
    case = Case(
        "all", make_node(op_type, 1, {}), (x,), (middle_params(0.027, dtype),), (codes,), ""
    )
    got = run(case, "onnxruntime", strict_integer=True)
    assert_codes_close(got, onnxruntime_codes(case), max_lsb=1, max_share=0.01)
    # The other arithmetic leaves the reals in the same places.
    other = run(case, "fixed_point", strict_integer=True)
    assert np.mean(np.abs(other.astype(int) - got.astype(int)) > 1) == 0


@settings(max_examples=15)
@given(st.floats(1e-4, 4.0), st.integers(0, 255), st.sampled_from([1 / 256, 0.003, 0.01]))
def test_a_table_is_the_rounded_function(scale: float, zero_point: int, y_scale: float) -> None:
    """Rational functions, whose every step fractions can follow."""
    x, y = per_tensor(scale, zero_point, np.uint8), per_tensor(y_scale, 100, np.uint8)
    codes = np.arange(0, 256, 3).astype(np.uint8)
    forms: dict[str, Callable[[Fraction], Fraction]] = {
        "Softsign": lambda v: v / (1 + abs(v)),
        "Abs": abs,
        "Neg": lambda v: -v,
        "Floor": lambda v: Fraction(v // 1),
        "Round": lambda v: Fraction(round(v)),
    }
    for op_type, form in forms.items():
        case = Case("all", make_node(op_type, 1, {}), (x,), (y,), (codes,), "")
        expected = [quantized(f32(form(dequantized(q, x))), y) for q in range(0, 256, 3)]
        np.testing.assert_array_equal(run(case, "onnxruntime", strict_integer=True), expected)


def test_sigmoid_is_not_the_exact_one() -> None:
    """onnxruntime's approximation, seen with the 16 bits of its float op; the kernel follows it."""
    x, y = middle_params(3e-4, np.int16), per_tensor(1 / 65536, 0, np.uint16)
    codes = np.arange(x.qmin, x.qmax + 1).astype(np.int16)
    case = Case("all", make_node("Sigmoid", 1, {}), (x,), (y,), (codes,), "")
    got = run(case, "onnxruntime", strict_integer=True)
    np.testing.assert_array_equal(got, onnxruntime_codes(case))
    exact_codes = run(case, "fixed_point", strict_integer=True)
    assert_codes_close(got, exact_codes, max_lsb=1, max_share=0.01)
    assert (got != exact_codes).any()


@pytest.mark.parametrize("dtype", DTYPES, ids=["uint8", "int8"])
def test_sigmoid_at_many_scales(dtype: npt.DTypeLike) -> None:
    info = np.iinfo(np.dtype(dtype))
    codes = np.arange(int(info.min), int(info.max) + 1).astype(dtype)
    for step in range(1, 26):
        x, y = middle_params(step * 0.013, dtype), per_tensor(0.0005 * step, int(info.min), dtype)
        case = Case("all", make_node("Sigmoid", 1, {}), (x,), (y,), (codes,), "QLinearSigmoid")
        got = run(case, "onnxruntime", strict_integer=True)
        np.testing.assert_array_equal(got, onnxruntime_codes(case))


def test_a_mask_is_not_quantized() -> None:
    where = OPS["Where"]
    condition, node = np.array([True, False]), make_node("Where", 3, {})
    for mask in (-np.inf, -1e9, np.nan):
        reason = where.refusal(node, [condition, None, np.array(mask, np.float32)])
        assert reason == "a constant operand is a mask beyond the range of codes"
    assert where.refusal(node, [condition, None, np.array(0.5, np.float32)]) is None
    assert where.refusal(node, [None, None, None]) == "its condition is computed, not a constant"


def test_an_exponent_must_be_one_constant() -> None:
    power, node = OPS["Pow"], make_node("Pow", 2, {})
    reason = "its exponent is not a single constant"
    assert power.refusal(node, [None, None]) == reason
    assert power.refusal(node, [None, np.array([1.0, 2.0], np.float32)]) == reason
    assert power.refusal(node, [None, np.array([2.0], np.float32)]) is None


@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div", "PRelu", "Concat", "Min", "Max"])
def test_constants_alone_are_not_quantized(op_type: str) -> None:
    arrays = [np.ones(2, np.float32)] * 2
    assert OPS[op_type].refusal(make_node(op_type, 2, {}), arrays) == "all operands are constants"
