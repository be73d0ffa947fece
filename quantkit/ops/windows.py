"""The windows of a Conv or pooling node: its attributes, ``auto_pad`` included, on one input."""

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import as_strided

from quantkit.graph.program import Node
from quantkit.numerics.affine import IntegerArray
from quantkit.reference.windows import Windows, make_windows


def node_windows(node: Node, input_shape: Sequence[int], kernel_shape: Sequence[int]) -> Windows:
    """Lay the windows of a Conv, MaxPool or AveragePool over an input.

    ``auto_pad`` SAME pads so that ``output = ceil(input / stride)``; the odd cell goes to the end
    (SAME_UPPER) or the beginning (SAME_LOWER).

    Args:
        node: Its attributes strides, pads, dilations, auto_pad and ceil_mode are read.
        input_shape: Spatial sizes of the input.
        kernel_shape: Taps per spatial axis.

    Raises:
        ShapeMismatchError: The attributes do not fit the input.
    """
    rank = len(input_shape)
    strides = node.integers("strides", (1,) * rank)
    dilations = node.integers("dilations", (1,) * rank)
    pads = node.integers("pads", (0,) * (2 * rank))
    auto_pad = node.text("auto_pad", "NOTSET")
    if auto_pad == "VALID":
        pads = (0,) * (2 * rank)
    elif auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        totals = [
            max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
            for size, kernel, stride, dilation in zip(
                input_shape, kernel_shape, strides, dilations, strict=True
            )
        ]
        smaller = tuple(total // 2 for total in totals)
        larger = tuple(total - half for total, half in zip(totals, smaller, strict=True))
        pads = smaller + larger if auto_pad == "SAME_UPPER" else larger + smaller
    ceil_mode = bool(node.integer("ceil_mode", 0))
    return make_windows(input_shape, kernel_shape, strides, pads, dilations, ceil_mode=ceil_mode)


def pad_codes(x_q: IntegerArray, windows: Windows, code: int) -> IntegerArray:
    """``x_q`` with its spatial axes surrounded by ``code``; ``x_q`` itself where nothing is added.

    Args:
        x_q: (..., *windows.input_shape).
        windows: Says how far.
        code: What to fill the border with.
    """
    if windows.padded_shape == windows.input_shape:
        return x_q
    padded = np.full(x_q.shape[: -windows.rank] + windows.padded_shape, code, x_q.dtype)
    padded[windows.interior] = x_q
    return padded


def window_columns(padded: IntegerArray, windows: Windows) -> IntegerArray:
    """A view of the codes of every tap of every window, (N, C, *kernel, *output).

    Args:
        padded: (N, C, *windows.padded_shape).
        windows: The windows.
    """
    lead, steps = padded.strides[:2], padded.strides[2:]
    taps = [step * by for step, by in zip(steps, windows.dilations, strict=True)]
    moves = [step * by for step, by in zip(steps, windows.strides, strict=True)]
    shape = (*padded.shape[:2], *windows.kernel_shape, *windows.output_shape)
    return as_strided(padded, shape, (*lead, *taps, *moves), writeable=False)
