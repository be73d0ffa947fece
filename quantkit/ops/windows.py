"""The windows of a Conv or pooling node: its attributes, ``auto_pad`` included, on one input."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from quantkit.errors import ShapeMismatchError
from quantkit.graph.program import Node
from quantkit.numerics.affine import IntegerArray
from quantkit.reference.windows import Index, Windows, make_windows

Number = TypeVar("Number", bound=np.generic)

_SAME = ("SAME_UPPER", "SAME_LOWER")


def node_windows(node: Node, input_shape: Sequence[int], kernel_shape: Sequence[int]) -> Windows:
    """Lay the windows of a Conv, MaxPool or AveragePool over an input.

    ``auto_pad`` SAME pads so that ``output = ceil(input / stride)``; the odd cell goes to the end
    (SAME_UPPER) or the beginning (SAME_LOWER). Of a pool the dilations do not count here, as in
    onnxruntime 1.32 (``core/providers/cpu/nn/pool_attributes.h``), which refuses a dilated Conv.

    Args:
        node: Its attributes strides, pads, dilations, auto_pad and ceil_mode are read.
        input_shape: Spatial sizes of the input, behind its :func:`skipped_cells`.
        kernel_shape: Taps per spatial axis.

    Raises:
        ShapeMismatchError: The attributes do not fit the input.
    """
    rank = len(input_shape)
    strides = node.integers("strides", (1,) * rank)
    dilations = node.integers("dilations", (1,) * rank)
    auto_pad = node.text("auto_pad", "NOTSET")
    if auto_pad in _SAME:
        return _same_windows(node, input_shape, kernel_shape, strides, dilations)
    pads = (0,) * (2 * rank)
    if auto_pad != "VALID":
        pads = node.integers("pads", pads)
    ceil_mode = bool(node.integer("ceil_mode", 0))
    return make_windows(input_shape, kernel_shape, strides, pads, dilations, ceil_mode=ceil_mode)


def _same_windows(
    node: Node,
    input_shape: Sequence[int],
    kernel_shape: Sequence[int],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> Windows:
    begins: list[int] = []
    ends: list[int] = []
    counts: list[int] = []
    for size, kernel, stride, dilation in zip(
        input_shape, kernel_shape, strides, dilations, strict=True
    ):
        extent, counted = (kernel - 1) * dilation + 1, _counted_extent(node, kernel, dilation)
        last = (-(-size // stride) - 1) * stride
        total = max(last + counted - size, 0)
        smaller = total // 2
        begins.append(smaller if node.text("auto_pad", "") == "SAME_UPPER" else total - smaller)
        ends.append(total - begins[-1])
        # Dilated windows reach further than what was padded for, and fewer fit.
        room = last + counted - extent
        is_up = room < 0 or node.integer("ceil_mode", 0)
        counts.append((-(-room // stride) if is_up else room // stride) + 1)
    if min(counts, default=1) < 1:
        raise ShapeMismatchError(
            f"{node.name}: no window of kernel {list(kernel_shape)} with dilations "
            f"{list(dilations)} fits an input of {list(input_shape)} ({node.op_type}, auto_pad "
            f"{node.text('auto_pad', '')})"
        )
    return Windows(
        tuple(input_shape),
        tuple(kernel_shape),
        strides,
        dilations,
        tuple(begins),
        tuple(ends),
        tuple(counts),
    )


def _counted_extent(node: Node, kernel: int, dilation: int) -> int:
    """What ``auto_pad`` SAME takes for the extent of a window."""
    return (kernel - 1) * dilation + 1 if node.op_type == "Conv" else kernel


def skipped_cells(
    node: Node, input_shape: Sequence[int], kernel_shape: Sequence[int]
) -> tuple[int, ...]:
    """How many cells lie before the first window of ``auto_pad`` SAME, per spatial axis.

    Where the last of ``ceil(input / stride)`` windows ends before the input does, fewer cells are
    needed than there are: a negative padding. onnxruntime 1.32 then begins behind half of the
    others (one of them less for a Conv), rounded down, for SAME_LOWER rounded down to less than
    half. Found by comparing which cell each tap reads, sizes 1 to 13, in one to three dimensions.

    Args:
        node: Its attributes strides, dilations and auto_pad are read.
        input_shape: Spatial sizes of the input.
        kernel_shape: Taps per spatial axis.
    """
    auto_pad = node.text("auto_pad", "NOTSET")
    rank = len(input_shape)
    if auto_pad not in _SAME:
        return (0,) * rank
    strides = node.integers("strides", (1,) * rank)
    dilations = node.integers("dilations", (1,) * rank)
    kept = 1 if node.op_type == "Conv" else 0
    skipped: list[int] = []
    for size, kernel, stride, dilation in zip(
        input_shape, kernel_shape, strides, dilations, strict=True
    ):
        last = (-(-size // stride) - 1) * stride
        surplus = size - last - _counted_extent(node, kernel, dilation) - kept
        begin = surplus // 2 if auto_pad == "SAME_UPPER" else (surplus - 1) // 2
        skipped.append(max(begin, 0))
    return tuple(skipped)


def crop_same(
    node: Node, x: npt.NDArray[Number], kernel_shape: Sequence[int]
) -> npt.NDArray[Number]:
    """``x``, (N, C, *spatial), without its :func:`skipped_cells`."""
    skipped = skipped_cells(node, x.shape[2:], kernel_shape)
    index: Index = (..., *(slice(cells, None) for cells in skipped))
    return x[index]


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
