"""Conv in one, two or three dimensions: standard, grouped, depthwise, pointwise.

``y_q[o, p] = requantize(bias[o] + sum_{c, k} weight_q[o, c, k] * (x_q[c, p * stride + k] - z_x))``

The zero point is folded into the bias and the border is padded with it, so the sums run over plain
codes (:class:`~quantkit.numerics.integer_gemm.ConstantOperand`). Two ways, chosen by shape: a
depthwise kernel is shifted multiply-adds (:mod:`quantkit.ops.depthwise`), everything else gathers
windows into columns, a cache-sized block at a time, for one exact matrix product per block.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import as_strided

from quantkit.errors import UnsupportedOpError
from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import IntegerArray
from quantkit.numerics.integer_gemm import ConstantOperand, matmul_exact
from quantkit.numerics.requantizer import Requantizer
from quantkit.ops.contract import OPS, Kernel, Lowering, Op, QuantRule, optional_input, real_input
from quantkit.ops.depthwise import depthwise_kernel
from quantkit.ops.weights import centered_weight, constant_bias, require_8_bit_input
from quantkit.ops.windows import node_windows, pad_codes
from quantkit.reference.conv import conv
from quantkit.reference.windows import Windows

# Bytes of one block's columns and accumulators; a block stays in a 1 MiB L2 cache.
_BLOCK_BYTES = 512 * 1024
_LARGEST_RANK = 3


class Conv(Op):
    """Convolution (ONNX Conv)."""

    rule = QuantRule("own", weight=1, bias=2)

    def weight_axis(self, node: Node, weight_ndim: int) -> int:
        """Output channels come first: (O, C / group, *kernel)."""
        return 0

    def refusal(self, node: Node, constants: Sequence[Array | None]) -> str | None:
        """Why this node cannot have an integer kernel, or None."""
        weight = constants[1]
        if weight is None:
            return "the weight is computed, not a constant"
        if not 1 <= weight.ndim - 2 <= _LARGEST_RANK:
            return f"{weight.ndim - 2} spatial dimensions are not supported (1 to 3 are)"
        if len(node.inputs) > 2 and node.inputs[2] and constants[2] is None:
            return "the bias is computed, not a constant"
        return None

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Float convolution."""
        x, weight = real_input(inputs, 0), real_input(inputs, 1)
        bias = optional_input(inputs, 2)
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
        require_8_bit_input(node, x)
        weight = lowering.codes(1)
        if weight is None:
            raise UnsupportedOpError(f"{node.name}: Conv needs constant weight codes")
        codes = centered_weight(weight)
        outputs, group = len(codes), node.integer("group", 1)
        kernel_shape = codes.shape[2:]
        operand = ConstantOperand.prepare(
            codes.reshape(group, outputs // group, -1),
            constant_bias(lowering.codes(2), (group, outputs // group)),
            int(x.zero_point),
            max(abs(x.qmin), x.qmax),
            strict_integer=lowering.strict_integer,
        )
        requantize = lowering.arithmetic.accumulator_requantizer(
            x, weight.params, y, channel_axis=0, strict_integer=lowering.strict_integer
        )
        zero_point = int(x.zero_point)
        if codes.shape[1] == 1 and outputs == group > 1:
            one_sample = depthwise_kernel(operand, requantize, zero_point, y.dtype)
        else:

            def one_sample(x_q: IntegerArray, windows: Windows, out: IntegerArray) -> None:
                if _is_pointwise(windows):
                    columns, out = x_q.reshape(len(x_q), -1), out.reshape(outputs, -1)
                else:
                    columns = _columns(pad_codes(x_q, windows, zero_point), windows)
                _multiply_blocks(columns, operand, requantize, out)

        def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
            x_q = inputs[0]
            windows = node_windows(node, x_q.shape[2:], kernel_shape)
            y_q = np.empty((len(x_q), outputs, *windows.output_shape), y.dtype)
            for sample, out in zip(x_q, y_q, strict=True):
                one_sample(sample, windows, out)
            return (y_q,)

        return kernel

    def macs(self, node: Node, shapes: Sequence[tuple[int, ...] | None]) -> int:
        """``N * O * windows * (C / group) * taps``."""
        weight, y = shapes[1], shapes[-1]
        if weight is None or y is None:
            return 0
        return math.prod(y) * math.prod(weight[1:])


def _is_pointwise(windows: Windows) -> bool:
    """One tap, every position, nothing padded: the columns are the input as it lies."""
    return (
        set(windows.kernel_shape + windows.strides) == {1}
        and windows.padded_shape == windows.input_shape
    )


def _columns(x_q: IntegerArray, windows: Windows) -> IntegerArray:
    """A view of every window's codes, (C, *kernel, *output), of padded codes (C, *spatial)."""
    channel_step, *steps = x_q.strides
    taps = [step * by for step, by in zip(steps, windows.dilations, strict=True)]
    moves = [step * by for step, by in zip(steps, windows.strides, strict=True)]
    shape = (len(x_q), *windows.kernel_shape, *windows.output_shape)
    return as_strided(x_q, shape, (channel_step, *taps, *moves), writeable=False)


def _multiply_blocks(
    columns: IntegerArray, operand: ConstantOperand, requantize: Requantizer, out: IntegerArray
) -> None:
    """One matrix product and requantization per cache-sized block of the first output axis.

    Args:
        columns: (C, *kernel, *output); a view.
        operand: Weights (group, O / group, C / group * taps).
        requantize: Channel axis 0.
        out: (O, *output).
    """
    group, group_outputs, inner = operand.weight.shape
    row = math.prod(out.shape[2:])
    step = max(1, _BLOCK_BYTES // (4 * row * group * (inner + group_outputs)))
    lead = columns.ndim - out.ndim + 1
    for start in range(0, out.shape[1], step):
        rows = slice(start, start + step)
        block = columns[(slice(None),) * lead + (rows,)]
        carried = block.astype(operand.weight.dtype, order="C").reshape(group, inner, -1)
        total = matmul_exact(operand.weight, carried, operand.blocks)
        total = operand.add_bias(total, operand.bias[:, :, np.newaxis])
        requantize(total.reshape(out[:, rows].shape), out[:, rows])


OPS.register("Conv")(Conv())
