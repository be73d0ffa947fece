"""MaxPool, AveragePool and GlobalAveragePool.

A maximum moves codes and keeps their parameters; an average has a range of its own and is
requantized from the integer sum. Codes of 16 bits are averaged by their int64 sums,
``Arithmetic.average_requantizer``; onnxruntime has integer kernels for 8 bits only.

onnxruntime 1.32 disagrees with itself about AveragePool, by at most 1 code and only where the exact
average lies halfway between two codes. QLinearAveragePool rounds ``f32(real / s_y + z_y)``, half to
even *after* the zero point is added; AveragePool followed by QuantizeLinear (the unoptimized
session) rounds ``real / s_y`` and then adds it. So they differ on ties where z_y is odd, and on
ties that float32 moves to one side in one of the two. Measured on random uint8 codes and 2 x 2
windows, share of the unsaturated codes that differ, for ``z_y`` = 0, 128 and 133:

    s_x 0.02,   s_y 0.01     0.00 %   11.2 %   34.8 %     (50 % of the averages are ties)
    s_x 0.02,   s_y 0.02     0.00 %    6.3 %   18.5 %     (25 %)
    s_x 0.03,   s_y 0.017    0.00 %    0.8 %    1.4 %     (2.9 %)
    s_x 0.0234, s_y 0.0197   0.00 %    0.05 %   0.2 %     (0.25 %)

No other code differed. The kernels for NCHW and NHWC (``channels_last``) gave equal codes in every
case, of QLinearAveragePool and of QLinearGlobalAveragePool.

One unpadded window that covers the whole input is a global average to QLinearAveragePool (source:
``contrib_ops/cpu/quantization/qlinear_pool.cc``), which then requantizes the integer sum instead of
adding floats: other codes at ties, in one, two and three dimensions, whatever the strides.
"""

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
import numpy.typing as npt

from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import IntegerArray
from quantkit.numerics.code_table import UnaryCodes, requantize_codes
from quantkit.numerics.requantizer import WindowAverage
from quantkit.ops.contract import OPS, Kernel, Lowering, Op, QuantRule, real_input
from quantkit.ops.weights import require_factor
from quantkit.ops.windows import crop_same, node_windows, pad_codes
from quantkit.reference.pooling import global_average_pool, window_maximum, window_mean


class MaxPool(Op):
    """The largest value of every window (ONNX MaxPool)."""

    rule = QuantRule("same_as_input")

    def refusal(self, node: Node, constants: Sequence[Array | None]) -> str | None:
        """Why this node cannot have an integer kernel, or None."""
        if len(node.outputs) > 1 and node.outputs[1]:
            return "the indices of the maxima are asked for"
        return None

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Float maximum."""
        x = real_input(inputs, 0)
        kernel_shape = node.integers("kernel_shape", ())
        x = crop_same(node, x, kernel_shape)
        windows = node_windows(node, x.shape[2:], kernel_shape)
        # onnxruntime gives the least float32 for a window of border alone.
        return (np.maximum(window_maximum(x, windows), np.finfo(x.dtype).min),)

    def lower(self, lowering: Lowering) -> Kernel:
        """The maximum of the codes; the border never wins."""
        node, y = lowering.node, lowering.outputs[0]
        kernel_shape = node.integers("kernel_shape", ())
        convert = requantize_codes(lowering.params(0), y)

        def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
            x_q = crop_same(node, inputs[0], kernel_shape)
            windows = node_windows(node, x_q.shape[2:], kernel_shape)
            # A window of border alone has the smallest code, of the output as in onnxruntime.
            padded = pad_codes(convert(x_q), windows, y.qmin)
            first, *others = windows.taps()
            y_q = padded[first].copy()
            for tap in others:
                np.maximum(y_q, padded[tap], out=y_q)
            return (y_q,)

        return kernel


class AveragePool(Op):
    """The mean of every window (ONNX AveragePool)."""

    rule = QuantRule("own")

    def refusal(self, node: Node, constants: Sequence[Array | None]) -> str | None:
        """Why this node cannot have an integer kernel, or None."""
        # onnxruntime 1.32 copies the attribute, even [1, 1], to its fused node, which has none.
        if "dilations" in node.attributes:
            return "onnxruntime cannot load a quantized AveragePool with the attribute dilations"
        # Its integer kernel divides a partial window by all taps, its float kernel by fewer: up to
        # 22 codes apart.
        if node.integer("count_include_pad", 0) and node.integer("ceil_mode", 0):
            return "ceil_mode with count_include_pad divides differently in different runtimes"
        return None

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Float mean."""
        x = real_input(inputs, 0)
        kernel_shape = node.integers("kernel_shape", ())
        x = crop_same(node, x, kernel_shape)
        windows = node_windows(node, x.shape[2:], kernel_shape)
        include_pad = bool(node.integer("count_include_pad", 0))
        return (window_mean(x, windows, count_include_pad=include_pad),)

    def lower(self, lowering: Lowering) -> Kernel:
        """Sums of the taps, requantized by how many count."""
        node, x = lowering.node, lowering.params(0)
        require_factor(node, x)
        kernel_shape = node.integers("kernel_shape", ())
        include_pad = bool(node.integer("count_include_pad", 0))
        average = _window_average(lowering, _possible_counts(node, kernel_shape))
        average_all = _global_average(lowering)

        def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
            x_q = crop_same(node, inputs[0], kernel_shape)
            windows = node_windows(node, x_q.shape[2:], kernel_shape)
            is_one = x_q.shape[2:] == inputs[0].shape[2:] == kernel_shape
            if is_one and windows.padded_shape == kernel_shape:
                return (average_all(x_q),)
            padded = pad_codes(x_q, windows, int(x.zero_point))
            taps = [padded[tap] for tap in windows.taps()]
            return (average(taps, windows.tap_counts(include_pad=include_pad)),)

        return kernel


