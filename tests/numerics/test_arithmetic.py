"""The named arithmetics: tables, averages and softmax against exact definitions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkit.errors import UnsupportedOpError
from quantkit.numerics.affine import QuantParams, dequantize, per_tensor, quantize
from quantkit.numerics.arithmetic import ARITHMETICS
from quantkit.numerics.code_table import every_code, requantize_codes, tabulate_unary
from quantkit.numerics.integer_softmax import integer_softmax
from quantkit.numerics.onnxruntime_arithmetic import OnnxruntimeArithmetic
from quantkit.numerics.onnxruntime_elementwise import fused_multiply_add
from tests.numerics.test_float32_requantize import float32_of
from tests.strategies import activation_params

float32s = st.floats(-(2.0**40), 2.0**40, width=32, allow_subnormal=False)
NAMES = sorted(ARITHMETICS)


@given(float32s, float32s, float32s)
def test_fma_rounds_once(a: float, b: float, c: float) -> None:
    got = fused_multiply_add(*(np.array([value], np.float32) for value in (a, b, c)))[0]
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    # Results that underflow are rounded to denormals; they do not occur with codes.
    if exact and abs(exact) >= Fraction(2) ** -126:
        assert Fraction(float(got)) == float32_of(exact)


def test_fma_sees_no_false_tie() -> None:
    # 1 + 2^-24 is a tie of float32; the exact sum is just above it and must go up.
    got = fused_multiply_add(
        np.array([2.0**-24], np.float32), np.array([1.0], np.float32), np.array([1.0], np.float32)
    )[0]
    assert got == 1.0
    tiny = np.array([2.0**-60], np.float32)
    above = fused_multiply_add(
        np.array([1.0 + 2.0**-23], np.float32),
        np.array([2.0**-24], np.float32),
        np.array([1.0], np.float32),
    )[0]
    assert above == np.float32(1.0 + 2.0**-23)
    assert fused_multiply_add(tiny, tiny, tiny * 0)[0] == tiny[0] ** 2


@pytest.mark.parametrize("name", NAMES)
@given(activation_params(), activation_params(), st.integers(1, 2000), st.integers(0, 2**31))
def test_an_average_is_one_code_from_the_exact_one(
    name: str, x: QuantParams, y: QuantParams, count: int, seed: int
) -> None:
    codes = np.random.default_rng(seed).integers(x.qmin, x.qmax + 1, (20, 1)) * count
    got = ARITHMETICS[name].average_requantizer(x, y)(codes.astype(np.int32), count)
    ratio = Fraction(float(x.scale)) / (Fraction(float(y.scale)) * count)
    for total, code in zip(codes[:, 0].tolist(), got[:, 0].tolist(), strict=True):
        exact = round((total - count * int(x.zero_point)) * ratio) + int(y.zero_point)
        assert abs(code - min(max(exact, y.qmin), y.qmax)) <= 1


@given(activation_params(), activation_params(), st.integers(1, 12), st.integers(0, 2**31))
def test_strict_window_averages_equal_the_float_carrier(
    x: QuantParams, y: QuantParams, taps: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    planes = list(rng.integers(x.qmin, x.qmax + 1, (taps, 3, 5, 7)).astype(x.dtype))
    count = rng.integers(1, taps + 1, (5, 7))
    default, strict = (
        OnnxruntimeArithmetic().window_average(x, y, range(1, taps + 1), strict_integer=mode)
        for mode in (False, True)
    )
    np.testing.assert_array_equal(strict(planes, count), default(planes, count))


@pytest.mark.parametrize("name", NAMES)
@given(activation_params(), activation_params(), st.sampled_from([0.25, 0.1, 0.017, 1.0]))
def test_a_sum_is_one_code_from_the_exact_one(
    name: str, a: QuantParams, b: QuantParams, y_scale: float
) -> None:
    y = per_tensor(y_scale, 128, np.uint8)
    a_q, b_q = every_code(a)[::5, np.newaxis], every_code(b)[np.newaxis, ::5]
    got = ARITHMETICS[name].addition(a, b, y)(a_q, b_q)
    exact = dequantize(a_q, a).astype(np.float64) + dequantize(b_q, b).astype(np.float64)
    expected = np.clip(np.rint(exact / float(y.scale)) + 128, 0, 255)
    assert np.abs(got - expected).max() <= 1


def test_the_sum_swaps_operands_where_the_first_is_broadcast() -> None:
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(40):
        a, b, y = (per_tensor(rng.integers(1, 40) * 0.004, 100, np.uint8) for _ in range(3))
        add = OnnxruntimeArithmetic().addition(a, b, y)
        codes = every_code(a)
        fixed_first = add(codes[:, np.newaxis], codes[np.newaxis, :])
        fixed_second = add(codes[np.newaxis, :], codes[:, np.newaxis]).T
        full = add(*np.broadcast_arrays(codes[:, np.newaxis], codes[np.newaxis, :]))
        swapped = OnnxruntimeArithmetic().addition(b, a, y)
        reverse = swapped(*np.broadcast_arrays(codes[np.newaxis, :], codes[:, np.newaxis]))
        np.testing.assert_array_equal(fixed_second, full)
        np.testing.assert_array_equal(fixed_first, reverse)
        found += int(np.count_nonzero(fixed_first != full))
    assert found > 0


@given(activation_params(), st.integers(1, 300), st.integers(0, 2**31))
def test_integer_softmax_is_one_code_from_the_exact_one(
    x: QuantParams, length: int, seed: int
) -> None:
    y = per_tensor(1 / 256, 0, np.uint8)
    x_q = np.random.default_rng(seed).integers(x.qmin, x.qmax + 1, (5, length)).astype(x.dtype)
    got = integer_softmax(x, y, 256.0)(x_q)
    real = dequantize(x_q, x).astype(np.float64)
    weight = np.exp(real - real.max(axis=1, keepdims=True))
    exact = 256 * weight / weight.sum(axis=1, keepdims=True)
    assert np.abs(got - np.minimum(exact, 255)).max() <= 0.5 + 256 * length * 2.0**-25 + 1e-9


@given(activation_params(), activation_params())
def test_a_tabulated_function_equals_dequantize_function_quantize(
    x: QuantParams, y: QuantParams
) -> None:
    codes = every_code(x).reshape(16, 16)
    expected = quantize(np.tanh(dequantize(codes, x)), y)
    np.testing.assert_array_equal(tabulate_unary(np.tanh, x, y)(codes), expected)
    converted = requantize_codes(x, y)(codes)
    np.testing.assert_array_equal(converted, quantize(dequantize(codes, x), y))


def test_equal_parameters_need_no_table() -> None:
    params = per_tensor(0.1, 3, np.uint8)
    codes = every_code(params)
    assert requantize_codes(params, per_tensor(0.1, 3, np.uint8))(codes) is codes


def test_wide_codes_have_no_table() -> None:
    with pytest.raises(UnsupportedOpError, match="8 or 16 bits expected, got int32"):
        every_code(per_tensor(0.1, 0, np.int32))


@pytest.mark.parametrize("name", NAMES)
def test_accumulators_of_both_carriers_give_the_same_codes(name: str) -> None:
    rng = np.random.default_rng(0)
    x, y = per_tensor(0.02, 3, np.uint8), per_tensor(0.05, 100, np.uint8)
    weight = QuantParams(
        rng.uniform(0.001, 0.01, 6).astype(np.float32), np.zeros(6, np.int32), np.dtype(np.int8), 0
    )
    accumulator = rng.integers(-(2**20), 2**20, (6, 50)).astype(np.int32)
    codes = []
    for strict_integer, dtype in ((False, np.float32), (False, np.int32), (True, np.int32)):
        requantize = ARITHMETICS[name].accumulator_requantizer(
            x, weight, y, channel_axis=0, strict_integer=strict_integer
        )
        out = np.empty(accumulator.shape, np.uint8)
        requantize(accumulator[:2].astype(dtype), out[:2], slice(0, 2))
        requantize(accumulator[2:].astype(dtype), out[2:], slice(2, 6))
        codes.append(out)
    np.testing.assert_array_equal(codes[0], codes[1])
    np.testing.assert_array_equal(codes[0], codes[2])
