"""float32 arithmetic carried out in integers: IEEE 754's roundings without a float.

A number is ``mantissa * 2^exponent`` with at most 24 significant bits; every operation rounds its
exact result once, half to even, so each equals NumPy's float32 operation bit for bit. The range of
exponents is not limited: nothing overflows or is denormal, which numbers made from codes and usual
scales are not either. This is what ``DequantizeLinear -> op -> QuantizeLinear`` computes, for codes
that are too wide to tabulate all pairs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantkit.numerics.affine import IntegerArray, QuantParams
from quantkit.numerics.float32_requantize import shift_right_half_to_even, split_float32

Int64Array = npt.NDArray[np.int64]

_SIGNIFICAND_BITS = 24
# Of zero, so that a sum aligns to the other operand; and of infinity, which saturates any code.
_LOWEST_EXPONENT, _HIGHEST_EXPONENT = -(2**20), 2**20
_GUARD_BITS = 30
_QUOTIENT_BITS = 38


@dataclass(frozen=True, slots=True, eq=False)
class Float32Integers:
    """``mantissa * 2^exponent``.

    Attributes:
        mantissa: int64, ``2^23 <= |mantissa| <= 2^24``, or 0.
        exponent: int64, shaped like ``mantissa``.
    """

    mantissa: Int64Array
    exponent: Int64Array


def dequantizer_in_integers(params: QuantParams) -> Callable[[IntegerArray], Float32Integers]:
    """``f32((q - zero_point) * scale)``, per-tensor parameters; what is returned holds no float."""
    scale_mantissa, scale_exponent = split_float32(params.scale)
    zero_point = int(params.zero_point)

    def dequantize(q: IntegerArray) -> Float32Integers:
        return _rounded((q.astype(np.int64) - zero_point) * scale_mantissa, scale_exponent)

    return dequantize


def quantizer_in_integers(params: QuantParams) -> Callable[[Float32Integers], IntegerArray]:
    """``saturate(rint(f32(real / scale)) + zero_point)``; what is returned holds no float."""
    scale = Float32Integers(*split_float32(params.scale))
    zero_point = int(params.zero_point)

    def quantize(real: Float32Integers) -> IntegerArray:
        scaled = divide(real, scale)
        exponent = scaled.exponent
        magnitude = shift_right_half_to_even(np.abs(scaled.mantissa), np.clip(-exponent, 0, 62))
        # What reaches 2^17 saturates any code with or without more shifting.
        magnitude = magnitude << np.clip(exponent, 0, _SIGNIFICAND_BITS)
        code = np.where(scaled.mantissa < 0, -magnitude, magnitude) + zero_point
        codes: IntegerArray = np.clip(code, params.qmin, params.qmax).astype(params.dtype)
        return codes

    return quantize


def add(a: Float32Integers, b: Float32Integers) -> Float32Integers:
    """``f32(a + b)``, with broadcasting."""
    distance = a.exponent - b.exponent
    is_a_larger = distance >= 0
    larger = np.where(is_a_larger, a.mantissa, b.mantissa)
    smaller = np.where(is_a_larger, b.mantissa, a.mantissa)
    distance = np.abs(distance)
    # A number further below the other is less than half of its last bit.
    aligned = np.where(
        distance <= _GUARD_BITS,
        smaller << np.clip(_GUARD_BITS - distance, 0, _GUARD_BITS),
        0,
    )
    exponent = np.maximum(a.exponent, b.exponent) - _GUARD_BITS
    return _rounded((larger << _GUARD_BITS) + aligned, exponent)


def negate(a: Float32Integers) -> Float32Integers:
    """``-a``, exactly."""
    return Float32Integers(-a.mantissa, a.exponent)


def multiply(a: Float32Integers, b: Float32Integers) -> Float32Integers:
    """``f32(a * b)``, with broadcasting."""
    return _rounded(a.mantissa * b.mantissa, a.exponent + b.exponent)


def divide(a: Float32Integers, b: Float32Integers) -> Float32Integers:
    """``f32(a / b)``, with broadcasting.

    A quotient by zero saturates with the sign of ``a``; ``0 / 0`` saturates downwards, as the NaN
    that it is does in onnxruntime's QuantizeLinear.
    """
    divisor = np.abs(b.mantissa)
    dividend = np.abs(a.mantissa) << _QUOTIENT_BITS
    quotient, rest = np.divmod(dividend, np.maximum(divisor, 1))
    # The quotient has bits to spare; the lowest one remembers that there is a rest.
    quotient |= rest != 0
    signed = np.where((a.mantissa < 0) != (b.mantissa < 0), -quotient, quotient)
    exact = _rounded(signed, a.exponent - b.exponent - _QUOTIENT_BITS)
    infinity = np.where(a.mantissa > 0, 1 << (_SIGNIFICAND_BITS - 1), -1 << (_SIGNIFICAND_BITS - 1))
    return Float32Integers(
        np.where(divisor == 0, infinity, exact.mantissa),
        np.where(divisor == 0, _HIGHEST_EXPONENT, exact.exponent),
    )


def _rounded(exact: Int64Array, exponent: Int64Array) -> Float32Integers:
    """24 bits of ``exact * 2^exponent``, ``|exact| < 2^62``."""
    magnitude = np.abs(exact)
    below = magnitude.copy()
    for shift in (1, 2, 4, 8, 16, 32):
        below |= below >> shift
    surplus = np.bitwise_count(below).astype(np.int64) - _SIGNIFICAND_BITS
    rounded = shift_right_half_to_even(magnitude, np.maximum(surplus, 0))
    rounded = rounded << np.maximum(-surplus, 0)
    return Float32Integers(
        np.where(exact < 0, -rounded, rounded),
        np.where(exact == 0, _LOWEST_EXPONENT, exponent + surplus),
    )
