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

from quantkit.numerics.affine import IntegerArray, QuantParams
from quantkit.numerics.code_table import tabulate_pairs
from quantkit.numerics.fixed_point import (
    FixedPointMultiplier,
    Int32Array,
    multiply_by_quantized_multiplier,
)
from quantkit.numerics.integer_gemm import Carrier
from quantkit.numerics.integer_softmax import integer_softmax
from quantkit.numerics.requantizer import (
    EVERY_CHANNEL,
    AverageRequantizer,
    CodeAddition,
    Requantizer,
    RowSoftmax,
    WindowAverage,
    along_channels,
)

_ADDITION_LEFT_SHIFT = 20


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

        M is the float64 quotient (TFLite ``GetQuantizedConvolutionMultipler``).

        Args:
            x: Parameters of the input, per tensor.
            weight: Parameters of the weight, per tensor or per output channel.
            y: Parameters of the output, per tensor.
            channel_axis: The accumulator's channel axis, counted from the front or the back.
            strict_integer: Has no effect: there are only integers.
        """
        scale = x.scale.astype(np.float64) * weight.scale.astype(np.float64)
        multiplier = FixedPointMultiplier.from_real(scale / y.scale.astype(np.float64))

        def requantize(
            accumulator: Carrier, out: IntegerArray, channels: slice = EVERY_CHANNEL
        ) -> None:
            axes = (channels, channel_axis, accumulator.ndim)
            _write(
                accumulator.astype(np.int32, copy=False),
                along_channels(multiplier.mantissa, *axes),
                along_channels(multiplier.shift, *axes),
                y,
                out,
            )

        return requantize

    def average_requantizer(self, x: QuantParams, y: QuantParams) -> AverageRequantizer:
        """``saturate(multiply_by_quantized_multiplier(S << k, M / (count * 2^k)) + z_y)``.

        ``S = sum - count * z_x``, ``M = s_x / s_y``; k is the largest shift that cannot overflow
        (as in Add: without it the first of the two roundings would cost a bit of a small sum). See
        :meth:`FixedPointMultiplier.divided_by`.
        """
        multiplier = FixedPointMultiplier.from_real(float(x.scale) / float(y.scale))
        x_zero_point = int(x.zero_point)

        @cache
        def scaling(count: int) -> tuple[int, FixedPointMultiplier]:
            left = max(0, 31 - (count * (x.qmax - x.qmin)).bit_length())
            return left, multiplier.divided_by(count << left)

        def average(total: Int32Array, count: int) -> IntegerArray:
            out = np.empty(total.shape, y.dtype)
            left, mean = scaling(count)
            accumulator = (total - count * x_zero_point).astype(np.int32, copy=False) << left
            _write(accumulator, mean.mantissa, mean.shift, y, out)
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

    def addition(self, a: QuantParams, b: QuantParams, y: QuantParams) -> CodeAddition:
        """``saturate(M_y((M_a((a - z_a) << 20) + M_b((b - z_b) << 20)) + z_y)``.

        ``M_a = s_a / t``, ``M_b = s_b / t``, ``M_y = t / (2^20 * s_y)`` with ``t = 2 * max(s_a,
        s_b)``: TFLite's quantized Add. Tabulated over all pairs of codes.
        """
        twice_larger = 2.0 * max(float(a.scale), float(b.scale))
        a_multiplier = FixedPointMultiplier.from_real(float(a.scale) / twice_larger)
        b_multiplier = FixedPointMultiplier.from_real(float(b.scale) / twice_larger)
        y_multiplier = FixedPointMultiplier.from_real(
            twice_larger / (2.0**_ADDITION_LEFT_SHIFT * float(y.scale))
        )

        def rescaled(
            q: IntegerArray, params: QuantParams, multiplier: FixedPointMultiplier
        ) -> Int32Array:
            shifted = (q.astype(np.int32) - params.zero_point) << _ADDITION_LEFT_SHIFT
            return multiply_by_quantized_multiplier(shifted, multiplier.mantissa, multiplier.shift)

        def add(a_q: IntegerArray, b_q: IntegerArray) -> IntegerArray:
            total = rescaled(a_q, a, a_multiplier) + rescaled(b_q, b, b_multiplier)
            out = np.empty(total.shape, y.dtype)
            _write(total, y_multiplier.mantissa, y_multiplier.shift, y, out)
            return out

        return tabulate_pairs(add, a, b)

    def softmax(
        self,
        x: QuantParams,
        y: QuantParams,
        *,
        strict_integer: bool,
    ) -> RowSoftmax:
        """:func:`~quantkit.numerics.integer_softmax.integer_softmax`.

        Args:
            x: Parameters of the input, 8 bits.
            y: Parameters of the probabilities.
            strict_integer: Has no effect: there are only integers.
        """
        return integer_softmax(x, y, 1.0 / float(y.scale))


def _write(
    accumulator: Int32Array,
    mantissa: Int32Array,
    shift: Int32Array,
    y: QuantParams,
    out: IntegerArray,
) -> None:
    """``saturate(accumulator * multiplier + zero_point)`` into ``out``."""
    scaled = multiply_by_quantized_multiplier(accumulator, mantissa, shift)
    # Clamp first: adding the zero point to an int32 near its limits would wrap.
    zero_point = int(y.zero_point)
    np.clip(scaled, y.qmin - zero_point, y.qmax - zero_point, out=scaled)
    scaled += zero_point
    np.copyto(out, scaled, casting="unsafe")
