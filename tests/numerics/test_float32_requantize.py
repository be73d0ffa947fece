"""onnxruntime's requantization: integers, float32 and fractions must agree on every code."""

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quantkit.errors import NonFiniteRangeError
from quantkit.numerics.float32_requantize import (
    float32_multiplier,
    nearest_float32,
    requantize_in_float32,
    requantize_in_integers,
    round_to_24_bits,
    shift_right_half_to_even,
    split_float32,
)
from tests.strategies import code_dtypes, int32_arrays, multipliers

Int32Array = npt.NDArray[np.int32]


def float32_of(value: Fraction) -> Fraction:
    """The nearest number with 24 significant bits, half to even, in exact rationals."""
    if value == 0:
        return value
    exponent = abs(value.numerator).bit_length() - value.denominator.bit_length()
    if Fraction(2) ** exponent > abs(value):
        exponent -= 1
    unit = Fraction(2) ** (exponent - 23)
    return round(value / unit) * unit


def requantize_fraction(accumulator: int, multiplier: float, zero_point: int, dtype: type) -> int:
    product = float32_of(float32_of(Fraction(accumulator)) * Fraction(multiplier))
    info = np.iinfo(dtype)
    return min(max(round(product) + zero_point, int(info.min)), int(info.max))


def both(
    accumulator: Int32Array, multiplier: npt.NDArray[np.float32], zero_point: int, dtype: type
) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]:
    integers: npt.NDArray[np.integer] = np.empty(accumulator.shape, dtype)
    floats = np.empty_like(integers)
    requantize_in_integers(accumulator, *split_float32(multiplier), zero_point, integers)
    with np.errstate(over="ignore"):
        requantize_in_float32(accumulator.copy(), multiplier, zero_point, floats)
    return integers, floats


@given(int32_arrays(), multipliers(), code_dtypes(), st.data())
@settings(max_examples=300)
def test_integers_float32_and_fractions_agree(
    accumulator: Int32Array, multiplier: float, dtype: type, data: st.DataObject
) -> None:
    info = np.iinfo(dtype)
    zero_point = data.draw(st.integers(int(info.min), int(info.max)))
    integers, floats = both(accumulator, np.array([multiplier], np.float32), zero_point, dtype)
    np.testing.assert_array_equal(integers, floats)
    expected = [
        requantize_fraction(int(value), multiplier, zero_point, dtype) for value in accumulator
    ]
    np.testing.assert_array_equal(integers, expected)


def test_products_near_every_half_agree() -> None:
    # For each tie n + 1/2 the accumulators whose product surrounds it, with 3,000 multipliers.
    rng = np.random.default_rng(0)
    multiplier = rng.uniform(2.0**-18, 2.0**-4, (3000, 1)).astype(np.float32)
    centre = (rng.integers(-256, 256, (3000, 1)) + 0.5) / multiplier.astype(np.float64)
    accumulator = (np.rint(centre) + np.arange(-8, 9)).astype(np.int32)
    integers, floats = (np.empty(accumulator.shape, np.uint8) for _ in range(2))
    requantize_in_integers(accumulator, *split_float32(multiplier), 128, integers)
    requantize_in_float32(accumulator, multiplier, 128, floats)
    np.testing.assert_array_equal(integers, floats)
    assert len(np.unique(integers)) == 256


def test_three_roundings_differ_from_two() -> None:
    # Above 2^24 the accumulator itself is rounded: a carrier that skips this misses codes.
    # 2^24 + 1 rounds to 2^24, so the product is exactly 0.5 and goes to the even 0.
    accumulator = np.array([2**24 + 1], np.int32)
    multiplier = np.array([2.0**-25], np.float32)
    integers, floats = both(accumulator, multiplier, 0, np.uint8)
    assert (integers[0], floats[0]) == (0, 0)
    assert round(Fraction(2**24 + 1, 2**25)) == 1


@given(st.integers(0, 2**55))
@example(2**24)
@example(2**24 + 1)
@example(2**24 + 3)
@example(2**55 - 1)
def test_round_to_24_bits(magnitude: int) -> None:
    assert round_to_24_bits(np.array([magnitude]))[0] == float32_of(Fraction(magnitude))


@given(st.integers(0, 2**55), st.integers(0, 62))
@example(1, 1)
@example(3, 1)
@example(2, 2)
@example(6, 2)
def test_shift_right_half_to_even(magnitude: int, shift: int) -> None:
    got = shift_right_half_to_even(np.array([magnitude]), np.array([shift]))
    assert got[0] == round(Fraction(magnitude, 2**shift))


def test_clamping_before_rounding_gives_the_same_codes() -> None:
    # MLAS clamps the product to [qmin - z, qmax - z] first; the bounds are integers.
    halves = np.arange(-2000, 2001, dtype=np.float32) / np.float32(2)
    for zero_point in (0, 1, 127, 128, 255):
        before = np.rint(np.clip(halves, -zero_point, 255 - zero_point)) + zero_point
        after = np.clip(np.rint(halves) + zero_point, 0, 255)
        np.testing.assert_array_equal(before, after)


@given(st.fractions(min_value=Fraction(1, 10**6), max_value=10**6))
def test_nearest_float32(value: Fraction) -> None:
    mantissa, exponent = nearest_float32(value)
    assert 2**23 <= mantissa <= 2**24
    assert mantissa * Fraction(2) ** exponent == float32_of(value)


@given(multipliers())
def test_split_float32_is_exact(multiplier: float) -> None:
    mantissa, exponent = split_float32(np.array([multiplier], np.float32))
    assert int(mantissa[0]) * Fraction(2) ** int(exponent[0]) == Fraction(multiplier)


def test_the_multiplier_is_built_stepwise() -> None:
    rng = np.random.default_rng(1)
    x, w, y = (rng.uniform(1e-3, 1e-1, 2000).astype(np.float32) for _ in range(3))
    stepwise = float32_multiplier(x, w, y)
    once = (x.astype(np.float64) * w / y).astype(np.float32)
    assert 300 < np.count_nonzero(stepwise != once) < 700
    expected = [
        float32_of(float32_of(Fraction(float(a)) * Fraction(float(b))) / Fraction(float(c)))
        for a, b, c in zip(x, w, y, strict=True)
    ]
    np.testing.assert_array_equal(stepwise, [float(value) for value in expected])


def test_an_infinite_multiplier_is_refused() -> None:
    with pytest.raises(NonFiniteRangeError, match="not a finite float32"):
        float32_multiplier(
            np.array([1e30], np.float32), np.array([1e30], np.float32), np.array([1.0], np.float32)
        )
    with pytest.raises(NonFiniteRangeError, match="finite and >= 0"):
        split_float32(np.array([-1.0], np.float32))
