"""Fixed-point multiplication as gemmlowp and TFLite define it: integers only.

A real multiplier ``M`` becomes an int32 mantissa ``m`` in ``[2^30, 2^31)`` and a shift ``s`` once,
``M ≈ m * 2^(s - 31)``; afterwards ``x * M`` is a saturating rounding doubling high multiplication
followed by a rounding division by a power of two. Sources: gemmlowp ``fixedpoint/fixedpoint.h``
(``SaturatingRoundingDoublingHighMul``, ``RoundingDivideByPOT``), TensorFlow Lite
``kernels/internal/quantization_util.cc`` (``QuantizeMultiplier``), Jacob et al. 2018, section 2.2.

The int64 sums of 16-bit codes take another way, with one rounding and a multiplier of 16 bits:
TensorFlow Lite ``kernels/internal/common.cc`` (``MultiplyByQuantizedMultiplier(int64_t ...)``).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantkit.errors import NonFiniteRangeError, ShapeMismatchError

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]

_INT32_MIN = -(2**31)
_INT32_MAX = 2**31 - 1
_SMALLEST_SHIFT = -31
_LARGEST_SHIFT = 30
# The range TFLite asks of an int64 sum: with a multiplier of 16 bits the product fits int64.
_WIDE_MIN = -(2**47)
_WIDE_MAX = 2**47 - 1
_LARGEST_WIDE_SHIFT = 14


@dataclass(frozen=True, slots=True, eq=False)
class FixedPointMultiplier:
    """A non-negative real multiplier ``mantissa * 2^(shift - 31)``.

    Attributes:
        mantissa: int32 ``()`` or ``(C,)``, in ``[2^30, 2^31)``, or 0 for a multiplier of zero.
        shift: int32, shaped like ``mantissa``, in [-31, 30]; positive shifts left.
    """

    mantissa: Int32Array
    shift: Int32Array

    def __post_init__(self) -> None:
        if self.mantissa.dtype != np.int32 or self.shift.dtype != np.int32:
            raise ShapeMismatchError(
                f"mantissa and shift must be int32, got {self.mantissa.dtype}, {self.shift.dtype}"
            )
        if self.mantissa.shape != self.shift.shape or self.mantissa.ndim > 1:
            raise ShapeMismatchError(
                f"mantissa and shift must share a shape () or (C,), got {self.mantissa.shape} "
                f"and {self.shift.shape}"
            )
        if np.any((self.mantissa < 2**30) & (self.mantissa != 0)):
            raise ShapeMismatchError("a mantissa lies in [2^30, 2^31) or is 0")
        if np.any((self.shift < _SMALLEST_SHIFT) | (self.shift > _LARGEST_SHIFT)):
            raise ShapeMismatchError(
                f"a shift lies in [{_SMALLEST_SHIFT}, {_LARGEST_SHIFT}], got {self.shift}"
            )

    @classmethod
    def from_real(cls, multiplier: npt.ArrayLike) -> "FixedPointMultiplier":
        """``mantissa = round(f * 2^31)`` where ``multiplier = f * 2^shift``, f in [1/2, 1).

        Halves round away from zero. A mantissa that rounds up to 2^31 becomes 2^30 with the shift
        raised by one. As in TFLite, a multiplier below 2^-32 (denormals too) becomes exactly 0 and
        one of 2^30 or more becomes the largest, ``(2^31 - 1) * 2^-1``.

        Args:
            multiplier: Finite numbers >= 0, ``()`` or ``(C,)``; read as float64.

        Raises:
            NonFiniteRangeError: A multiplier is negative, NaN or infinite.
        """
        real = np.asarray(multiplier, np.float64)
        if not np.all(np.isfinite(real)) or np.any(real < 0):
            raise NonFiniteRangeError(f"a multiplier must be finite and >= 0, got {real}")
        fraction, exponent = np.frexp(real)
        # f * 2^31 < 2^31 leaves 22 bits of a float64 free, so adding a half is exact.
        mantissa = np.floor(fraction * 2.0**31 + 0.5).astype(np.int64)
        shift = exponent.astype(np.int64)
        carried = mantissa == 2**31
        mantissa = np.where(carried, 2**30, mantissa)
        shift = np.where(carried, shift + 1, shift)
        too_small = (shift < _SMALLEST_SHIFT) | (mantissa == 0)
        too_large = shift > _LARGEST_SHIFT
        mantissa = np.where(too_small, 0, np.where(too_large, _INT32_MAX, mantissa))
        shift = np.where(too_small, 0, np.where(too_large, _LARGEST_SHIFT, shift))
        return cls(mantissa.astype(np.int32), shift.astype(np.int32))

    def divided_by(self, count: int) -> "FixedPointMultiplier":
        """The multiplier of an average over ``count`` items, with integers only.

        ``mantissa = round(mantissa * 2^k / count)``, halves up, where ``k`` brings it back to
        [2^30, 2^31). TFLite's Mean does the same without the rounding.

        Args:
            count: At least 1.

        Raises:
            ShapeMismatchError: There is one multiplier per channel.
        """
        if self.mantissa.ndim:
            raise ShapeMismatchError(f"one multiplier expected, got {self.mantissa.shape}")
        mantissa, up = int(self.mantissa), (count - 1).bit_length()
        quotient = (2 * (mantissa << up) + count) // (2 * count)
        if quotient >= 2**31:
            up -= 1
            quotient = (2 * (mantissa << up) + count) // (2 * count)
        shift = int(self.shift) - up
        if shift < _SMALLEST_SHIFT:
            quotient, shift = 0, 0
        return type(self)(np.array(quotient, np.int32), np.array(shift, np.int32))


def saturating_rounding_doubling_high_mul(a: Int32Array, b: Int32Array) -> Int32Array:
    """``saturate(round(a * b / 2^31))``: the high half of twice the product.

    Read as fixed-point fractions of 2^31 it is the product of two numbers in [-1, 1). Halves round
    towards plus infinity (gemmlowp's nudge ``1 - 2^30`` with truncation comes to that). The only
    product that overflows, ``-2^31 * -2^31``, saturates to ``2^31 - 1``.

    Args:
        a: int32, any shape.
        b: int32, broadcastable against ``a``.

    Returns:
        int32, the broadcast shape.

    Raises:
        ShapeMismatchError: An operand is not int32.
    """
    _require_int32(a, b)
    return _high_mul(a, b).astype(np.int32)


def rounding_divide_by_power_of_two(x: Int32Array, exponent: Int32Array) -> Int32Array:
    """``round(x / 2^exponent)``, halves away from zero.

    Args:
        x: int32, any shape.
        exponent: int32 in [0, 31], broadcastable against ``x``.

    Returns:
        int32, the broadcast shape.

    Raises:
        ShapeMismatchError: An operand is not int32, or an exponent is outside [0, 31].
    """
    _require_int32(x, exponent)
    if np.any((exponent < 0) | (exponent > 31)):
        raise ShapeMismatchError(f"an exponent lies in [0, 31], got {exponent}")
    wide = np.broadcast_to(x, np.broadcast_shapes(x.shape, exponent.shape)).astype(np.int64)
    return _divide(wide, exponent).astype(np.int32)


def multiply_by_quantized_multiplier(
    x: Int32Array, mantissa: Int32Array, shift: Int32Array
) -> Int32Array:
    """``round(round(saturate(x * 2^left) * mantissa / 2^31) / 2^right)``.

    ``left = max(shift, 0)``, ``right = max(-shift, 0)``; the left shift saturates to int32
    (gemmlowp's ``SaturatingRoundingMultiplyByPOT``), the inner rounding sends halves up, the outer
    one away from zero.

    Args:
        x: int32, any shape.
        mantissa: int32, broadcastable against ``x`` and no larger.
        shift: int32, shaped like ``mantissa``, in [-31, 30].

    Returns:
        int32, the broadcast shape.

    Raises:
        ShapeMismatchError: An operand is not int32.
    """
    _require_int32(x, mantissa, shift)
    if np.any(shift > 0):
        shifted = x.astype(np.int64) << np.maximum(shift, 0).astype(np.int64)
        x = np.clip(shifted, _INT32_MIN, _INT32_MAX).astype(np.int32)
    return _divide(_high_mul(x, mantissa), np.maximum(-shift, 0)).astype(np.int32)


def multiply_int64_by_quantized_multiplier(
    x: Int64Array, mantissa: Int32Array, shift: Int32Array
) -> Int32Array:
    """``saturate(floor(x * reduced / 2^(15 - shift) + 1/2))``, ``reduced`` the upper 16 bits.

    ``reduced = min((mantissa + 2^15) >> 16, 2^15 - 1)``; the one rounding sends halves up. TFLite
    asks for ``-2^47 <= x < 2^47``, shifts below 8 and results within int32, and checks neither in a
    release build: here all three saturate, and shifts go on to 30.

    Args:
        x: int64, any shape.
        mantissa: int32, broadcastable against ``x``.
        shift: int32, shaped like ``mantissa``, in [-31, 30].

    Returns:
        int32, the broadcast shape.

    Raises:
        ShapeMismatchError: ``x`` is not int64, or mantissa or shift not int32.
    """
    _require_int32(mantissa, shift)
    if x.dtype != np.int64:
        raise ShapeMismatchError(f"int64 expected, got {x.dtype}")
    reduced = np.minimum((mantissa.astype(np.int64) + 2**15) >> 16, 2**15 - 1)
    right = np.minimum(shift, _LARGEST_WIDE_SHIFT).astype(np.int64)
    x = np.clip(x, _WIDE_MIN, _WIDE_MAX)
    if np.any(shift > right):
        x = np.clip(x << (shift - right), _WIDE_MIN, _WIDE_MAX)
    product = (x * reduced + (np.int64(1) << (_LARGEST_WIDE_SHIFT - right))) >> (15 - right)
    saturated: Int32Array = np.clip(product, _INT32_MIN, _INT32_MAX).astype(np.int32)
    return saturated


def _high_mul(a: Int32Array, b: Int32Array) -> Int64Array:
    product: Int64Array = np.asarray(np.multiply(a, b, dtype=np.int64))
    product += 2**30
    product >>= 31
    np.minimum(product, _INT32_MAX, out=product)
    return product


def _divide(x: Int64Array, exponent: Int32Array) -> Int64Array:
    """Divides ``x`` in place. floor((x + half) / 2^e) rounds halves up; 1 less below 0, away."""
    wide_exponent = exponent.astype(np.int64)
    below_zero = x >> 63
    below_zero &= -(wide_exponent > 0).astype(np.int64)
    x += (np.int64(1) << wide_exponent) >> 1
    x += below_zero
    x >>= wide_exponent
    return x


def _require_int32(*arrays: npt.NDArray[np.generic]) -> None:
    for array in arrays:
        if array.dtype != np.int32:
            raise ShapeMismatchError(f"int32 expected, got {array.dtype}")
