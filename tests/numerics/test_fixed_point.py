"""The fixed-point primitives against gemmlowp's definitions in Python integers."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkit.errors import NonFiniteRangeError, ShapeMismatchError
from quantkit.numerics.fixed_point import (
    FixedPointMultiplier,
    multiply_by_quantized_multiplier,
    multiply_int64_by_quantized_multiplier,
    rounding_divide_by_power_of_two,
    saturating_rounding_doubling_high_mul,
)
from tests.numerics.gemmlowp import (
    divide,
    high_mul,
    multiply,
    multiply_wide,
    quantize_multiplier,
    saturate,
)
from tests.strategies import INT32_MAX, INT32_MIN, int32_arrays, int32_values, multipliers

EXTREMES = [INT32_MIN, INT32_MIN + 1, -(2**30), -3, -2, -1, 0, 1, 2, 3, 2**30, INT32_MAX]


def as_int32(values: list[int]) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    return np.array(values, np.int32)


def test_high_mul_of_all_extremes() -> None:
    values = as_int32(EXTREMES)
    got = saturating_rounding_doubling_high_mul(values[:, None], values[None, :])
    expected = [[high_mul(x, y) for y in EXTREMES] for x in EXTREMES]
    np.testing.assert_array_equal(got, expected)


@given(int32_arrays(), int32_values())
def test_high_mul(a: np.ndarray[tuple[int, ...], np.dtype[np.int32]], b: int) -> None:
    got = saturating_rounding_doubling_high_mul(a, as_int32([b]))
    np.testing.assert_array_equal(got, [high_mul(int(x), b) for x in a])


@pytest.mark.parametrize("sign", [-1, 1])
def test_high_mul_sends_ties_up(sign: int) -> None:
    # (2k + 1) * 2^30 / 2^31 is k + 1/2.
    factors = as_int32([sign * (2 * k + 1) for k in range(100)])
    got = saturating_rounding_doubling_high_mul(factors, as_int32([2**30]))
    expected = [k + 1 if sign > 0 else -k for k in range(100)]
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("exponent", range(32))
def test_divide_rounds_every_tie_away_from_zero(exponent: int) -> None:
    tie = (1 << exponent) >> 1
    near = {value + delta for value in (tie, 3 * tie, -tie, -3 * tie) for delta in (-1, 0, 1)}
    values = [value for value in sorted({*near, *EXTREMES}) if INT32_MIN <= value <= INT32_MAX]
    got = rounding_divide_by_power_of_two(as_int32(values), as_int32([exponent]))
    np.testing.assert_array_equal(got, [divide(value, exponent) for value in values])
    nearest = [Fraction(value, 2**exponent) for value in values]
    away = [int(abs(q) + Fraction(1, 2)) * (1 if q > 0 else -1) for q in nearest]
    np.testing.assert_array_equal(got, away)


@given(int32_arrays(), multipliers())
def test_multiply(x: np.ndarray[tuple[int, ...], np.dtype[np.int32]], real: float) -> None:
    multiplier = FixedPointMultiplier.from_real(real)
    got = multiply_by_quantized_multiplier(x, multiplier.mantissa, multiplier.shift)
    mantissa, shift = int(multiplier.mantissa), int(multiplier.shift)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, [multiply(int(value), mantissa, shift) for value in x])


@pytest.mark.parametrize("shift", range(-31, 31))
def test_multiply_at_every_shift(shift: int) -> None:
    """Ties of both roundings and both signs, and left shifts that saturate."""
    mantissas = [2**30, 2**30 + 1, 3 * 2**29, INT32_MAX - 1, INT32_MAX]
    half = 2 ** max(-shift - 1, 0)
    ties = {sign * odd * half for sign in (-1, 1) for odd in (1, 2, 3, 5, 2**10 + 1)}
    near_ties = {
        near * factor for tie in ties for near in (tie - 1, tie, tie + 1) for factor in (1, 2)
    }
    # The last that the left shift keeps, and the first that it saturates.
    limit = INT32_MAX >> max(shift, 0)
    near_limit = {sign * (limit + more) for sign in (-1, 1) for more in (-1, 0, 1, 2)}
    values = sorted(v for v in near_ties | near_limit | {*EXTREMES} if INT32_MIN <= v <= INT32_MAX)
    got = multiply_by_quantized_multiplier(
        as_int32(values)[:, None], as_int32(mantissas), as_int32([shift] * len(mantissas))
    )
    expected = [[multiply(value, mantissa, shift) for mantissa in mantissas] for value in values]
    np.testing.assert_array_equal(got, expected)


def test_left_shifts_saturate() -> None:
    one = as_int32([2**30])
    got = multiply_by_quantized_multiplier(as_int32([2**30, -(2**30), 2**29]), one, as_int32([2]))
    np.testing.assert_array_equal(got, [2**30, -(2**30), 2**30])


WIDE_EXTREMES = [-(2**47), 1 - 2**47, -(2**31), -1, 0, 1, 2**31, 2**47 - 2, 2**47 - 1]


@pytest.mark.parametrize("shift", range(-31, 31))
def test_wide_sums_at_every_shift(shift: int) -> None:
    mantissas = [2**30, 2**30 + 2**15, 0x7FFF0000 - 1, 0x7FFF0000, INT32_MAX]
    half = 1 << max(14 - shift, 0)
    ties = [sign * odd * half + near for sign in (-1, 1) for odd in (1, 3) for near in (-1, 0, 1)]
    values = [*WIDE_EXTREMES, *ties]
    got = multiply_int64_by_quantized_multiplier(
        np.array(values)[:, None], as_int32(mantissas), as_int32([shift] * len(mantissas))
    )
    expected = [
        [saturate(multiply_wide(value, mantissa, shift)) for mantissa in mantissas]
        for value in values
    ]
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == np.int32


@given(st.lists(st.integers(-(2**47), 2**47 - 1), min_size=1), multipliers())
def test_wide_sums(values: list[int], real: float) -> None:
    multiplier = FixedPointMultiplier.from_real(real)
    got = multiply_int64_by_quantized_multiplier(
        np.array(values, np.int64), multiplier.mantissa, multiplier.shift
    )
    mantissa, shift = int(multiplier.mantissa), int(multiplier.shift)
    expected = [saturate(multiply_wide(value, mantissa, shift)) for value in values]
    np.testing.assert_array_equal(got, expected)


def test_sums_beyond_48_bits_saturate() -> None:
    one = FixedPointMultiplier.from_real([2.0**-40, 1.0])
    ends = np.array([[-(2**63)], [2**63 - 1]])
    got = multiply_int64_by_quantized_multiplier(ends, one.mantissa, one.shift)
    np.testing.assert_array_equal(got, [[0, INT32_MIN], [0, INT32_MAX]])
    with pytest.raises(ShapeMismatchError, match="int64 expected, got int32"):
        multiply_int64_by_quantized_multiplier(
            as_int32([1]),  # type: ignore[arg-type]
            one.mantissa[:1],
            one.shift[:1],
        )


@given(multipliers())
def test_from_real_is_quantize_multiplier(real: float) -> None:
    multiplier = FixedPointMultiplier.from_real(real)
    assert (int(multiplier.mantissa), int(multiplier.shift)) == quantize_multiplier(real)


def test_from_real_at_powers_of_two() -> None:
    """And at their neighbours, half a unit of the mantissa and one float64 away."""
    powers = [2.0**exponent for exponent in range(-40, 40)]
    real = [
        value
        for power in powers
        for value in (
            power,
            float(np.nextafter(power, 0.0)),
            float(np.nextafter(power, np.inf)),
            power * (1 - 2.0**-32),
            power * (1 - 2.0**-33),
            power * (1 + 2.0**-31),
            power * 1.5,
        )
    ]
    multiplier = FixedPointMultiplier.from_real(real)
    got = list(zip(multiplier.mantissa.tolist(), multiplier.shift.tolist(), strict=True))
    assert got == [quantize_multiplier(value) for value in real]


@given(st.floats(2.0**-31, 2.0**29))
def test_from_real_is_within_half_a_unit(real: float) -> None:
    multiplier = FixedPointMultiplier.from_real(real)
    mantissa, shift = int(multiplier.mantissa), int(multiplier.shift)
    assert 2**30 <= mantissa < 2**31
    unit = Fraction(2) ** (shift - 31)
    assert abs(mantissa * unit - Fraction(real)) <= unit / 2


def test_from_real_at_the_ends() -> None:
    real = [0.0, 2.0**-1074, 2.0**-33, 2.0**-32, 1.0, 1.0 - 2.0**-40, 2.0**30, 1e300]
    multiplier = FixedPointMultiplier.from_real(real)
    largest = INT32_MAX
    expected = [0, 0, 0, 2**30, 2**30, 2**30, largest, largest]
    np.testing.assert_array_equal(multiplier.mantissa, expected)
    np.testing.assert_array_equal(multiplier.shift, [0, 0, 0, -31, 1, 1, 30, 30])


@pytest.mark.parametrize("real", [-1.0, np.nan, np.inf])
def test_from_real_refuses(real: float) -> None:
    with pytest.raises(NonFiniteRangeError, match="finite and >= 0"):
        FixedPointMultiplier.from_real(real)


@given(multipliers().filter(lambda real: 2.0**-8 < real < 2.0**8), st.integers(1, 2**20))
def test_divided_by_is_within_half_a_unit(real: float, count: int) -> None:
    whole = FixedPointMultiplier.from_real(real)
    part = whole.divided_by(count)
    unit = Fraction(2) ** (int(part.shift) - 31)
    exact = int(whole.mantissa) * Fraction(2) ** (int(whole.shift) - 31) / count
    assert 2**30 <= int(part.mantissa) < 2**31
    assert abs(int(part.mantissa) * unit - exact) <= unit / 2


def test_construction_is_checked() -> None:
    one = np.array(2**30, np.int32)
    with pytest.raises(ShapeMismatchError, match="must be int32"):
        FixedPointMultiplier(one.astype(np.int64), one)
    with pytest.raises(ShapeMismatchError, match="share a shape"):
        FixedPointMultiplier(one, np.zeros(2, np.int32))
    with pytest.raises(ShapeMismatchError, match=r"\[2\^30, 2\^31\)"):
        FixedPointMultiplier(np.array(5, np.int32), np.array(0, np.int32))
    with pytest.raises(ShapeMismatchError, match="a shift lies in"):
        FixedPointMultiplier(one, np.array(31, np.int32))
    with pytest.raises(ShapeMismatchError, match="one multiplier expected"):
        FixedPointMultiplier.from_real([1.0, 2.0]).divided_by(3)


def test_operands_must_be_int32() -> None:
    with pytest.raises(ShapeMismatchError, match="int32 expected, got float32"):
        saturating_rounding_doubling_high_mul(
            np.ones(2, np.float32),
            as_int32([1]),
        )
    with pytest.raises(ShapeMismatchError, match="an exponent lies in"):
        rounding_divide_by_power_of_two(as_int32([1]), as_int32([32]))
