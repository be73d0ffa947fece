"""The arithmetic named "fixed_point": int32 multipliers and shifts, as TFLite and CMSIS-NN compute.

What a microcontroller, NPU or FPGA executes. Real multipliers become :class:`FixedPointMultiplier`
once, at lowering; no kernel made here holds a float, whether strict or not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from quantkit.numerics import fixed_point_elementwise
from quantkit.numerics.affine import IntegerArray, QuantParams
from quantkit.numerics.code_table import PairedCodes, UnaryCodes
from quantkit.numerics.fixed_point import FixedPointMultiplier
from quantkit.numerics.fixed_point_elementwise import write_codes
from quantkit.numerics.integer_gemm import Carrier, sums_of
from quantkit.numerics.integer_softmax import integer_softmax
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
class FixedPointArithmetic:
    """Int32 multipliers and shifts with gemmlowp's two roundings."""

    name: ClassVar[str] = "fixed_point"

    def accumulator_requantizer(
        self,
        x: QuantParams,
        weight: QuantParams,
        y: QuantParams,
        *,
        channel_axis: int,
        strict_integer: bool,
    ) -> Requantizer:
        """``saturate(multiply_by_quantized_multiplier(acc, M) + z)``, ``M = s_x * s_w / s_y``.

        M is the float64 quotient (TFLite ``GetQuantizedConvolutionMultipler``). Sums of int64 go
        through ``multiply_int64_by_quantized_multiplier``.

        Args:
            x: Parameters of the input, per tensor.
            weight: Parameters of the weight, per tensor or per output channel.
            y: Parameters of the output, per tensor.
            channel_axis: The accumulator's channel axis, counted from the front or the back.
            strict_integer: Has no effect: there are only integers.
        """
        scale = x.scale.astype(np.float64) * weight.scale.astype(np.float64)
        multiplier = FixedPointMultiplier.from_real(scale / y.scale.astype(np.float64))
        sums = sums_of(x, weight).integer

        def requantize(
            accumulator: Carrier, out: IntegerArray, channels: slice = EVERY_CHANNEL
        ) -> None:
            axes = (channels, channel_axis, accumulator.ndim)
            write_codes(
                accumulator.astype(sums, copy=False),
                along_channels(multiplier.mantissa, *axes),
                along_channels(multiplier.shift, *axes),
                y,
                out,
            )

        return requantize

    def average_requantizer(self, x: QuantParams, y: QuantParams) -> AverageRequantizer:
        """``saturate(multiply_by_quantized_multiplier(S << k, M / (count * 2^k)) + z_y)``.

        ``S = sum - count * z_x``; k is the largest shift that cannot overflow (as in Add: without
        it the first of the two roundings would cost a bit of a small sum). ``M = s_x / s_y`` is
        rounded to a mantissa once; that mantissa is divided by ``count * 2^k`` in integers, see
        :meth:`FixedPointMultiplier.divided_by`. Sums that int32 cannot hold stay int64, unshifted.
        """
        multiplier = FixedPointMultiplier.from_real(float(x.scale) / float(y.scale))
        x_zero_point = int(x.zero_point)

        @cache
        def scaling(count: int) -> tuple[int, FixedPointMultiplier]:
            left = 31 - (count * (x.qmax - x.qmin)).bit_length()
            return left, multiplier.divided_by(count << max(left, 0))

        def average(total: IntegerArray, count: int) -> IntegerArray:
            out = np.empty(total.shape, y.dtype)
            left, mean = scaling(count)
            accumulator = total - count * x_zero_point
            if left >= 0:
                accumulator = accumulator.astype(np.int32, copy=False) << left
            write_codes(accumulator, mean.mantissa, mean.shift, y, out)
            return out

        return average

    def window_average(
        self,
        x: QuantParams,
        y: QuantParams,
        counts: Sequence[int],
        *,
        strict_integer: bool,
    ) -> WindowAverage:
        """:meth:`average_requantizer` of every window's integer sum.

        Args:
            x: Parameters of the input.
            y: Parameters of the output.
            counts: Not needed: the multiplier is divided in integers.
            strict_integer: Has no effect: there are only integers.
        """
        average_of = self.average_requantizer(x, y)

        def average(taps: Sequence[IntegerArray], count: npt.NDArray[np.int64]) -> IntegerArray:
            total = np.zeros(taps[0].shape, np.int32)
            for tap in taps:
                total += tap
            # A padded tap holds the zero point; it must not count.
            total += ((count - len(taps)) * int(x.zero_point)).astype(np.int32)
            out = np.empty(total.shape, y.dtype)
            count = np.broadcast_to(count, total.shape)
            for number in np.unique(count).tolist():
                chosen = count == number
                out[chosen] = average_of(total[chosen], number)
            return out

        return average

    def tabulation(self, function: RealFunction, x: QuantParams, y: QuantParams) -> UnaryCodes:
        """:func:`~quantkit.numerics.fixed_point_elementwise.tabulated`."""
        return fixed_point_elementwise.tabulated(function, x, y)

    def logistic(self, x: QuantParams, y: QuantParams) -> UnaryCodes:
        """:func:`~quantkit.numerics.fixed_point_elementwise.tabulated` of the exact sigmoid."""
        return fixed_point_elementwise.tabulated(lambda real: 1.0 / (1.0 + np.exp(-real)), x, y)

    def rescaling(self, x: QuantParams, y: QuantParams) -> UnaryCodes:
        """:func:`~quantkit.numerics.fixed_point_elementwise.rescaled`."""
        return fixed_point_elementwise.rescaled(x, y)

    def addition(self, a: QuantParams, b: QuantParams, y: QuantParams) -> PairedCodes:
        """:func:`~quantkit.numerics.fixed_point_elementwise.sum_of`."""
        return fixed_point_elementwise.sum_of(a, b, y)

    def subtraction(self, a: QuantParams, b: QuantParams, y: QuantParams) -> PairedCodes:
        """:func:`~quantkit.numerics.fixed_point_elementwise.sum_of` with ``b`` negated."""
        return fixed_point_elementwise.sum_of(a, b, y, sign=-1)

    def multiplication(self, a: QuantParams, b: QuantParams, y: QuantParams) -> PairedCodes:
        """:func:`~quantkit.numerics.fixed_point_elementwise.product_of`."""
        return fixed_point_elementwise.product_of(a, b, y)

    def division(self, a: QuantParams, b: QuantParams, y: QuantParams) -> PairedCodes:
        """:func:`~quantkit.numerics.fixed_point_elementwise.quotient_of`."""
        return fixed_point_elementwise.quotient_of(a, b, y)

    def leaky_product(self, x: QuantParams, slope: QuantParams, y: QuantParams) -> PairedCodes:
        """:func:`~quantkit.numerics.fixed_point_elementwise.leaky_product_of`."""
        return fixed_point_elementwise.leaky_product_of(x, slope, y)

    def softmax(
        self,
        x: QuantParams,
        y: QuantParams,
        *,
        strict_integer: bool,
    ) -> RowSoftmax:
        """:func:`~quantkit.numerics.integer_softmax.integer_softmax`.

        Args:
            x: Parameters of the input, 8 or 16 bits.
            y: Parameters of the probabilities.
            strict_integer: Has no effect: there are only integers.
        """
        return integer_softmax(x, y, 1.0 / float(y.scale))
