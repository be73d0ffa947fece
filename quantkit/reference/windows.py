"""Where the windows of a convolution or pooling lie, in any number of spatial dimensions.

One axis of ``size`` values is padded to ``begin + size + end``; window ``o`` starts at
``o * stride`` of the padded axis and its tap ``k`` reads position ``o * stride + k * dilation``.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import EllipsisType

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from quantkit.errors import ShapeMismatchError
from quantkit.reference.arrays import FloatArray

Shape = tuple[int, ...]
Index = tuple[EllipsisType | slice, ...]
"""An index of the last axes of an array, the spatial ones."""


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows over one input; every field has one entry per spatial axis.

    Attributes:
        input_shape: Sizes of the input without padding.
        kernel_shape: Taps of a window.
        strides: Steps from one window to the next.
        dilations: Steps from one tap to the next.
        pads_begin: Padding asked for before the input.
        pads_end: Padding asked for after the input.
        output_shape: Number of windows.
    """

    input_shape: Shape
    kernel_shape: Shape
    strides: Shape
    dilations: Shape
    pads_begin: Shape
    pads_end: Shape
    output_shape: Shape

    @property
    def rank(self) -> int:
        """The number of spatial axes."""
        return len(self.input_shape)

    @property
    def padded_shape(self) -> Shape:
        """Sizes after padding; with ``ceil_mode`` the last window may reach beyond the pads."""
        return tuple(
            max(size + begin + end, (count - 1) * stride + (kernel - 1) * dilation + 1)
            for size, begin, end, count, stride, kernel, dilation in zip(
                self.input_shape,
                self.pads_begin,
                self.pads_end,
                self.output_shape,
                self.strides,
                self.kernel_shape,
                self.dilations,
                strict=True,
            )
        )

    @property
    def interior(self) -> Index:
        """Where the padded array holds the input."""
        return (
            ...,
            *(
                slice(begin, begin + size)
                for begin, size in zip(self.pads_begin, self.input_shape, strict=True)
            ),
        )

    def taps(self) -> Iterator[Index]:
        """For each tap in C order: what it reads of the padded array, one value per window."""
        for tap in np.ndindex(self.kernel_shape):
            yield (
                ...,
                *(
                    slice(k * dilation, k * dilation + (count - 1) * stride + 1, stride)
                    for k, dilation, count, stride in zip(
                        tap, self.dilations, self.output_shape, self.strides, strict=True
                    )
                ),
            )

    def tap_counts(self, *, include_pad: bool) -> npt.NDArray[np.int64]:
        """Count the taps of each window that read the input.

        Args:
            include_pad: Whether the padding asked for counts as input; what a window of
                ``ceil_mode`` reads beyond it never does.

        Returns:
            int64, ``output_shape``.
        """
        counts = np.ones((), dtype=np.int64)
        for axis in range(self.rank):
            window = np.arange(self.output_shape[axis]) * self.strides[axis]
            tap = np.arange(self.kernel_shape[axis]) * self.dilations[axis]
            position = window[:, np.newaxis] + tap - self.pads_begin[axis]
            before, after = (self.pads_begin[axis], self.pads_end[axis]) if include_pad else (0, 0)
            is_read = (position >= -before) & (position < self.input_shape[axis] + after)
            counts = np.multiply.outer(counts, is_read.sum(axis=1))
        return counts


