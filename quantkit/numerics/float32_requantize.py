"""onnxruntime's requantization, defined in integers, and a float32 carrier that equals it.

``q = saturate(rint(f32(f32(accumulator) * M)) + zero_point)``, ``M = f32(f32(s_x * s_w) / s_y)``.
There are three roundings, each half to even: the accumulator (int32, or int64 where codes have 16
bits) to 24 significant bits, the product to 24 significant bits, and the result to an integer. IEEE
754 fixes the result of each, so integers can state it (:func:`requantize_in_integers`, the
definition) and a float32 array can compute it fast (:func:`requantize_in_float32`); a property test
holds the two equal.

MLAS clamps the float product to ``[qmin - z, qmax - z]`` *before* rounding. The bounds are integers
and ``rint`` is monotone and fixes integers, so ``rint(clamp(v)) = clamp(rint(v))``: the same codes.
Source: onnxruntime ``core/mlas/lib/quantize.cpp`` (``MlasRequantizeOutput``).
"""

from fractions import Fraction
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from quantkit.errors import NonFiniteRangeError
from quantkit.numerics.affine import IntegerArray
from quantkit.numerics.integer_gemm import Carrier

Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]
Magnitude = TypeVar("Magnitude", Int64Array, npt.NDArray[np.uint64])

_SIGNIFICAND_BITS = 24
# Beyond these every product of an accumulator and a 24-bit mantissa is 0 or saturates.
_LARGEST_RIGHT_SHIFT = 62
_LARGEST_LEFT_SHIFT = 30


def split_float32(multiplier: Float32Array) -> tuple[Int64Array, Int64Array]:
    """``multiplier = mantissa * 2^exponent``, exactly.

    Args:
        multiplier: float32 >= 0, any shape; denormals and 0 are allowed.

    Returns:
        mantissa: int64 in [0, 2^24), shaped like ``multiplier``.
        exponent: int64, shaped like ``multiplier``.

    Raises:
        NonFiniteRangeError: A multiplier is negative, NaN or infinite.
    """
    if not np.all(np.isfinite(multiplier)) or np.any(multiplier < 0):
        raise NonFiniteRangeError(f"a multiplier must be finite and >= 0, got {multiplier}")
    fraction, exponent = np.frexp(multiplier.astype(np.float64))
    mantissa = np.asarray(fraction * 2.0**_SIGNIFICAND_BITS).astype(np.int64)
    return mantissa, np.asarray(exponent).astype(np.int64) - _SIGNIFICAND_BITS


def nearest_float32(value: Fraction) -> tuple[int, int]:
    """The float32 nearest to a positive rational, half to even, as ``mantissa * 2^exponent``.

    For numbers that are only known while a kernel runs (how many codes an average takes): no float
    is involved. The exponent's range is not limited.

    Args:
        value: Greater than 0.

    Returns:
        The mantissa, in [2^23, 2^24], and the exponent.
    """
    exponent = value.numerator.bit_length() - value.denominator.bit_length() - _SIGNIFICAND_BITS
    if value / Fraction(2) ** exponent >= 2**_SIGNIFICAND_BITS:
        exponent += 1
    # Fraction's round() is half to even.
    return round(value / Fraction(2) ** exponent), exponent


def float32_multiplier(
    x_scale: Float32Array, weight_scale: Float32Array, y_scale: Float32Array
) -> Float32Array:
    """``M = f32(f32(x_scale * weight_scale) / y_scale)``, rounded after each step.

    Args:
        x_scale: float32 ``()``.
        weight_scale: float32 ``()`` or ``(C,)``.
        y_scale: float32 ``()``.

    Returns:
        float32, shaped like ``weight_scale``.

    Raises:
        NonFiniteRangeError: The scales differ so much that M is infinite.
    """
    with np.errstate(over="ignore", under="ignore"):
        multiplier = np.asarray((x_scale * weight_scale) / y_scale, np.float32)
    if not np.all(np.isfinite(multiplier)):
        raise NonFiniteRangeError(
            f"the multiplier {np.max(x_scale)} * {np.max(weight_scale)} / {np.max(y_scale)} is not "
            "a finite float32; the scales are unusable"
        )
    return multiplier


def round_to_24_bits(magnitude: Magnitude) -> Magnitude:
    """The nearest integer with at most 24 significant bits, half to even: what float32 stores.

    Args:
        magnitude: int64 >= 0 and below 2^62, or uint64 up to 2^63, any shape.

    Returns:
        Of the same dtype and shape.
    """
    mask = _bits_below_24(magnitude)
    odd = ((magnitude & (mask + 1)) != 0) & (mask != 0)
    rounded: Magnitude = (magnitude + (mask >> 1) + odd) & ~mask
    return rounded


