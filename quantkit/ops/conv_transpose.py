"""ConvTranspose in one, two or three dimensions, also grouped and dilated.

``y_q[o, p] = requantize(bias[o] + sum_{c, i, k} weight_q[c, o, k] * (x_q[c, i] - z_x))``

over all channels c and all pairs of an input position i and a tap k with ``i * stride + k *
dilation - begin = p``. One exact matrix product gives ``(o, k) x i``, whose rows are then added in
integers to where they belong.

onnxruntime has no integer kernel for it: between DequantizeLinear and QuantizeLinear it runs a
float island, whose codes may differ by one.
"""

import math
from collections.abc import Sequence

import numpy as np

from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import IntegerArray
from quantkit.numerics.integer_gemm import ConstantOperand, matmul_exact, sums_of
from quantkit.ops.contract import OPS, Kernel, Lowering, Op, QuantRule, optional_input, real_input
from quantkit.ops.weights import (
    centered_weight,
    constant_bias,
    require_factor,
    spatial_weight_refusal,
    sum_requantizer,
)
from quantkit.reference.conv_transpose import conv_transpose, transposed_windows
from quantkit.reference.windows import Windows


class ConvTranspose(Op):
    """Transposed convolution (ONNX ConvTranspose)."""

    rule = QuantRule("own", weight=1, bias=2)

    def weight_axis(self, node: Node, weight_ndim: int) -> int:
        """Output channels come second: (C, O / group, *kernel)."""
        return 1

    def has_channel_scales(self, node: Node, weight_ndim: int) -> bool:
        """Groups share the scales along axis 1: their biases would have to share them too."""
        return node.integer("group", 1) == 1

    def has_onnxruntime_kernel(self, node: Node) -> bool:
        """It has none."""
        return False

    def refusal(self, node: Node, constants: Sequence[Array | None]) -> str | None:
        """Why this node cannot have an integer kernel, or None."""
        return spatial_weight_refusal(node, constants)

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Float transposed convolution."""
        x, weight = real_input(inputs, 0), real_input(inputs, 1)
        pads, output_padding = _pads(node, x.shape[2:], weight.shape[2:])
        y = conv_transpose(
            x,
            weight,
            optional_input(inputs, 2),
            strides=node.integers("strides", ()),
            pads=pads,
            dilations=node.integers("dilations", ()),
            output_padding=output_padding,
            group=node.integer("group", 1),
        )
        return (y,)

    def lower(self, lowering: Lowering) -> Kernel:
        """One matrix product per sample, scattered."""
        node, x, y = lowering.node, lowering.params(0), lowering.outputs[0]
        require_factor(node, x)
        codes = centered_weight(node, lowering.codes(1))
        channels, group_outputs, *kernel_shape = codes.shape
        group, taps = node.integer("group", 1), math.prod(kernel_shape)
        # Zero points cannot move to the bias: the border's cells are met by fewer taps.
        operand = ConstantOperand.prepare(
            codes.reshape(group, channels // group, group_outputs * taps).swapaxes(1, 2),
            None,
            0,
            x.reach,
            strict_integer=lowering.strict_integer,
            sums=sums_of(x),
        )
        bias = constant_bias(lowering.codes(2), (group, group_outputs), x)
        # The groups share the scales of axis 1.
        requantize = sum_requantizer(lowering, channel_axis=1)
        zero_point = np.int32(x.zero_point)

        def one_sample(x_q: IntegerArray, windows: Windows, out: IntegerArray) -> None:
            centered = x_q.reshape(group, channels // group, -1) - zero_point
            carried = centered.astype(operand.weight.dtype)
            columns = matmul_exact(operand.weight, carried, operand.blocks)
            columns = columns.astype(operand.sums.integer, copy=False)
            by_tap = columns.reshape(group, group_outputs, taps, *windows.output_shape)
            total = np.zeros((group, group_outputs, *windows.padded_shape), operand.sums.integer)
            for index, tap in enumerate(windows.taps()):
                total[tap] += by_tap[:, :, index]
            total = total[windows.interior]
            if bias is not None:
                total += bias.reshape(group, group_outputs, *[1] * windows.rank)
            requantize(total, out.reshape(total.shape))

        def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
            x_q = inputs[0]
            pads, output_padding = _pads(node, x_q.shape[2:], kernel_shape)
            windows = transposed_windows(
                x_q.shape[2:],
                kernel_shape,
                node.integers("strides", ()),
                pads,
                node.integers("dilations", ()),
                output_padding,
            )
            y_q = np.empty((len(x_q), group * group_outputs, *windows.input_shape), y.dtype)
            for sample, out in zip(x_q, y_q, strict=True):
                one_sample(sample, windows, out)
            return (y_q,)

        return kernel

    def macs(self, node: Node, shapes: Sequence[tuple[int, ...] | None]) -> int:
        """``N * C * positions * (O / group) * taps``."""
        x, weight = shapes[0], shapes[1]
        if x is None or weight is None:
            return 0
        return math.prod(x) * math.prod(weight[1:])


def _pads(
    node: Node, input_shape: Sequence[int], kernel_shape: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Pads and output padding of a node on one input.

    ``output_shape``, and ``auto_pad`` SAME (``output = input * stride``, at most what the taps
    reach, as onnxruntime reads it), say how much is cut off in all. Half of it goes to each side,
    an odd cell to the end for SAME_UPPER and to the beginning otherwise. An ``output_shape`` beyond
    what the taps reach is padded at its end.
    """
    rank = len(input_shape)
    strides = node.integers("strides", (1,) * rank)
    dilations = node.integers("dilations", (1,) * rank)
    output_padding = node.integers("output_padding", (0,) * rank)
    auto_pad = node.text("auto_pad", "NOTSET")
    reached = [
        (size - 1) * stride + (kernel - 1) * dilation + 1 + more
        for size, kernel, stride, dilation, more in zip(
            input_shape, kernel_shape, strides, dilations, output_padding, strict=True
        )
    ]
    # Some files repeat batch and channels.
    wanted = node.integers("output_shape", ())[-rank:]
    if not wanted and auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        same = (size * stride for size, stride in zip(input_shape, strides, strict=True))
        wanted = tuple(map(min, same, reached))
    if not wanted:
        pads = node.integers("pads", (0,) * (2 * rank))
        return ((0,) * (2 * rank) if auto_pad == "VALID" else pads), output_padding
    cut = [size - left for size, left in zip(reached, wanted, strict=True)]
    smaller = tuple(max(total, 0) // 2 for total in cut)
    larger = tuple(max(total, 0) - half for total, half in zip(cut, smaller, strict=True))
    missing = tuple(more - min(total, 0) for total, more in zip(cut, output_padding, strict=True))
    return (smaller + larger if auto_pad == "SAME_UPPER" else larger + smaller), missing


OPS.register("ConvTranspose")(ConvTranspose())
