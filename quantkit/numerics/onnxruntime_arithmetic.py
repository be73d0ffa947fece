"""The arithmetic named "onnxruntime": the codes of onnxruntime's CPU kernels on x86, bit for bit.

Each method's docstring states the kernel's formula; ``f32`` marks every rounding to float32. The
files are onnxruntime's ``core/mlas/lib/`` (quantize, qladd, qlgavgpool) and
``contrib_ops/cpu/quantization/`` (qlinear_pool, qlinear_softmax). The tests compare with
onnxruntime itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import zip_longest
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from quantkit.numerics import float32_requantize
from quantkit.numerics.affine import IntegerArray, QuantParams
from quantkit.numerics.code_table import every_code, tabulate_pairs
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

Float32Array = npt.NDArray[np.float32]


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

        def average(total: npt.NDArray[np.int32], count: int) -> IntegerArray:
            out = np.empty(total.shape, y.dtype)
            requantizer(count)(total - count * x_zero_point, out)
            return out

        return average

    def window_average(
        self, x: QuantParams, y: QuantParams, counts: Sequence[int], *, strict_integer: bool
    ) -> WindowAverage:
        """``saturate(rint(f32(f32(f32(sum) / f32(count)) / s_y) + z_y))``: QLinearAveragePool.

        ``sum`` adds the dequantized taps ``f32(s_x * (q - z_x))`` in scan order, each addition
        rounded to float32. All taps are multiples of one power of two, so the strict form adds
        them as integers rounded to 24 bits; what follows the sum is monotone, so a code is the
        number of thresholds that the sum reaches.

        Args:
            x: Parameters of the input, 8 bits.
            y: Parameters of the output, 8 bits.
            counts: Every number of taps a window can have.
            strict_integer: Whether to add integers instead of float32.
        """
        difference = every_code(x).astype(np.float32) - np.float32(x.zero_point)
        value = np.roll(difference * x.scale, x.qmin)

        def requantize(total: Float32Array, count: npt.NDArray[np.generic]) -> IntegerArray:
            real = total / count.astype(np.float32) / y.scale + np.float32(y.zero_point)
            return np.clip(np.rint(real), y.qmin, y.qmax).astype(y.dtype)

        def average(taps: Sequence[IntegerArray], count: npt.NDArray[np.int64]) -> IntegerArray:
            total = np.zeros(taps[0].shape, np.float32)
            for tap in taps:
                total += value[tap.view(np.uint8)]
            return requantize(total, count)

        return _staircase_average(value, y, counts, requantize) if strict_integer else average

    def addition(self, a: QuantParams, b: QuantParams, y: QuantParams) -> CodeAddition:
        """``saturate(rint(fma(a, r_a, fma(b, r_b, z_y - fma(r_a, z_a, f32(r_b * z_b))))))``.

        ``r = f32(s / s_y)``; every ``fma`` rounds once and the subtraction rounds: QLinearAdd on
        x86 with FMA. Tabulated over all pairs of codes. The sum is not symmetric: where ``a`` is
        broadcast along the innermost axis, onnxruntime swaps the operands.
        """
        a_then_b, b_then_a = _tabulate_addition(a, b, y), _tabulate_addition(b, a, y)

        def add(a_q: IntegerArray, b_q: IntegerArray) -> IntegerArray:
            if _is_fixed_along_rows(a_q.shape, b_q.shape):
                return b_then_a(b_q, a_q)
            return a_then_b(a_q, b_q)

        return add

    def softmax(self, x: QuantParams, y: QuantParams, *, strict_integer: bool) -> RowSoftmax:
        """``saturate(rint(f32(f32(e * N) / sum(e))) + z_y)``, ``N = floor(f32(1 / s_y))``.

        ``e = f32(exp((q - max) * s_x + shift))`` from a table of 256 entries, where ``shift =
        max(0, log(floor(FLT_MAX / length)) - 5)`` keeps the sum finite; the sum adds in order, each
        addition rounded to float32: QLinearSoftmax. The strict form is :func:`integer_softmax`
        with the same N; measured, it differs on 1 of 10^6 codes, by one.
        """
        factor = np.floor(np.float32(1) / y.scale)
        if strict_integer:
            return integer_softmax(x, y, float(factor))
        scale = float(x.scale)

        @cache
        def exponentials(length: int) -> Float32Array:
            # onnxruntime divides FLT_MAX by a size_t in float32, then takes a float32 logarithm.
            largest = np.log(np.float32(np.finfo(np.float32).max) / np.float32(length))
            shift = max(0.0, float(largest) - 5.0) / scale
            table: Float32Array = np.exp((np.arange(256) - 255 + shift) * scale).astype(np.float32)
            return table

        def softmax(x_q: IntegerArray) -> IntegerArray:
            wide = x_q.astype(np.int64)
            table = exponentials(x_q.shape[-1])
            weight = table[255 - (wide.max(axis=-1, keepdims=True) - wide)]
            # cumsum adds one by one; sum would add pairwise.
            total = np.cumsum(weight, axis=-1)[..., -1:]
            code = np.rint(weight * factor / total) + np.float32(y.zero_point)
            codes: IntegerArray = np.clip(code, y.qmin, y.qmax).astype(y.dtype)
            return codes

        return softmax


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
            accumulator.astype(np.int64),
            along_channels(mantissa, channels, channel_axis, accumulator.ndim),
            along_channels(exponent, channels, channel_axis, accumulator.ndim),
            zero_point,
            out,
        )

    return requantize


def _staircase_average(
    value: Float32Array,
    y: QuantParams,
    counts: Sequence[int],
    requantize: Callable[[Float32Array, npt.NDArray[np.generic]], IntegerArray],
) -> WindowAverage:
    """The integer form of a window average; see ``OnnxruntimeArithmetic.window_average``."""
    mantissa, exponent = float32_requantize.split_float32(np.abs(value))
    grid = int(exponent[mantissa > 0].min())
    step = np.where(value < 0, -mantissa, mantissa) << np.where(mantissa > 0, exponent - grid, 0)
    # thresholds[i, j]: the smallest sum whose code is above qmin + j, found by bisection.
    count = np.array(sorted(set(counts)), np.int64)[:, np.newaxis]
    code = np.arange(y.qmin + 1, y.qmax + 1)
    # Twice what the taps sum up to: rounding each partial sum may lead a little beyond that.
    reach = 2 * int(np.abs(step).max()) * int(count.max()) + 1
    low = np.full((count.size, code.size), -reach)
    high = np.full((count.size, code.size), reach)
    while np.any(high - low > 1):
        middle = (low + high) // 2
        is_reached = requantize(np.ldexp(np.float32(middle), grid), count) >= code
        low, high = np.where(is_reached, low, middle), np.where(is_reached, middle, high)
    thresholds = dict(zip(count[:, 0].tolist(), high, strict=True))

    def average(taps: Sequence[IntegerArray], count: npt.NDArray[np.int64]) -> IntegerArray:
        total = np.zeros(taps[0].shape, np.int64)
        for tap in taps:
            total += step[tap.view(np.uint8)]
            rounded = float32_requantize.round_to_24_bits(np.abs(total))
            total = np.where(total < 0, -rounded, rounded)
        code = np.empty(total.shape, np.int64)
        count = np.broadcast_to(count, total.shape)
        for number in np.unique(count).tolist():
            chosen = count == number
            code[chosen] = np.searchsorted(thresholds[number], total[chosen], side="right")
        return (code + y.qmin).astype(y.dtype)

    return average


def _tabulate_addition(a: QuantParams, b: QuantParams, y: QuantParams) -> CodeAddition:
    ratio_a, ratio_b = a.scale / y.scale, b.scale / y.scale
    zero_a, zero_b = a.zero_point.astype(np.float32), b.zero_point.astype(np.float32)
    offset = np.float32(y.zero_point) - _fma(ratio_a, zero_a, ratio_b * zero_b)

    def add(a_q: IntegerArray, b_q: IntegerArray) -> IntegerArray:
        inner = _fma(b_q.astype(np.float32), ratio_b, offset)
        real = _fma(a_q.astype(np.float32), ratio_a, inner)
        return np.clip(np.rint(real), y.qmin, y.qmax).astype(y.dtype)

    return tabulate_pairs(add, a, b)


def _is_fixed_along_rows(a_shape: tuple[int, ...], b_shape: tuple[int, ...]) -> bool:
    """Whether ``a`` has size 1 along the last axis that has not size 1 in both."""
    for a_size, b_size in zip_longest(reversed(a_shape), reversed(b_shape), fillvalue=1):
        if max(a_size, b_size) > 1:
            return a_size == 1
    return False


def _fma(a: Float32Array, b: Float32Array, c: Float32Array) -> Float32Array:
    """``f32(a * b + c)`` rounded once, as a fused multiply-add.

    A float64 holds the product of two float32 exactly. Their sum is rounded to odd (inexact
    results get an odd last bit), which keeps the second rounding from seeing a false tie.
    """
    product, addend = np.float64(a) * np.float64(b), np.float64(c)
    total = np.asarray(product + addend)
    # Knuth's TwoSum: total + error is the exact sum.
    virtual = total - product
    error = (product - (total - virtual)) + (addend - virtual)
    is_even = (total.view(np.int64) & 1) == 0
    towards = np.where(error > 0, np.inf, -np.inf)
    odd = np.where((error != 0) & is_even, np.nextafter(total, towards), total)
    return odd.astype(np.float32)
