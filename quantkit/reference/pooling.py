"""Max, average and global average pooling, and their gradients.

With ``ceil_mode`` a last window that would start in the end padding is dropped, and what the last
window reads beyond the declared padding never counts, as onnxruntime computes it (opsets 11 to 22
agree). ONNX shape inference does not know the first rule: it may announce one window more.

Source: ONNX operator specification, MaxPool-22, AveragePool-22, GlobalAveragePool-22.
"""

import math
from collections.abc import Sequence

import numpy as np

from quantkit.errors import ShapeMismatchError
from quantkit.reference.arrays import FloatArray, require_shape, require_spatial
from quantkit.reference.windows import Windows, make_windows, pad


def max_pool(
    x: FloatArray,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    ceil_mode: bool = False,
) -> FloatArray:
    """The largest value of every window; padding never wins.

    Args:
        x: (N, C, *spatial).
        kernel_shape: Taps per spatial axis.
        strides: Default 1.
        pads: ``[begin..., end...]``, each smaller than the kernel; default 0.
        dilations: Default 1.
        ceil_mode: Whether a window that is only partly covered still counts.

    Returns:
        (N, C, *output), of ``x``'s dtype.

    Raises:
        ShapeMismatchError: The shapes or attributes do not fit each other.
    """
    windows = _pool_windows(x, kernel_shape, strides, pads, dilations, ceil_mode=ceil_mode)
    return window_maximum(x, windows)


def window_maximum(x: FloatArray, windows: Windows) -> FloatArray:
    """:func:`max_pool` over given windows; one that holds border alone is ``-inf``."""
    return _maximum_of_taps(pad(x, windows, value=-math.inf), windows)


def max_pool_backward(
    grad_y: FloatArray,
    x: FloatArray,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    ceil_mode: bool = False,
) -> FloatArray:
    """Gradient of :func:`max_pool`: each window hands its gradient to the first largest value.

    Args:
        grad_y: Gradient of the output, (N, C, *output).
        x: The input of the forward call, (N, C, *spatial).
        kernel_shape: As in the forward call.
        strides: As in the forward call.
        pads: As in the forward call.
        dilations: As in the forward call.
        ceil_mode: As in the forward call.

    Returns:
        Shaped like ``x``, of ``grad_y``'s dtype.

    Raises:
        ShapeMismatchError: The shapes or attributes do not fit each other.
    """
    windows = _pool_windows(x, kernel_shape, strides, pads, dilations, ceil_mode=ceil_mode)
    require_shape("grad_y", grad_y, x.shape[:2] + windows.output_shape)
    padded = pad(x, windows, value=-math.inf)
    y = _maximum_of_taps(padded, windows)
    grad_padded = np.zeros(padded.shape, dtype=grad_y.dtype)
    is_open = np.ones(y.shape, dtype=np.bool_)
    for tap in windows.taps():
        is_winner = is_open & (padded[tap] == y)
        grad_padded[tap] += grad_y * is_winner
        is_open &= ~is_winner
    return grad_padded[windows.interior]


