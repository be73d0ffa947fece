"""The arithmetic named "onnxruntime": the codes of onnxruntime's CPU kernels on x86, bit for bit.

Each method's docstring states the kernel's formula; ``f32`` marks every rounding to float32. The
files are onnxruntime's ``core/mlas/lib/`` (quantize, qlgavgpool). The tests compare with
onnxruntime itself. What it has no integer kernel for it computes in floats between
DequantizeLinear and QuantizeLinear, and so the formulas say here.

Longer formulas have modules of their own: :mod:`~quantkit.numerics.onnxruntime_elementwise`,
:mod:`~quantkit.numerics.onnxruntime_pooling`, :mod:`~quantkit.numerics.onnxruntime_softmax`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from quantkit.numerics import float32_in_integers, float32_requantize
from quantkit.numerics.affine import IntegerArray, QuantParams
from quantkit.numerics.code_table import PairedCodes, UnaryCodes, requantize_codes, tabulate_unary
from quantkit.numerics.float32_in_integers import Float32Integers
from quantkit.numerics.integer_gemm import Carrier
from quantkit.numerics.integer_softmax import integer_softmax
from quantkit.numerics.onnxruntime_elementwise import (
    has_integer_kernel,
    pairwise_in_float32,
    qlinear_add,
    qlinear_mul,
    qlinear_sigmoid,
)
from quantkit.numerics.onnxruntime_pooling import qlinear_average_pool
from quantkit.numerics.onnxruntime_softmax import qlinear_softmax, qlinear_softmax_in_integers
from quantkit.numerics.requantizer import (
    EVERY_CHANNEL,
    AverageRequantizer,
    RealFunction,
    Requantizer,
    RowSoftmax,
    WindowAverage,
    along_channels,
)


@dataclass(frozen=True, slots=True)
class OnnxruntimeArithmetic:
    """Float32 multipliers and halves to even, as onnxruntime's CPU kernels compute."""

    name: ClassVar[str] = "onnxruntime"

    def accumulator_requantizer(
        self,
        x: QuantParams,
        weight: QuantParams,
        y: QuantParams,
        *,
        channel_axis: int,
        strict_integer: bool,
    ) -> Requantizer:
        """``saturate(rint(f32(f32(acc) * M)) + z)``, ``M = f32(f32(s_x * s_w) / s_y)``.

        Args:
            x: Parameters of the input, per tensor.
            weight: Parameters of the weight, per tensor or per output channel.
            y: Parameters of the output, per tensor.
            channel_axis: The accumulator's channel axis, counted from the front or the back.
            strict_integer: Whether to compute it in int64 instead of float32.
        """
        multiplier = float32_requantize.float32_multiplier(x.scale, weight.scale, y.scale)
        zero_point = int(y.zero_point)
        if strict_integer:
            split = float32_requantize.split_float32(multiplier)
            return _in_integers(*split, zero_point, channel_axis)

        def requantize(
            accumulator: Carrier, out: IntegerArray, channels: slice = EVERY_CHANNEL
        ) -> None:
            aligned = along_channels(multiplier, channels, channel_axis, accumulator.ndim)
            float32_requantize.requantize_in_float32(accumulator, aligned, zero_point, out)

        return requantize

    def average_requantizer(self, x: QuantParams, y: QuantParams) -> AverageRequantizer:
        """``saturate(rint(f32(f32(sum - count * z_x) * M)) + z_y)``.

        ``M = f32(s_x / f32(s_y * f32(count)))``: QLinearGlobalAveragePool. The count is known only
        when the kernel runs, so M is computed from fractions: no float in any mode.
        """
        x_scale, y_scale = Fraction(float(x.scale)), Fraction(float(y.scale))
        x_zero_point, y_zero_point = int(x.zero_point), int(y.zero_point)

        @cache
        def requantizer(count: int) -> Requantizer:
            divisor, exponent = float32_requantize.nearest_float32(y_scale * count)
            ratio = x_scale / (divisor * Fraction(2) ** exponent)
            mantissa, exponent = float32_requantize.nearest_float32(ratio)
            return _in_integers(np.array(mantissa), np.array(exponent), y_zero_point, 0)

        def average(total: IntegerArray, count: int) -> IntegerArray:
            out = np.empty(total.shape, y.dtype)
            requantizer(count)(total - count * x_zero_point, out)
            return out

        return average

    def window_average(
        self, x: QuantParams, y: QuantParams, counts: Sequence[int], *, strict_integer: bool
    ) -> WindowAverage:
        """:func:`~quantkit.numerics.onnxruntime_pooling.qlinear_average_pool`."""
        return qlinear_average_pool(x, y, counts, strict_integer=strict_integer)

    def tabulation(self, function: RealFunction, x: QuantParams, y: QuantParams) -> UnaryCodes:
        """``quantize(f32(function(dequantize(q))))``: the float op, had it no error of its own.

        Args:
            function: From float64 to float64.
            x: Parameters of the input, 8 or 16 bits.
            y: Parameters of the output.
        """
        return tabulate_unary(lambda real: function(real.astype(np.float64)), x, y)

    def logistic(self, x: QuantParams, y: QuantParams) -> UnaryCodes:
        """:func:`~quantkit.numerics.onnxruntime_elementwise.qlinear_sigmoid`."""
        return qlinear_sigmoid(x, y)

    def rescaling(self, x: QuantParams, y: QuantParams) -> UnaryCodes:
        """``quantize(dequantize(q))``: the tables of QLinearConcat and QLinearWhere."""
        return requantize_codes(x, y)

    def addition(self, a: QuantParams, b: QuantParams, y: QuantParams) -> PairedCodes:
        """:func:`~quantkit.numerics.onnxruntime_elementwise.qlinear_add`, or the float op's codes.

        See :func:`~quantkit.numerics.onnxruntime_elementwise.has_integer_kernel`.
        """
        if has_integer_kernel(a, b, y):
            return qlinear_add(a, b, y)
        return pairwise_in_float32(float32_in_integers.add, a, b, y)

    def subtraction(self, a: QuantParams, b: QuantParams, y: QuantParams) -> PairedCodes:
        """``quantize(f32(dequantize(a) - dequantize(b)))``; there is no integer kernel."""

        def subtract(a_real: Float32Integers, b_real: Float32Integers) -> Float32Integers:
            return float32_in_integers.add(a_real, float32_in_integers.negate(b_real))

        return pairwise_in_float32(subtract, a, b, y)

    def multiplication(self, a: QuantParams, b: QuantParams, y: QuantParams) -> PairedCodes:
        """:func:`~quantkit.numerics.onnxruntime_elementwise.qlinear_mul`, or the float op's codes.

        See :func:`~quantkit.numerics.onnxruntime_elementwise.has_integer_kernel`.
        """
        if has_integer_kernel(a, b, y):
            return qlinear_mul(a, b, y)
        return pairwise_in_float32(float32_in_integers.multiply, a, b, y)

    def division(self, a: QuantParams, b: QuantParams, y: QuantParams) -> PairedCodes:
        """``quantize(f32(dequantize(a) / dequantize(b)))``; there is no integer kernel.

        A quotient by zero saturates; ``0 / 0`` is NaN and becomes the smallest code.
        """
        return pairwise_in_float32(float32_in_integers.divide, a, b, y)

    def leaky_product(self, x: QuantParams, slope: QuantParams, y: QuantParams) -> PairedCodes:
        """``quantize(x)`` where ``x >= 0``, else ``quantize(f32(x * slope))``, of real values."""

        def function(real: Float32Integers, slopes: Float32Integers) -> Float32Integers:
            product = float32_in_integers.multiply(real, slopes)
            is_kept = real.mantissa >= 0
            return Float32Integers(
                np.where(is_kept, real.mantissa, product.mantissa),
                np.where(is_kept, real.exponent, product.exponent),
            )

        return pairwise_in_float32(function, x, slope, y)

    def softmax(self, x: QuantParams, y: QuantParams, *, strict_integer: bool) -> RowSoftmax:
        """:mod:`~quantkit.numerics.onnxruntime_softmax`.

        onnxruntime has no integer kernel for 16 bits: those take :func:`integer_softmax`, which
        rounds the exact quotient.
        """
        if not has_integer_kernel(x, y):
            return integer_softmax(x, y, 1.0 / float(y.scale))
        return qlinear_softmax_in_integers(x, y) if strict_integer else qlinear_softmax(x, y)


def _in_integers(
    mantissa: npt.NDArray[np.int64],
    exponent: npt.NDArray[np.int64],
    zero_point: int,
    channel_axis: int,
) -> Requantizer:
    def requantize(
        accumulator: Carrier, out: IntegerArray, channels: slice = EVERY_CHANNEL
    ) -> None:
        float32_requantize.requantize_in_integers(
            accumulator,
            along_channels(mantissa, channels, channel_axis, accumulator.ndim),
            along_channels(exponent, channels, channel_axis, accumulator.ndim),
            zero_point,
            out,
        )

    return requantize
