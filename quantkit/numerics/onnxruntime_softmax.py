"""onnxruntime's QLinearSoftmax, bit for bit.

``saturate(rint(e * N / sum(e)) + z_y)`` with ``N = floor(f32(1 / s_y))``; the quotient of float32
numbers is computed in float64. ``e = f32(exp((q - max) * s_x + shift))`` comes from a table of 256
entries, where ``shift = max(0, f32(log(f32(FLT_MAX / length))) - 5)`` keeps the sum finite; the sum
adds in order, each addition rounded to float32. Source: ``contrib_ops/cpu/quantization/
qlinear_softmax.cc``.

Compared with onnxruntime 1.32 in the default mode: of 5 * 10^7 uint8 codes, and of 2.5 * 10^7 codes
of both dtypes, in rows of 1 to 1,000 classes, ties included, 0 differ.
"""

from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache

import numpy as np
import numpy.typing as npt

from quantkit.errors import UnsupportedOpError
from quantkit.numerics.affine import IntegerArray, QuantParams
from quantkit.numerics.float32_requantize import nearest_float32, round_to_24_bits
from quantkit.numerics.requantizer import RowSoftmax

Float32Array = npt.NDArray[np.float32]

# Reserved by onnxruntime, as a natural logarithm.
_HEADROOM = 5
_LARGEST_FLOAT32 = (2**24 - 1) * 2**104
_CARRIED_BITS = 61
_LARGEST_FACTOR = 2**17
_DIGITS = 40


def qlinear_softmax(x: QuantParams, y: QuantParams) -> RowSoftmax:
    """The formula above, in float32 and float64.

    Args:
        x: Parameters of the input codes, 8 bits, per tensor.
        y: Parameters of the probabilities.
    """
    factor = _factor(y)

    def softmax(x_q: IntegerArray) -> IntegerArray:
        wide = x_q.astype(np.int64)
        table = _exponentials(float(x.scale), x_q.shape[-1])
        weight = table[wide.max(axis=-1, keepdims=True) - wide]
        # cumsum adds one by one; sum would add pairwise.
        total = np.cumsum(weight, axis=-1)[..., -1:]
        code = np.rint(weight.astype(np.float64) * factor / total) + int(y.zero_point)
        codes: IntegerArray = np.clip(code, y.qmin, y.qmax).astype(y.dtype)
        return codes

    return softmax


def qlinear_softmax_in_integers(x: QuantParams, y: QuantParams) -> RowSoftmax:
    """The same codes with integers only: the table's float32 numbers as multiples of a power of 2.

    The table depends on the length of the rows, which is known only when the kernel runs, so it is
    computed in decimals: no float in any step. Entries too small for such a multiple are rounded;
    they would have to decide a tie to be noticed: of 8.8 * 10^7 codes of both dtypes, in rows of 1
    to 1,000 classes, 0 differ from :func:`qlinear_softmax`.

    Args:
        x: Parameters of the input codes, 8 bits, per tensor.
        y: Parameters of the probabilities.

    Raises:
        UnsupportedOpError: The scale of ``y`` is below 2^-17.
    """
    factor = _factor(y)
    if factor > _LARGEST_FACTOR:
        raise UnsupportedOpError(
            f"softmax in integers needs an output scale of at least {1 / _LARGEST_FACTOR}, got "
            f"{y.scale}; run without strict_integer"
        )
    zero_point, scale = int(y.zero_point), Fraction(float(x.scale))

    @cache
    def multiples(length: int) -> npt.NDArray[np.int64]:
        bits = _CARRIED_BITS - max(length.bit_length(), (2 * factor).bit_length())
        exponentials = _exponentials_in_decimals(scale, length)
        top = nearest_float32(exponentials[0])[1]
        rounded = [
            mantissa * Fraction(2) ** (exponent - top + bits - 24)
            for mantissa, exponent in map(nearest_float32, exponentials)
        ]
        return np.array([round(entry) for entry in rounded], np.int64)

    def softmax(x_q: IntegerArray) -> IntegerArray:
        wide = x_q.astype(np.int64)
        weight = multiples(x_q.shape[-1])[wide.max(axis=-1, keepdims=True) - wide]
        total = np.zeros((*x_q.shape[:-1], 1), np.int64)
        for column in range(x_q.shape[-1]):
            total = round_to_24_bits(total + weight[..., column : column + 1])
        quotient, rest = np.divmod(weight * factor, total)
        above_half = (2 * rest > total) | ((2 * rest == total) & (quotient % 2 == 1))
        code = quotient + above_half + zero_point
        codes: IntegerArray = np.clip(code, y.qmin, y.qmax).astype(y.dtype)
        return codes

    return softmax


def _factor(y: QuantParams) -> int:
    with np.errstate(over="ignore"):
        return int(np.floor(np.float32(1) / y.scale))


@cache
def _exponentials(scale: float, length: int) -> Float32Array:
    """By distance from the row's largest code."""
    # NumPy's float32 logarithm may be off by one in the last bit; C's is not.
    largest = np.float32(np.finfo(np.float32).max) / np.float32(length)
    shift = max(0.0, float(np.float32(np.log(np.float64(largest)))) - _HEADROOM) / scale
    with np.errstate(under="ignore"):
        table: Float32Array = np.exp((np.arange(255, -1, -1) - 255 + shift) * scale).astype(
            np.float32
        )
    return table


def _exponentials_in_decimals(scale: Fraction, length: int) -> list[Fraction]:
    """:func:`_exponentials` before its last rounding, with 40 digits."""

    def float32(value: Decimal | Fraction) -> Decimal:
        mantissa, exponent = nearest_float32(Fraction(value))
        return Decimal(mantissa) * Decimal(2) ** exponent

    with localcontext() as context:
        context.prec = _DIGITS
        step = Decimal(scale.numerator) / Decimal(scale.denominator)
        largest = float32(float32(Fraction(_LARGEST_FLOAT32, length)).ln())
        shift = max(Decimal(0), largest - _HEADROOM)
        # Further down no multiple is left.
        exponents = [max(shift - distance * step, Decimal(-200)) for distance in range(256)]
        return [Fraction(exponent.exp()) for exponent in exponents]
