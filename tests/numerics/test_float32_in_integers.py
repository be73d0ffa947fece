"""float32 in integers: every operation is NumPy's, bit for bit."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantkit.numerics import float32_in_integers
from quantkit.numerics.affine import dequantize, per_tensor, quantize
from quantkit.numerics.float32_in_integers import (
    Float32Integers,
    dequantizer_in_integers,
    quantizer_in_integers,
)
from quantkit.numerics.float32_requantize import split_float32

Float32Array = npt.NDArray[np.float32]
# Few significant bits make ties; far exponents make numbers that only break them.
_SHORT = st.tuples(st.integers(-64, 64), st.integers(-40, 40)).map(lambda p: p[0] * 2.0 ** p[1])
_ANY = st.floats(-(2.0**40), 2.0**40, width=32).filter(lambda x: x == 0 or abs(x) > 2.0**-40)
numbers = hnp.arrays(np.float32, 16, elements=st.one_of(_SHORT, _ANY))

OPERATIONS: dict[
    str,
    tuple[
        Callable[[Float32Integers, Float32Integers], Float32Integers],
        Callable[[Float32Array, Float32Array], Float32Array],
    ],
] = {
    "add": (float32_in_integers.add, np.add),
    "multiply": (float32_in_integers.multiply, np.multiply),
    "divide": (float32_in_integers.divide, np.divide),
}


def in_integers(x: Float32Array) -> Float32Integers:
    mantissa, exponent = split_float32(np.abs(x))
    exponent = np.where(x == 0, -(2**20), exponent)
    return Float32Integers(np.where(x < 0, -mantissa, mantissa), exponent)


def in_floats(x: Float32Integers) -> Float32Array:
    return np.ldexp(x.mantissa.astype(np.float64), x.exponent).astype(np.float32)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
@given(numbers, numbers)
def test_an_operation_is_numpys(name: str, a: Float32Array, b: Float32Array) -> None:
    compute, expected = OPERATIONS[name]
    b = np.where(b == 0, np.float32(3), b) if name == "divide" else b
    got = in_floats(compute(in_integers(a), in_integers(b)))
    np.testing.assert_array_equal(got, expected(a, b))


def test_a_small_number_below_a_power_of_two() -> None:
    """Just below 2^k numbers lie twice as close, so that less is needed to leave it."""
    power = np.array([2.0**30], np.float32)
    for exponent in range(-20, 12):
        small = np.array([-(2.0**exponent)], np.float32)
        for factor in (np.float32(1), np.float32(1.0000001), np.float32(0.9999999)):
            got = in_floats(
                float32_in_integers.add(in_integers(power), in_integers(small * factor))
            )
            np.testing.assert_array_equal(got, power + small * factor)


def test_a_quotient_just_above_a_tie() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(2**23, 2**24, 200_000).astype(np.float32)
    b = rng.integers(2**23, 2**24, 200_000).astype(np.float32)
    got = in_floats(float32_in_integers.divide(in_integers(a), in_integers(b)))
    np.testing.assert_array_equal(got, a / b)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize("scale", [1e-8, 1 / 3, 0.02, 1e4])
def test_codes_there_and_back(dtype: npt.DTypeLike, scale: float) -> None:
    info = np.iinfo(np.dtype(dtype))
    codes = np.arange(int(info.min), int(info.max) + 1).astype(dtype)
    x = per_tensor(scale, int(info.max) - 3, dtype)
    real = dequantizer_in_integers(x)(codes)
    np.testing.assert_array_equal(in_floats(real), dequantize(codes, x))
    np.testing.assert_array_equal(quantizer_in_integers(x)(real), codes)
    for factor in (0.5, 2.0, 1.37, 1e-9, 1e9):
        y = per_tensor(scale * factor, 5, dtype)
        expected = quantize(dequantize(codes, x), y)
        np.testing.assert_array_equal(quantizer_in_integers(y)(real), expected)


def test_quotients_by_zero_saturate() -> None:
    y = per_tensor(1.0, 0, np.int16)
    zero = in_integers(np.zeros(3, np.float32))
    quotient = float32_in_integers.divide(in_integers(np.array([2.0, -2.0, 0.0], np.float32)), zero)
    assert quantizer_in_integers(y)(quotient).tolist() == [32767, -32768, -32768]
