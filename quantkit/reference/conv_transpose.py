"""Transposed convolution: every input value adds a scaled copy of the kernel to the output.

``y[n, g(c) + o, i * stride + k * dilation - begin] += x[n, c, i] * weight[c, o, k]``

over all input channels c of a group, positions i and taps k; ``g(c)`` is the first output channel
of c's group. What falls outside the output is dropped. It is the gradient of a convolution with
respect to its input, so the geometry is that of convolution windows over the *output*, one per
input position.

Source: ONNX operator specification, ConvTranspose-11.
"""

import math
from collections.abc import Sequence

import numpy as np

from quantkit.errors import ShapeMismatchError
from quantkit.reference.arrays import FloatArray, per_channel, require_shape, require_spatial
from quantkit.reference.windows import Windows, require_integers, scatter_columns


def conv_transpose(
    x: FloatArray,
    weight: FloatArray,
    bias: FloatArray | None = None,
    *,
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    output_padding: Sequence[int] | None = None,
    group: int = 1,
) -> FloatArray:
    """Convolve transposed, as the ONNX op ConvTranspose does.

    Args:
        x: (N, C, *spatial).
        weight: (C, O / group, *kernel).
        bias: (O,), or None.
        strides: Steps in the output per step in the input; one per spatial axis, default 1.
        pads: What is cut off the output, ``[begin..., end...]``, default 0.
        dilations: One per spatial axis, default 1.
        output_padding: Cells added at the end of each output axis, default 0.
        group: Divides C.

    Returns:
        (N, O, *output), of ``x``'s dtype; see :func:`transposed_windows`.

    Raises:
        ShapeMismatchError: The shapes or attributes do not fit each other.
    """
    require_spatial("x", x)
    channels = x.shape[1]
    if weight.ndim != x.ndim or len(weight) != channels or group < 1 or channels % group:
        raise ShapeMismatchError(
            f"weight must have {x.ndim} axes, the first of size {channels} (the channels of x, "
            f"divisible by group), got {weight.shape} with group {group}"
        )
    windows = transposed_windows(
        x.shape[2:], weight.shape[2:], strides, pads, dilations, output_padding
    )
    outputs = weight.shape[1] * group
    rows = weight.reshape(group, channels // group, -1).swapaxes(1, 2)
    columns = np.matmul(rows, x.reshape(len(x), group, channels // group, -1))
    y = scatter_columns(columns, windows)
    if bias is not None:
        require_shape("bias", bias, (outputs,))
        y += per_channel(bias, y)
    return y


def transposed_windows(
    input_shape: Sequence[int],
    kernel_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    output_padding: Sequence[int] | None = None,
) -> Windows:
    """The windows over the output that the input's positions are added to.

    Per axis ``output = (input - 1) * stride + (kernel - 1) * dilation + 1 + output_padding - begin
    - end``.

    Args:
        input_shape: Spatial sizes of the input.
        kernel_shape: Taps per axis.
        strides: Default 1.
        pads: ``[begin of every axis..., end of every axis...]``, default 0.
        dilations: Default 1.
        output_padding: Default 0.

    Returns:
        Windows whose ``input_shape`` is the transposed convolution's output, and their
        ``output_shape`` its input.

    Raises:
        ShapeMismatchError: An argument has the wrong length or an impossible value, or nothing is
            left of the output.
    """
    rank = len(input_shape)
    ones, zeros = (1,) * rank, (0,) * rank
    strides, dilations = tuple(strides or ones), tuple(dilations or ones)
    pads, output_padding = tuple(pads or zeros + zeros), tuple(output_padding or zeros)
    require_integers("kernel_shape", kernel_shape, rank, lowest=1)
    require_integers("strides", strides, rank, lowest=1)
    require_integers("dilations", dilations, rank, lowest=1)
    require_integers("pads", pads, rank, lowest=0, per_axis=2)
    require_integers("output_padding", output_padding, rank, lowest=0)
    sizes = tuple(
        (size - 1) * stride + (kernel - 1) * dilation + 1 + more - begin - end
        for size, kernel, stride, dilation, more, begin, end in zip(
            input_shape,
            kernel_shape,
            strides,
            dilations,
            output_padding,
            pads[:rank],
            pads[rank:],
            strict=True,
        )
    )
    if math.prod(input_shape) == 0 or min(sizes) < 1:
        raise ShapeMismatchError(f"nothing is left of the output: {list(sizes)}")
    return Windows(
        input_shape=sizes,
        kernel_shape=tuple(kernel_shape),
        strides=strides,
        dilations=dilations,
        pads_begin=pads[:rank],
        pads_end=pads[rank:],
        output_shape=tuple(input_shape),
    )