def make_windows(
    input_shape: Sequence[int],
    kernel_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    *,
    ceil_mode: bool = False,
) -> Windows:
    """Lay windows over an input.

    Per axis ``count = floor((begin + size + end - (kernel - 1) * dilation - 1) / stride) + 1``,
    or ``ceil`` in place of ``floor``; then a last window that would start in the end padding is
    dropped. Source: ONNX operator specification, AveragePool-22.

    Args:
        input_shape: Spatial sizes of the input.
        kernel_shape: Taps per axis.
        strides: Default 1.
        pads: ``[begin of every axis..., end of every axis...]``, default 0.
        dilations: Default 1.
        ceil_mode: Whether a window that is only partly covered still counts.

    Returns:
        The windows.

    Raises:
        ShapeMismatchError: An argument has the wrong length or an impossible value, or no window
            fits.
    """
    rank = len(input_shape)
    strides = (1,) * rank if strides is None else tuple(strides)
    dilations = (1,) * rank if dilations is None else tuple(dilations)
    pads = (0,) * (2 * rank) if pads is None else tuple(pads)
    require_integers("kernel_shape", kernel_shape, rank, lowest=1)
    require_integers("strides", strides, rank, lowest=1)
    require_integers("dilations", dilations, rank, lowest=1)
    require_integers("pads", pads, rank, lowest=0, per_axis=2)

    counts = []
    for axis in range(rank):
        begin, end, stride = pads[axis], pads[rank + axis], strides[axis]
        extent = (kernel_shape[axis] - 1) * dilations[axis] + 1
        room = begin + input_shape[axis] + end - extent
        if room < 0:
            raise ShapeMismatchError(
                f"a window of extent {extent} does not fit spatial axis {axis}: "
                f"size {input_shape[axis]} with pads {begin} and {end}"
            )
        count = (math.ceil(room / stride) if ceil_mode else room // stride) + 1
        if ceil_mode and (count - 1) * stride >= begin + input_shape[axis]:
            count -= 1
        counts.append(count)
    return Windows(
        input_shape=tuple(input_shape),
        kernel_shape=tuple(kernel_shape),
        strides=strides,
        dilations=dilations,
        pads_begin=pads[:rank],
        pads_end=pads[rank:],
        output_shape=tuple(counts),
    )


def require_integers(
    name: str, values: Sequence[int], rank: int, *, lowest: int, per_axis: int = 1
) -> None:
    """Raise ShapeMismatchError unless an attribute has its integers for every spatial axis."""
    if len(values) != per_axis * rank or min(values) < lowest:
        raise ShapeMismatchError(
            f"{name} must be {per_axis * rank} integers >= {lowest} for {rank} spatial axes, "
            f"got {list(values)}"
        )


def pad(x: FloatArray, windows: Windows, *, value: float = 0.0) -> FloatArray:
    """Surround the spatial axes (the last ones) with ``value``.

    Args:
        x: (..., *windows.input_shape).
        windows: Says how far.
        value: What to fill the border with.

    Returns:
        (..., *windows.padded_shape), of ``x``'s dtype and memory order; ``x`` itself where
        nothing is added.
    """
    if windows.padded_shape == windows.input_shape:
        return x
    shape = x.shape[: -windows.rank] + windows.padded_shape
    padded = np.full_like(x, value, shape=shape)
    padded[windows.interior] = x
    return padded


def gather_columns(x: FloatArray, windows: Windows, group: int) -> FloatArray:
    """Copy every window into a column (im2col).

    Args:
        x: (N, C, *spatial).
        windows: The windows over ``x``.
        group: Groups the channels are divided into; divides C.

    Returns:
        (N, group, C / group * taps, windows), of ``x``'s dtype.
    """
    rank = windows.rank
    extents = [
        (kernel - 1) * dilation + 1
        for kernel, dilation in zip(windows.kernel_shape, windows.dilations, strict=True)
    ]
    views = sliding_window_view(pad(x, windows), extents, axis=tuple(range(2, 2 + rank)))
    starts = (slice(None, None, stride) for stride in windows.strides)
    taps = (slice(None, None, dilation) for dilation in windows.dilations)
    index: Index = (..., *starts, *taps)
    # (N, C, *output, *kernel) -> (N, C, *kernel, *output)
    views = views[index].transpose(0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
    rows = x.shape[1] // group * math.prod(windows.kernel_shape)
    return views.reshape(len(x), group, rows, math.prod(windows.output_shape))


def scatter_columns(columns: FloatArray, windows: Windows) -> FloatArray:
    """Add every column back to where :func:`gather_columns` took it from (col2im).

    Args:
        columns: (N, group, C / group * taps, windows).
        windows: The windows over the result.

    Returns:
        (N, C, *spatial), of ``columns``' dtype: the transpose of the gathering.
    """
    n, group, rows, _ = columns.shape
    taps = math.prod(windows.kernel_shape)
    by_tap = columns.reshape(n, group * rows // taps, taps, *windows.output_shape)
    padded = np.zeros(by_tap.shape[:2] + windows.padded_shape, dtype=columns.dtype)
    for index, tap in enumerate(windows.taps()):
        padded[tap] += by_tap[:, :, index]
    return padded[windows.interior]