def _bits_below_24(magnitude: Magnitude) -> Magnitude:
    """``2^e - 1``, where ``2^e`` is the last of the 24 bits that begin with the leading one."""
    # Every bit below the leading one set, then 24 of them dropped.
    mask = magnitude.copy()
    for shift in (1, 2, 4, 8, 16, 32):
        mask |= mask >> shift
    mask >>= _SIGNIFICAND_BITS
    return mask


def _leading_24_bits(signed: Int64Array) -> tuple[Int64Array, Int64Array]:
    """``round_to_24_bits(|signed|) = leading * 2^exponent`` with ``leading <= 2^24``, of any int64.

    The product of ``leading`` and a mantissa then fits int64; that of a wide sum would not.
    """
    # The magnitude of -2^63 is no int64.
    magnitude = np.abs(signed).view(np.uint64)
    exponent = np.bitwise_count(_bits_below_24(magnitude)).astype(np.int64)
    leading = round_to_24_bits(magnitude) >> exponent.view(np.uint64)
    return leading.view(np.int64), exponent


def shift_right_half_to_even(magnitude: Int64Array, shift: Int64Array) -> Int64Array:
    """``rint(magnitude / 2^shift)``, half to even.

    Args:
        magnitude: int64 >= 0 and below 2^62, any shape.
        shift: int64 in [0, 62], broadcastable.

    Returns:
        int64, the broadcast shape.
    """
    unit = np.int64(1) << shift
    floor = magnitude >> shift
    # Below a half rounds down, above up, and a half up only to an even result.
    rounded: Int64Array = (magnitude + ((unit - 1) >> 1) + (floor & 1 & (shift > 0))) >> shift
    return rounded


def requantize_in_integers(
    accumulator: Carrier,
    mantissa: Int64Array,
    exponent: Int64Array,
    zero_point: int,
    out: IntegerArray,
) -> None:
    """``clamp(rint(f32(f32(accumulator) * M)) + zero_point)`` with integer arrays only.

    Args:
        accumulator: int64, or integers in the range of int32, any shape.
        mantissa: M's mantissa (:func:`split_float32`), broadcastable against ``accumulator``.
        exponent: M's exponent, shaped like ``mantissa``.
        zero_point: The output's zero point.
        out: Where the codes go; of 8 or 16 bits, shaped like ``accumulator``.
    """
    bounds = np.iinfo(out.dtype)
    signed = accumulator.astype(np.int64)
    if accumulator.dtype == np.int64:
        rounded, raised = _leading_24_bits(signed)
        exponent = exponent + raised
    else:
        rounded = round_to_24_bits(np.abs(signed))
    product = round_to_24_bits(rounded * mantissa)
    magnitude = shift_right_half_to_even(product, np.clip(-exponent, 0, _LARGEST_RIGHT_SHIFT))
    # Left shifts: what reaches 2^30 saturates with or without the shift.
    np.minimum(magnitude, 2**30, out=magnitude)
    magnitude = magnitude << np.clip(exponent, 0, _LARGEST_LEFT_SHIFT)
    code = np.where(signed < 0, -magnitude, magnitude)
    code += zero_point
    np.clip(code, bounds.min, bounds.max, out=code)
    np.copyto(out, code, casting="unsafe")


def requantize_in_float32(
    accumulator: Carrier,
    multiplier: Float32Array,
    zero_point: int,
    out: IntegerArray,
) -> None:
    """The same codes as :func:`requantize_in_integers`, carried in float32.

    A float32 accumulator must hold integers of at most 24 bits; it is overwritten.

    Args:
        accumulator: int32 or int64, or float32 or float64 holding such integers, any shape.
        multiplier: float32, broadcastable against ``accumulator``.
        zero_point: The output's zero point.
        out: Where the codes go; int8 or uint8 (or 16 bits), shaped like ``accumulator``.
    """
    bounds = np.iinfo(out.dtype)
    value = accumulator.astype(np.float32, copy=False)
    with np.errstate(over="ignore"):
        np.multiply(value, multiplier, out=value)
    low, high = np.float32(bounds.min - zero_point), np.float32(bounds.max - zero_point)
    np.clip(value, low, high, out=value)
    np.rint(value, out=value)
    value += np.float32(zero_point)
    np.copyto(out, value, casting="unsafe")
