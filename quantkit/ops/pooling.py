"""MaxPool, AveragePool and GlobalAveragePool.

A maximum moves codes and keeps their parameters; an average has a range of its own and is
requantized from the integer sum.
"""

import math
from collections.abc import Sequence
from itertools import product

import numpy as np

from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import IntegerArray
from quantkit.numerics.code_table import requantize_codes
from quantkit.ops.contract import OPS, Kernel, Lowering, Op, QuantRule, real_input
from quantkit.ops.weights import require_8_bit_input
from quantkit.ops.windows import node_windows, pad_codes
from quantkit.reference.pooling import average_pool, global_average_pool, max_pool


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
        windows = node_windows(node, x.shape[2:], kernel_shape)
        y = max_pool(
            x,
            kernel_shape=kernel_shape,
            strides=windows.strides,
            pads=windows.pads_begin + windows.pads_end,
            dilations=windows.dilations,
            ceil_mode=bool(node.integer("ceil_mode", 0)),
        )
        return (y,)

    def lower(self, lowering: Lowering) -> Kernel:
        """The maximum of the codes; the border never wins."""
        node, x = lowering.node, lowering.params(0)
        kernel_shape = node.integers("kernel_shape", ())
        convert = requantize_codes(x, lowering.outputs[0])

        def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
            x_q = inputs[0]
            windows = node_windows(node, x_q.shape[2:], kernel_shape)
            padded = pad_codes(x_q, windows, x.qmin)
            first, *others = windows.taps()
            y_q = padded[first].copy()
            for tap in others:
                np.maximum(y_q, padded[tap], out=y_q)
            return (convert(y_q),)

        return kernel


class AveragePool(Op):
    """The mean of every window (ONNX AveragePool)."""

    rule = QuantRule("own")

    def refusal(self, node: Node, constants: Sequence[Array | None]) -> str | None:
        """Why this node cannot have an integer kernel, or None."""
        if set(node.integers("dilations", (1,))) != {1}:
            return "the windows are dilated, which onnxruntime's integer kernel ignores"
        if node.integer("count_include_pad", 0) and node.integer("ceil_mode", 0):
            return "ceil_mode with count_include_pad divides differently in different runtimes"
        return None

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Float mean."""
        x = real_input(inputs, 0)
        kernel_shape = node.integers("kernel_shape", ())
        windows = node_windows(node, x.shape[2:], kernel_shape)
        y = average_pool(
            x,
            kernel_shape=kernel_shape,
            strides=windows.strides,
            pads=windows.pads_begin + windows.pads_end,
            dilations=windows.dilations,
            ceil_mode=bool(node.integer("ceil_mode", 0)),
            count_include_pad=bool(node.integer("count_include_pad", 0)),
        )
        return (y,)

    def lower(self, lowering: Lowering) -> Kernel:
        """Sums of the taps, requantized by how many count."""
        node, x = lowering.node, lowering.params(0)
        require_8_bit_input(node, x)
        kernel_shape = node.integers("kernel_shape", ())
        include_pad = bool(node.integer("count_include_pad", 0))
        average = lowering.arithmetic.window_average(
            x,
            lowering.outputs[0],
            _possible_counts(node, kernel_shape),
            strict_integer=lowering.strict_integer,
        )

        def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
            x_q = inputs[0]
            windows = node_windows(node, x_q.shape[2:], kernel_shape)
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
        require_8_bit_input(lowering.node, lowering.params(0))
        average = lowering.arithmetic.average_requantizer(lowering.params(0), lowering.outputs[0])

        def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
            x_q = inputs[0]
            axes = tuple(range(2, x_q.ndim))
            total = np.asarray(np.sum(x_q, axis=axes, dtype=np.int32, keepdims=True))
            return (average(total, math.prod(x_q.shape[2:])),)

        return kernel


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