class GlobalAveragePool(Op):
    """The mean of every channel (ONNX GlobalAveragePool)."""

    rule = QuantRule("own")

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Float mean over the spatial axes."""
        return (global_average_pool(real_input(inputs, 0)),)

    def lower(self, lowering: Lowering) -> Kernel:
        """Sums of the codes, requantized by the channel's size."""
        require_factor(lowering.node, lowering.params(0))
        average_all = _global_average(lowering)
        return lambda inputs: (average_all(inputs[0]),)


def sums(x_q: IntegerArray, axes: tuple[int, ...]) -> IntegerArray:
    """Sums over ``axes``, which are kept: int32 of 8-bit codes (2^23 of them fit), else int64."""
    wide = np.int32 if x_q.dtype.itemsize == 1 else np.int64
    return np.asarray(np.sum(x_q, axis=axes, dtype=wide, keepdims=True))


def _global_average(lowering: Lowering) -> UnaryCodes:
    """From codes (N, C, *spatial) to those of every channel's mean, (N, C, 1 ...)."""
    average = lowering.arithmetic.average_requantizer(lowering.params(0), lowering.outputs[0])

    def average_all(x_q: IntegerArray) -> IntegerArray:
        return average(sums(x_q, tuple(range(2, x_q.ndim))), math.prod(x_q.shape[2:]))

    return average_all


def _window_average(lowering: Lowering, counts: Sequence[int]) -> WindowAverage:
    x, y = lowering.params(0), lowering.outputs[0]
    if x.dtype.itemsize == 1:
        return lowering.arithmetic.window_average(
            x, y, counts, strict_integer=lowering.strict_integer
        )
    average_of = lowering.arithmetic.average_requantizer(x, y)

    def average(taps: Sequence[IntegerArray], count: npt.NDArray[np.int64]) -> IntegerArray:
        total = np.zeros(taps[0].shape, np.int64)
        for tap in taps:
            total += tap
        # A padded tap holds the zero point; it must not count.
        total += (count - len(taps)) * int(x.zero_point)
        out = np.empty(total.shape, y.dtype)
        count = np.broadcast_to(count, total.shape)
        for number in np.unique(count).tolist():
            chosen = count == number
            out[chosen] = average_of(total[chosen], number)
        return out

    return average


def _possible_counts(node: Node, kernel_shape: Sequence[int]) -> list[int]:
    """Every number of taps that a window can have."""
    is_whole = node.integer("count_include_pad", 0) or not (
        node.integer("ceil_mode", 0)
        or any(node.integers("pads", (0,)))
        or node.text("auto_pad", "NOTSET").startswith("SAME")
    )
    if is_whole:
        return [math.prod(kernel_shape)]
    partial = product(*(range(1, size + 1) for size in kernel_shape))
    return sorted({math.prod(sizes) for sizes in partial})


OPS.register("MaxPool")(MaxPool())
OPS.register("AveragePool")(AveragePool())
OPS.register("GlobalAveragePool")(GlobalAveragePool())
