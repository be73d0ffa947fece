"""The depthwise convolution kernel: one multiply and one add per tap on contiguous runs.

The padded picture is stored by *phases*: cell ``p`` of an axis with stride ``s`` goes to position
``p // s`` of phase ``p % s``. There tap ``k`` of window ``o``, dilated by ``d``, reads position
``o + k * d // s`` of phase ``k * d % s``: for all windows of all planes together a tap is one
contiguous run, whatever the stride. A run also holds positions that no window starts at (a row's
end, a plane's end); their sums are computed and thrown away.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from quantkit.numerics.affine import IntegerArray
from quantkit.numerics.integer_gemm import Carrier, ConstantOperand
from quantkit.numerics.requantizer import Requantizer
from quantkit.reference.windows import Windows

# Bytes of one block's padded planes; they, the sums and the products stay in the L2 cache.
_BLOCK_BYTES = 256 * 1024

DepthwiseKernel = Callable[[IntegerArray, Windows, IntegerArray], None]
"""(codes (C, *spatial), windows, codes (C, *output) to fill) of one sample."""


def depthwise_kernel(
    operand: ConstantOperand, requantize: Requantizer, zero_point: int, dtype: np.dtype[np.integer]
) -> DepthwiseKernel:
    """Make the kernel.

    Args:
        operand: Weights (C, 1, taps), one filter per channel.
        requantize: Channel axis 0.
        zero_point: The input's, which fills the border.
        dtype: Of the output's codes.
    """
    # One channel's taps must be exact in one go; otherwise int32 carries them.
    is_exact = len(operand.blocks) == 1 and operand.bias_is_exact
    carrier = operand.weight.dtype if is_exact else np.dtype(np.int32)
    weight = operand.weight[:, 0].astype(carrier)
    bias = operand.bias.astype(carrier)

    def one_sample(x_q: IntegerArray, windows: Windows, out: IntegerArray) -> None:
        planes = tuple(
            -(-size // stride)
            for size, stride in zip(windows.padded_shape, windows.strides, strict=True)
        )
        plane = math.prod(planes)
        runs = _runs(windows, planes)
        tail = max(shift for _, shift in runs)
        inside = tuple(slice(count) for count in windows.output_shape)
        step = max(1, _BLOCK_BYTES // (4 * plane * math.prod(windows.strides)))
        for start in range(0, len(x_q), step):
            channels = slice(start, min(start + step, len(x_q)))
            phases = _split_phases(x_q[channels], windows, planes, tail, zero_point, carrier)
            cells = phases.shape[1] - tail
            total = np.empty((cells // plane, plane), carrier)
            product = np.empty_like(total)
            for tap, (phase, shift) in enumerate(runs):
                run = phases[phase, shift : shift + cells].reshape(total.shape)
                np.multiply(run, weight[channels, tap, np.newaxis], out=product if tap else total)
                np.add(total, product if tap else bias[channels], out=total)
            codes = np.empty(total.shape, dtype)
            requantize(total, codes, channels)
            out[channels] = codes.reshape(-1, *planes)[:, *inside]

    return one_sample


def _flat_index(position: list[int], shape: tuple[int, ...]) -> int:
    index = 0
    for coordinate, size in zip(position, shape, strict=True):
        index = index * size + coordinate
    return index


def _runs(windows: Windows, planes: tuple[int, ...]) -> list[tuple[int, int]]:
    """Each tap's phase and first position, in C order of the kernel."""
    runs = []
    for tap in np.ndindex(windows.kernel_shape):
        cell = [k * dilation for k, dilation in zip(tap, windows.dilations, strict=True)]
        pairs = [divmod(c, stride) for c, stride in zip(cell, windows.strides, strict=True)]
        phase = _flat_index([remainder for _, remainder in pairs], windows.strides)
        runs.append((phase, _flat_index([quotient for quotient, _ in pairs], planes)))
    return runs


def _split_phases(
    x_q: IntegerArray,
    windows: Windows,
    planes: tuple[int, ...],
    tail: int,
    zero_point: int,
    carrier: npt.DTypeLike,
) -> Carrier:
    """The padded planes of ``x_q`` by phases, (phases, C * cells of a plane + tail)."""
    cells = len(x_q) * math.prod(planes)
    phases = np.full((math.prod(windows.strides), cells + tail), zero_point, carrier)
    for plane, phase in zip(phases, np.ndindex(windows.strides), strict=True):
        source: list[slice] = []
        target: list[slice] = []
        for at, stride, begin, size in zip(
            phase, windows.strides, windows.pads_begin, windows.input_shape, strict=True
        ):
            first = (at - begin) % stride
            position = (begin + first) // stride
            source.append(slice(first, None, stride))
            target.append(slice(position, position + len(range(first, size, stride))))
        plane[:cells].reshape(-1, *planes)[:, *target] = x_q[:, *source]
    return phases