def average_pool(
    x: FloatArray,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> FloatArray:
    """The mean of every window.

    Args:
        x: (N, C, *spatial).
        kernel_shape: Taps per spatial axis.
        strides: Default 1.
        pads: ``[begin..., end...]``, each smaller than the kernel; default 0.
        dilations: Default 1.
        ceil_mode: Whether a window that is only partly covered still counts.
        count_include_pad: Whether the zeros of the padding count in the mean.

    Returns:
        (N, C, *output), of ``x``'s dtype.

    Raises:
        ShapeMismatchError: The shapes or attributes do not fit each other.
    """
    windows = _pool_windows(x, kernel_shape, strides, pads, dilations, ceil_mode=ceil_mode)
    return window_mean(x, windows, count_include_pad=count_include_pad)


def window_mean(x: FloatArray, windows: Windows, *, count_include_pad: bool) -> FloatArray:
    """:func:`average_pool` over given windows; one that holds border alone is 0."""
    padded = pad(x, windows)
    y = np.zeros(x.shape[:2] + windows.output_shape, dtype=x.dtype)
    for tap in windows.taps():
        y += padded[tap]
    y /= np.maximum(_divisor(windows, count_include_pad=count_include_pad, like=x), 1)
    return y


def average_pool_backward(
    grad_y: FloatArray,
    x: FloatArray,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> FloatArray:
    """Gradient of :func:`average_pool`: each window spreads its gradient evenly.

    Args:
        grad_y: Gradient of the output, (N, C, *output).
        x: The input of the forward call (only its shape counts), (N, C, *spatial).
        kernel_shape: As in the forward call.
        strides: As in the forward call.
        pads: As in the forward call.
        dilations: As in the forward call.
        ceil_mode: As in the forward call.
        count_include_pad: As in the forward call.

    Returns:
        Shaped like ``x``, of ``grad_y``'s dtype.

    Raises:
        ShapeMismatchError: The shapes or attributes do not fit each other.
    """
    windows = _pool_windows(x, kernel_shape, strides, pads, dilations, ceil_mode=ceil_mode)
    require_shape("grad_y", grad_y, x.shape[:2] + windows.output_shape)
    share = grad_y / _divisor(windows, count_include_pad=count_include_pad, like=grad_y)
    grad_padded = np.zeros(x.shape[:2] + windows.padded_shape, dtype=grad_y.dtype)
    for tap in windows.taps():
        grad_padded[tap] += share
    return grad_padded[windows.interior]


def global_average_pool(x: FloatArray) -> FloatArray:
    """The mean of every channel.

    Args:
        x: (N, C, *spatial).

    Returns:
        (N, C, 1, ...), of ``x``'s dtype.

    Raises:
        ShapeMismatchError: ``x`` has no spatial axis.
    """
    require_spatial("x", x)
    y: FloatArray = x.mean(axis=tuple(range(2, x.ndim)), keepdims=True)
    return y


def global_average_pool_backward(grad_y: FloatArray, x: FloatArray) -> FloatArray:
    """Gradient of :func:`global_average_pool`: spread evenly over the channel.

    Args:
        grad_y: Gradient of the output, (N, C, 1, ...).
        x: The input of the forward call (only its shape counts), (N, C, *spatial).

    Returns:
        Shaped like ``x``, of ``grad_y``'s dtype.

    Raises:
        ShapeMismatchError: The shapes do not fit each other.
    """
    require_spatial("x", x)
    require_shape("grad_y", grad_y, x.shape[:2] + (1,) * (x.ndim - 2))
    return np.broadcast_to(grad_y / math.prod(x.shape[2:]), x.shape).copy()


def _pool_windows(
    x: FloatArray,
    kernel_shape: Sequence[int],
    strides: Sequence[int] | None,
    pads: Sequence[int] | None,
    dilations: Sequence[int] | None,
    *,
    ceil_mode: bool,
) -> Windows:
    require_spatial("x", x)
    windows = make_windows(x.shape[2:], kernel_shape, strides, pads, dilations, ceil_mode=ceil_mode)
    if not windows.tap_counts(include_pad=False).all():
        raise ShapeMismatchError(
            f"a window holds nothing but padding: kernel_shape {list(kernel_shape)}, "
            f"pads {list(windows.pads_begin + windows.pads_end)}, input {x.shape}"
        )
    return windows


def _maximum_of_taps(padded: FloatArray, windows: Windows) -> FloatArray:
    y = np.full(padded.shape[:2] + windows.output_shape, -math.inf, dtype=padded.dtype)
    for tap in windows.taps():
        np.maximum(y, padded[tap], out=y)
    return y


def _divisor(windows: Windows, *, count_include_pad: bool, like: FloatArray) -> FloatArray:
    return windows.tap_counts(include_pad=count_include_pad).astype(like.dtype)
