"""Elementwise functions of codes with int32 multipliers and shifts, as TFLite computes them.

``MBQM(x, M)`` is :func:`~quantkit.numerics.fixed_point.multiply_by_quantized_multiplier` by the
float64 number M. Sources: TensorFlow Lite ``kernels/internal/reference/`` (add, sub, mul, prelu,
requantize).

TFLite's Add shifts every difference left by the same 20 bits before it meets its multiplier, which
leaves the sum an error of about 2^-20 of the larger scale. Where the output's scale is as small as
that, sums are codes away from the exact ones: at ``max(s_a, s_b) / s_y`` of 2^16, 2^20, 2^21, 2^23
and 2^25 by up to 0.7, 1.5, 3, 12 and 49 (half a code is the rounding; all pairs of 8-bit codes, 120
to 700 random triples of parameters each). With 16-bit codes, shifted by 14: by 0.56 at 2^8, 1.6 at
2^14, 6 at 2^16. That is TFLite's own behaviour and is kept.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from quantkit.numerics.affine import FloatArray, IntegerArray, QuantParams, dequantize
from quantkit.numerics.code_table import (
    PairedCodes,
    UnaryCodes,
    every_code,
    look_up,
    tabulate_pairs,
)
from quantkit.numerics.fixed_point import (
    FixedPointMultiplier,
    Int32Array,
    multiply_by_quantized_multiplier,
    multiply_int64_by_quantized_multiplier,
)
from quantkit.numerics.requantizer import RealFunction

# By bytes of a code. TFLite shifts int16 by 15, whose zero points it fixes at 0; with any other
# zero point a difference has a bit more.
_LEFT_SHIFT = {1: 20, 2: 14}


def write_codes(
    accumulator: npt.NDArray[Any],
    mantissa: Int32Array,
    shift: Int32Array,
    y: QuantParams,
    out: IntegerArray,
) -> None:
    """``saturate(MBQM(accumulator, M) + z_y)`` into ``out``.

    Args:
        accumulator: int32, or int64 for ``multiply_int64_by_quantized_multiplier``; any shape.
        mantissa: M's mantissa, broadcastable against ``accumulator``.
        shift: M's shift, shaped like ``mantissa``.
        y: Parameters of the output.
        out: Codes, shaped like ``accumulator``; may be a view.
    """
    is_wide = accumulator.dtype == np.int64
    multiply = (
        multiply_int64_by_quantized_multiplier if is_wide else multiply_by_quantized_multiplier
    )
    scaled = multiply(accumulator, mantissa, shift)
    # Clamp first: adding the zero point to an int32 near its limits would wrap.
    zero_point = int(y.zero_point)
    np.clip(scaled, y.qmin - zero_point, y.qmax - zero_point, out=scaled)
    scaled += zero_point
    np.copyto(out, scaled, casting="unsafe")


def tabulated(function: RealFunction, x: QuantParams, y: QuantParams) -> UnaryCodes:
    """``saturate(round(function(dequantize(q)) / s_y) + z_y)`` in float64, halves away from 0.

    Infinity saturates; NaN becomes the smallest code.
    """
    with np.errstate(all="ignore"):
        real = function(dequantize(every_code(x), x).astype(np.float64))
        scaled = np.where(np.isnan(real), -np.inf, real / float(y.scale))
        code = np.clip(_round_half_away(scaled) + int(y.zero_point), y.qmin, y.qmax)
    return look_up(code.astype(y.dtype), x)


def rescaled(x: QuantParams, y: QuantParams) -> UnaryCodes:
    """``saturate(MBQM(q - z_x, s_x / s_y) + z_y)``; the identity between equal parameters."""
    if x.equals(y):
        return lambda q: q
    codes = every_code(x)
    table = np.empty(codes.shape, y.dtype)
    multiplier = FixedPointMultiplier.from_real(float(x.scale) / float(y.scale))
    write_codes(_difference(codes, x), multiplier.mantissa, multiplier.shift, y, table)
    return look_up(table, x)


def sum_of(a: QuantParams, b: QuantParams, y: QuantParams, *, sign: int = 1) -> PairedCodes:
    """``saturate(MBQM(MBQM((a - z_a) << k, M_a) ± MBQM((b - z_b) << k, M_b), M_y) + z_y)``.

    ``M_a = s_a / t``, ``M_b = s_b / t``, ``M_y = t / (2^k * s_y)`` with ``t = 2 * max(s_a, s_b)``;
    k = 20, for 16-bit codes 14.

    Args:
        a: Parameters of the first operand.
        b: Parameters of the second operand.
        y: Parameters of the output.
        sign: 1 to add, -1 to subtract.
    """
    left = min(_LEFT_SHIFT[each.dtype.itemsize] for each in (a, b))
    twice_larger = 2.0 * max(float(a.scale), float(b.scale))
    a_multiplier = FixedPointMultiplier.from_real(float(a.scale) / twice_larger)
    b_multiplier = FixedPointMultiplier.from_real(float(b.scale) / twice_larger)
    y_multiplier = FixedPointMultiplier.from_real(twice_larger / (2.0**left * float(y.scale)))

    def aligned(
        q: IntegerArray, params: QuantParams, multiplier: FixedPointMultiplier
    ) -> Int32Array:
        shifted = _difference(q, params) << left
        return multiply_by_quantized_multiplier(shifted, multiplier.mantissa, multiplier.shift)

    def add(a_q: IntegerArray, b_q: IntegerArray) -> IntegerArray:
        total = aligned(a_q, a, a_multiplier) + sign * aligned(b_q, b, b_multiplier)
        out = np.empty(total.shape, y.dtype)
        write_codes(total, y_multiplier.mantissa, y_multiplier.shift, y, out)
        return out

    return tabulate_pairs(add, a, b)


def product_of(a: QuantParams, b: QuantParams, y: QuantParams) -> PairedCodes:
    """``saturate(MBQM((a - z_a) * (b - z_b), s_a * s_b / s_y) + z_y)``.

    Products that int32 may not hold (16-bit codes with zero points) are int64 and take
    ``multiply_int64_by_quantized_multiplier``.
    """
    multiplier = FixedPointMultiplier.from_real(float(a.scale) * float(b.scale) / float(y.scale))
    is_wide = _reach(a) * _reach(b) > 2**31 - 1

    def multiply(a_q: IntegerArray, b_q: IntegerArray) -> IntegerArray:
        dtype = np.int64 if is_wide else np.int32
        product = np.multiply(_difference(a_q, a), _difference(b_q, b), dtype=dtype)
        out = np.empty(product.shape, y.dtype)
        write_codes(product, multiplier.mantissa, multiplier.shift, y, out)
        return out

    return tabulate_pairs(multiply, a, b)


def quotient_of(a: QuantParams, b: QuantParams, y: QuantParams) -> PairedCodes:
    """``saturate(MBQM(round(((a - z_a) << k) / (b - z_b)), s_a / (s_b * s_y * 2^k)) + z_y)``.

    k is the largest shift that cannot overflow; halves round away from zero. TFLite's Div has a
    table for the reciprocal instead. A quotient by zero saturates, ``0 / 0`` downwards.
    """
    left = 31 - _reach(a).bit_length()
    ratio = float(a.scale) / (float(b.scale) * float(y.scale))
    multiplier = FixedPointMultiplier.from_real(ratio / 2.0**left)

    def divide(a_q: IntegerArray, b_q: IntegerArray) -> IntegerArray:
        dividend = _difference(a_q, a).astype(np.int64) << left
        divisor = _difference(b_q, b).astype(np.int64)
        size = np.maximum(np.abs(divisor), 1)
        magnitude = (2 * np.abs(dividend) + size) // (2 * size)
        quotient = np.where((dividend < 0) != (divisor < 0), -magnitude, magnitude)
        out = np.empty(quotient.shape, y.dtype)
        write_codes(quotient.astype(np.int32), multiplier.mantissa, multiplier.shift, y, out)
        ends = np.where(dividend > 0, np.array(y.qmax, y.dtype), np.array(y.qmin, y.dtype))
        np.copyto(out, ends, where=divisor == 0)
        return out

    return tabulate_pairs(divide, a, b)


def leaky_product_of(x: QuantParams, slope: QuantParams, y: QuantParams) -> PairedCodes:
    """:func:`rescaled` where ``x >= z_x``, otherwise :func:`product_of`."""
    rescale, multiply = rescaled(x, y), product_of(x, slope, y)

    def function(x_q: IntegerArray, slope_q: IntegerArray) -> IntegerArray:
        return np.where(x_q >= int(x.zero_point), rescale(x_q), multiply(x_q, slope_q))

    return tabulate_pairs(function, x, slope)


def _difference(q: IntegerArray, params: QuantParams) -> Int32Array:
    difference: Int32Array = q.astype(np.int32) - int(params.zero_point)
    return difference


def _reach(params: QuantParams) -> int:
    zero_point = int(params.zero_point)
    return max(params.qmax - zero_point, zero_point - params.qmin)


def _round_half_away(value: FloatArray) -> FloatArray:
    whole = np.floor(np.abs(value))
    rounded: FloatArray = np.copysign(whole + (np.abs(value) - whole >= 0.5), value)
    return rounded
