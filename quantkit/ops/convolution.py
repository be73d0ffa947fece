"""Conv in one, two or three dimensions: standard, grouped, depthwise, pointwise.

``y_q[o, p] = requantize(bias[o] + sum_{c, k} weight_q[o, c, k] * (x_q[c, p * stride + k] - z_x))``

The zero point is folded into the bias and the border is padded with it, so the sums run over plain
codes (:class:`~quantkit.numerics.integer_gemm.ConstantOperand`). Depthwise kernels have a file of
their own (:mod:`quantkit.ops.depthwise`); everything else gathers windows into columns, one block
(:mod:`quantkit.ops.parallel`) at a time, for one exact matrix product per block.
"""

import math
from collections.abc import Sequence

import numpy as np

from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import IntegerArray
from quantkit.numerics.integer_gemm import ConstantOperand, matmul_exact
from quantkit.numerics.requantizer import Requantizer
from quantkit.ops.contract import OPS, Kernel, Lowering, Op, QuantRule, optional_input, real_input
from quantkit.ops.depthwise import convolve_depthwise
from quantkit.ops.parallel import cut, for_each, sum_bytes
from quantkit.ops.weights import (
    centered_weight,
    constant_operand,
    spatial_weight_refusal,
    sum_requantizer,
)
from quantkit.ops.windows import crop_same, node_windows, pad_codes, window_columns
from quantkit.reference.conv import conv
from quantkit.reference.windows import Windows


class Conv(Op):
    """Convolution (ONNX Conv)."""

    rule = QuantRule("own", weight=1, bias=2)

    def weight_axis(self, node: Node, weight_ndim: int) -> int:
        """Output channels come first: (O, C / group, *kernel)."""
        return 0

    def refusal(self, node: Node, constants: Sequence[Array | None]) -> str | None:
        """Why this node cannot have an integer kernel, or None."""
        return spatial_weight_refusal(node, constants)

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Float convolution."""
        x, weight = real_input(inputs, 0), real_input(inputs, 1)
        bias = optional_input(inputs, 2)
        x = crop_same(node, x, weight.shape[2:])
        windows = node_windows(node, x.shape[2:], weight.shape[2:])
        y = conv(
            x,
            weight,
            bias,
            strides=windows.strides,
            pads=windows.pads_begin + windows.pads_end,
            dilations=windows.dilations,
            group=node.integer("group", 1),
        )
        return (y,)

    def lower(self, lowering: Lowering) -> Kernel:
        """Fold, prove and choose the kernel."""
        node, x, y = lowering.node, lowering.params(0), lowering.outputs[0]
        codes = centered_weight(node, lowering.codes(1))
        outputs, group = len(codes), node.integer("group", 1)
        operand = constant_operand(lowering, codes.reshape(group, outputs // group, -1))
        requantize = sum_requantizer(lowering, channel_axis=0)
        is_depthwise = codes.shape[1] == 1 and outputs == group > 1
        convolve = convolve_depthwise if is_depthwise else _convolve
        kernel_shape, zero_point = codes.shape[2:], int(x.zero_point)

        def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
            x_q = crop_same(node, inputs[0], kernel_shape)
            windows = node_windows(node, x_q.shape[2:], kernel_shape)
            y_q = np.empty((len(x_q), outputs, *windows.output_shape), y.dtype)
            convolve(x_q, windows, zero_point, operand, requantize, y_q, lowering.threads)
            return (y_q,)

        return kernel

    def macs(self, node: Node, shapes: Sequence[tuple[int, ...] | None]) -> int:
        """``N * O * windows * (C / group) * taps``."""
        weight, y = shapes[1], shapes[-1]
        if weight is None or y is None:
            return 0
        return math.prod(y) * math.prod(weight[1:])


def _convolve(
    x_q: IntegerArray,
    windows: Windows,
    zero_point: int,
    operand: ConstantOperand,
    requantize: Requantizer,
    out: IntegerArray,
    threads: int,
) -> None:
    """One matrix product and requantization per block of samples or of rows of one sample.

    Args:
        x_q: Codes (N, C, *windows.input_shape).
        windows: The windows.
        zero_point: The input's, which fills the border.
        operand: Weights (group, O / group, C / group * taps).
        requantize: Channel axis 0.
        out: Codes to fill, (N, O, *windows.output_shape); its first spatial axis is the rows.
        threads: How many to use.
    """
    group, group_outputs, inner = operand.weight.shape
    carrier = operand.weight.dtype
    columns = window_columns(pad_codes(x_q, windows, zero_point), windows)
    # Channels and taps first, as the matrix product wants them: (C, *kernel, N, *output).
    columns = np.moveaxis(columns, 0, 1 + windows.rank)
    every_tap = (slice(None),) * (1 + windows.rank)
    sums = np.moveaxis(out, 0, 1)

    def convolve_block(block: tuple[slice, slice]) -> None:
        carried = columns[*every_tap, *block].astype(carrier, order="C")
        carried = carried.reshape(group, inner, -1)
        total = matmul_exact(operand.weight, carried, operand.blocks)
        total = operand.add_bias(total, operand.bias[:, :, np.newaxis])
        codes = sums[:, *block]
        requantize(total.reshape(codes.shape), codes)

    position_bytes = group * (carrier.itemsize * inner + sum_bytes(carrier) * group_outputs)
    row_bytes = position_bytes * math.prod(windows.output_shape[1:])
    for_each(convolve_block, cut(len(out), out.shape[2], row_bytes, threads), threads)


OPS.register("Conv")(Conv())
