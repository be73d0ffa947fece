"""The depthwise convolution kernel: every channel has a filter of its own.

The taps of a channel are summed by one ``einsum``, whose inner loop adds ``weight * run`` to the
sums for a contiguous run of codes. The padded codes are copied once per tap into runs; where rows
are not strided, the taps along the first axis need no copies: tap ``k`` reads the same run
``k * dilation`` rows later. For long runs even on small planes, the samples of a block lie side by
side within a row.
"""

import math
from dataclasses import replace

import numpy as np
from numpy.lib.stride_tricks import as_strided

from quantkit.numerics.affine import IntegerArray
from quantkit.numerics.integer_gemm import Carrier, ConstantOperand
from quantkit.numerics.requantizer import Requantizer
from quantkit.ops.parallel import cut, for_each, sum_bytes
from quantkit.ops.windows import pad_codes, window_columns
from quantkit.reference.windows import Windows


def convolve_depthwise(
    x_q: IntegerArray,
    windows: Windows,
    zero_point: int,
    operand: ConstantOperand,
    requantize: Requantizer,
    out: IntegerArray,
    threads: int,
) -> None:
    """Sum and requantize blocks of samples or of channels of one sample.

    Args:
        x_q: Codes (N, C, *windows.input_shape).
        windows: The windows.
        zero_point: The input's, which fills the border.
        operand: Weights (C, 1, taps), one filter per channel.
        requantize: Channel axis 0.
        out: Codes to fill, (N, C, *windows.output_shape).
        threads: How many to use.
    """
    # One channel's taps must be exact in one go; otherwise integers carry them.
    is_exact = len(operand.blocks) == 1 and operand.bias_is_exact
    carrier = operand.weight.dtype if is_exact else operand.sums.integer
    weight = operand.weight.reshape(len(operand.weight), windows.kernel_shape[0], -1)
    weight, bias = weight.astype(carrier), operand.bias.astype(carrier)

    def convolve_block(block: tuple[slice, slice]) -> None:
        _, channels = block
        runs = _runs(pad_codes(x_q[block], windows, zero_point), windows, carrier)
        # (C, rows, N, *rest), as the runs are.
        codes = np.moveaxis(out[block], 0, 2)
        total = np.empty((len(runs), runs.shape[-1]), carrier)
        # Without ``out``, einsum lays the sums out for short inner loops.
        np.einsum("cij,cijp->cp", weight[channels], runs, out=total)
        np.add(total, bias[channels], out=total)
        requantize(total.reshape(codes.shape), codes, channels)

    is_shared = windows.strides[0] == 1
    copies = math.prod(windows.kernel_shape[1:] if is_shared else windows.kernel_shape)
    plane_bytes = carrier.itemsize * copies + sum_bytes(carrier)
    plane_bytes *= math.prod(windows.output_shape)
    for_each(convolve_block, cut(len(out), out.shape[1], plane_bytes, threads), threads)


def _runs(padded: IntegerArray, windows: Windows, carrier: np.dtype[np.number]) -> Carrier:
    """What each tap reads, as a view: (C, taps of the first axis, other taps, positions).

    Positions are output rows, samples and the other output axes, in this order.

    Args:
        padded: Codes (N, C, *windows.padded_shape).
        windows: The windows.
        carrier: What the codes are copied to.
    """
    samples, channels, padded_rows = padded.shape[:3]
    taps, rows = windows.kernel_shape[0], windows.output_shape[0]
    row = samples * math.prod(windows.output_shape[1:])
    is_shared = windows.strides[0] == 1
    copied = windows
    if is_shared:
        copied = replace(
            windows,
            kernel_shape=(1, *windows.kernel_shape[1:]),
            output_shape=(padded_rows, *windows.output_shape[1:]),
        )
    # (C, *kernel, rows, N, *rest)
    columns = np.moveaxis(window_columns(padded, copied), 0, windows.rank + 2)
    runs = columns.astype(carrier, order="C").reshape(
        channels, copied.kernel_shape[0], math.prod(windows.kernel_shape[1:]), -1
    )
    channel_step, tap_step, other_step, step = runs.strides
    if is_shared:
        tap_step = step * row * windows.dilations[0]
    return as_strided(
        runs,
        (channels, taps, runs.shape[2], rows * row),
        (channel_step, tap_step, other_step, step),
        writeable=False,
    )
