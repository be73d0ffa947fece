"""gemmlowp's and TFLite's fixed-point arithmetic in Python integers: the definition.

Written after the C++ of gemmlowp's ``fixedpoint.h`` (``SaturatingRoundingDoublingHighMul``,
``RoundingDivideByPOT``) and of TFLite's ``quantization_util.cc`` (``QuantizeMultiplier``) and
``common.cc`` (``MultiplyByQuantizedMultiplier``), one function each.
"""

from fractions import Fraction

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


def high_mul(a: int, b: int) -> int:
    """SaturatingRoundingDoublingHighMul, with C++'s truncating division."""
    if a == b == INT32_MIN:
        return INT32_MAX
    product = a * b
    nudged = product + (2**30 if product >= 0 else 1 - 2**30)
    return -(-nudged // 2**31) if nudged < 0 else nudged // 2**31


def divide(x: int, exponent: int) -> int:
    """RoundingDivideByPOT."""
    mask = (1 << exponent) - 1
    threshold = (mask >> 1) + (1 if x < 0 else 0)
    return (x >> exponent) + (1 if (x & mask) > threshold else 0)


def multiply(x: int, mantissa: int, shift: int) -> int:
    """MultiplyByQuantizedMultiplier of int32, its left shift saturating."""
    return divide(high_mul(saturate(x << max(shift, 0)), mantissa), max(-shift, 0))


def multiply_wide(x: int, mantissa: int, shift: int) -> int:
    """MultiplyByQuantizedMultiplier of int64 in ``[-2^47, 2^47)``.

    TFLite's formula needs a shift of at most 14; what is beyond is a saturating left shift before.
    """
    left = max(shift - 14, 0)
    x = saturate(x << left, -(2**47), 2**47 - 1)
    reduced = (mantissa + (1 << 15)) >> 16 if mantissa < 0x7FFF0000 else 0x7FFF
    total_shift = 15 - (shift - left)
    return (x * reduced + (1 << (total_shift - 1))) >> total_shift


def quantize_multiplier(real: float) -> tuple[int, int]:
    """QuantizeMultiplier: mantissa and shift; 2^30 and more saturates."""
    if real == 0.0:
        return 0, 0
    value, shift = Fraction(real), 0
    while value >= 1:
        value, shift = value / 2, shift + 1
    while value < Fraction(1, 2):
        value, shift = value * 2, shift - 1
    mantissa = int(value * 2**31 + Fraction(1, 2))
    if mantissa == 2**31:
        mantissa, shift = 2**30, shift + 1
    if shift < -31:
        return 0, 0
    return (INT32_MAX, 30) if shift > 30 else (mantissa, shift)


def saturate(value: int, low: int = INT32_MIN, high: int = INT32_MAX) -> int:
    return min(max(value, low), high)
