"""Convolution and its gradients: standard, grouped, depthwise and pointwise.

``y[n, o, p] = bias[o] + sum_{c, k} weight[o, c, k] * x[n, g(o) + c, p * stride + k * dilation]``

over the padded input, where ``g(o)`` is the first channel of ``o``'s group. Three ways, chosen
by shape: a pointwise kernel is a matrix product on ``x`` as it lies, a depthwise kernel is
:mod:`quantkit.reference.depthwise`, everything else gathers windows into columns first.

Source: ONNX operator specification, Conv-11.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quantkit.errors import ShapeMismatchError
from quantkit.reference.arrays import FloatArray, per_channel, require_shape, require_spatial
from quantkit.reference.depthwise import depthwise, depthwise_backward
from quantkit.reference.windows import Index, Windows, gather_columns, make_windows, scatter_columns


@dataclass(frozen=True, slots=True)
class _Geometry:
    windows: Windows
    group: int
    is_pointwise: bool
    """One tap per window, nothing padded: the columns are the strided input itself."""
    is_depthwise: bool
    """One input channel per group, and more than one group."""


def conv(
    x: FloatArray,
    weight: FloatArray,
    bias: FloatArray | None = None,
    *,
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    group: int = 1,
) -> FloatArray:
    """Convolve, as the ONNX op Conv does.

    Args:
        x: (N, C, *spatial).
        weight: (O, C / group, *kernel).
        bias: (O,), or None.
        strides: One per spatial axis, default 1.
        pads: ``[begin..., end...]``, default 0.
        dilations: One per spatial axis, default 1.
        group: Divides C and O.

    Returns:
        (N, O, *output), of ``x``'s dtype.

    Raises:
        ShapeMismatchError: The shapes or attributes do not fit each other.
    """
    geometry = _geometry(x, weight, strides, pads, dilations, group)
    windows = geometry.windows
    n, outputs = len(x), len(weight)
    if geometry.is_depthwise:
        rows, row_weight = _depthwise_rows(x, weight)
        y = depthwise(rows, row_weight, windows)
    else:
        columns = _columns(x, geometry)
        y = np.matmul(weight.reshape(group, outputs // group, -1), columns)
    y = y.reshape(n, outputs, *windows.output_shape)
    if bias is not None:
        require_shape("bias", bias, (outputs,))
        y += per_channel(bias, y)
    return y


def conv_backward(
    grad_y: FloatArray,
    x: FloatArray,
    weight: FloatArray,
    *,
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    group: int = 1,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Gradients of :func:`conv` with respect to its three inputs.

    Args:
        grad_y: Gradient of the output, (N, O, *output).
        x: The input of the forward call, (N, C, *spatial).
        weight: (O, C / group, *kernel).
        strides: As in the forward call.
        pads: As in the forward call.
        dilations: As in the forward call.
        group: As in the forward call.

    Returns:
        ``(grad_x, grad_weight, grad_bias)``, shaped and typed like x, weight and bias.

    Raises:
        ShapeMismatchError: The shapes or attributes do not fit each other.
    """
    geometry = _geometry(x, weight, strides, pads, dilations, group)
    windows = geometry.windows
    n, outputs = len(x), len(weight)
    require_shape("grad_y", grad_y, (n, outputs, *windows.output_shape))
    grad_bias = grad_y.sum(axis=(0, *range(2, grad_y.ndim)))

    if geometry.is_depthwise:
        rows, row_weight = _depthwise_rows(x, weight)
        grad_rows = grad_y.reshape(len(rows), *windows.output_shape)
        grad_rows, grad_row_weight = depthwise_backward(grad_rows, rows, row_weight, windows)
        # Undo the repetition of _depthwise_rows: the outputs of one channel share its input.
        grad_x = grad_rows.reshape(n, group, outputs // group, *x.shape[2:]).sum(axis=2)
        grad_weight = grad_row_weight.reshape(n, *weight.shape).sum(axis=0)
        return grad_x, grad_weight, grad_bias

    grad_group_y = grad_y.reshape(n, group, outputs // group, math.prod(windows.output_shape))
    columns = _columns(x, geometry)
    grad_weight = np.matmul(grad_group_y, columns.swapaxes(-1, -2)).sum(axis=0)
    group_weight = weight.reshape(group, outputs // group, -1)
    grad_columns = np.matmul(group_weight.swapaxes(-1, -2), grad_group_y)
    grad_x = scatter_columns(grad_columns, windows)
    return grad_x, grad_weight.reshape(weight.shape), grad_bias


def _geometry(
    x: FloatArray,
    weight: FloatArray,
    strides: Sequence[int] | None,
    pads: Sequence[int] | None,
    dilations: Sequence[int] | None,
    group: int,
) -> _Geometry:
    require_spatial("x", x)
    channels, outputs = x.shape[1], len(weight)
    if group < 1 or channels % group or outputs % group:
        raise ShapeMismatchError(
            f"group must divide the {channels} channels of x and the {outputs} outputs of weight, "
            f"got {group}"
        )
    if weight.ndim != x.ndim or weight.shape[1] != channels // group:
        raise ShapeMismatchError(
            f"weight must have {x.ndim} axes, the second of size {channels // group} "
            f"({channels} channels in {group} groups), got {weight.shape}"
        )
    windows = make_windows(x.shape[2:], weight.shape[2:], strides, pads, dilations)
    is_padded = windows.padded_shape != windows.input_shape
    return _Geometry(
        windows=windows,
        group=group,
        is_pointwise=not is_padded and set(windows.kernel_shape) == {1},
        is_depthwise=group == channels > 1,
    )


def _columns(x: FloatArray, geometry: _Geometry) -> FloatArray:
    """The windows of ``x`` as columns, (N, group, C / group * taps, windows)."""
    if not geometry.is_pointwise:
        return gather_columns(x, geometry.windows, geometry.group)
    windows, group = geometry.windows, geometry.group
    steps: Index = (..., *(slice(None, None, stride) for stride in windows.strides))
    count = math.prod(windows.output_shape)
    return x[steps].reshape(len(x), group, x.shape[1] // group, count)


def _depthwise_rows(x: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``x`` and ``weight`` with one row per sample and *output* channel."""
    outputs_per_channel = len(weight) // x.shape[1]
    if outputs_per_channel > 1:
        x = np.repeat(x, outputs_per_channel, axis=1)
    n, channels, *spatial = x.shape
    rows = x.reshape(n * channels, *spatial)
    return rows, np.tile(weight.reshape(channels, -1), (n, 1))
