"""onnxruntime's QLinearAveragePool, in float32 and as a staircase of integers.

Source: ``contrib_ops/cpu/quantization/qlinear_pool.cc``.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from quantkit.numerics import float32_requantize
from quantkit.numerics.affine import IntegerArray, QuantParams
from quantkit.numerics.code_table import every_code
from quantkit.numerics.onnxruntime_elementwise import saturate_as_x86
from quantkit.numerics.requantizer import WindowAverage

Float32Array = npt.NDArray[np.float32]


def qlinear_average_pool(
    x: QuantParams, y: QuantParams, counts: Sequence[int], *, strict_integer: bool
) -> WindowAverage:
    """``saturate(rint(f32(f32(f32(sum) / f32(count)) / s_y) + z_y))``.

    ``sum`` adds the dequantized taps ``f32(s_x * (q - z_x))`` in scan order, each addition
    rounded to float32. All taps are multiples of one power of two, so the strict form adds
    them as integers rounded to 24 bits; what follows the sum is monotone, so a code is the
    number of thresholds that the sum reaches. What reaches 2^31 becomes the smallest code, see
    :func:`~quantkit.numerics.onnxruntime_elementwise.saturate_as_x86`: one threshold more.

    Args:
        x: Parameters of the input, 8 bits.
        y: Parameters of the output, 8 bits.
        counts: Every number of taps a window can have.
        strict_integer: Whether to add integers instead of float32.
    """
    difference = every_code(x).astype(np.float32) - np.float32(x.zero_point)
    value = np.roll(difference * x.scale, x.qmin)

    def real_code(total: Float32Array, count: npt.NDArray[np.generic]) -> Float32Array:
        with np.errstate(over="ignore"):
            mean = total / count.astype(np.float32)
            return np.asarray(mean / y.scale + np.float32(y.zero_point), np.float32)

    def average(taps: Sequence[IntegerArray], count: npt.NDArray[np.int64]) -> IntegerArray:
        total = np.zeros(taps[0].shape, np.float32)
        for tap in taps:
            total += value[tap.view(np.uint8)]
        return saturate_as_x86(real_code(total, count), y)

    return _staircase_average(value, y, counts, real_code) if strict_integer else average


def _staircase_average(
    value: Float32Array,
    y: QuantParams,
    counts: Sequence[int],
    real_code: Callable[[Float32Array, npt.NDArray[np.generic]], Float32Array],
) -> WindowAverage:
    """The integer form of a window average; see :func:`qlinear_average_pool`."""
    mantissa, exponent = float32_requantize.split_float32(np.abs(value))
    grid = int(exponent[mantissa > 0].min())
    step = np.where(value < 0, -mantissa, mantissa) << np.where(mantissa > 0, exponent - grid, 0)
    # thresholds[i, j]: the smallest sum whose code is above qmin + j, found by bisection; the last
    # one is the smallest sum that reaches 2^31.
    count = np.array(sorted(set(counts)), np.int64)[:, np.newaxis]
    code = np.append(np.arange(y.qmin + 1, y.qmax + 1), 2**31)
    # Twice what the taps sum up to: rounding each partial sum may lead a little beyond that.
    reach = 2 * int(np.abs(step).max()) * int(count.max()) + 1
    low = np.full((count.size, code.size), -reach)
    high = np.full((count.size, code.size), reach)
    while np.any(high - low > 1):
        middle = (low + high) // 2
        is_reached = np.rint(real_code(np.ldexp(np.float32(middle), grid), count)) >= code
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
        return (code % (y.qmax - y.qmin + 1) + y.qmin).astype(y.dtype)

    return average
