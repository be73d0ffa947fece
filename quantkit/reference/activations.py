"""Activation functions and their gradients; every one keeps shape and dtype.

The gradient at a kink is 0, as in PyTorch and TensorFlow.
"""

import numpy as np

from quantkit.reference.arrays import FloatArray, require_shape


def relu(x: FloatArray) -> FloatArray:
    """``max(x, 0)``.

    Args:
        x: Any shape.

    Returns:
        Shaped and typed like ``x``.
    """
    y: FloatArray = np.maximum(x, 0)
    return y


def relu_backward(grad_y: FloatArray, x: FloatArray) -> FloatArray:
    """Gradient of :func:`relu`: ``grad_y`` where ``x > 0``, otherwise 0.

    Args:
        grad_y: Gradient of the output, shaped like ``x``.
        x: The input of the forward call.

    Returns:
        Shaped and typed like ``grad_y``.

    Raises:
        ShapeMismatchError: The shapes differ.
    """
    require_shape("grad_y", grad_y, x.shape)
    return grad_y * (x > 0)


def clip(x: FloatArray, minimum: float | None = None, maximum: float | None = None) -> FloatArray:
    """``min(max(x, minimum), maximum)``, as the ONNX op Clip; a missing bound does not bind.

    Args:
        x: Any shape.
        minimum: Lower bound.
        maximum: Upper bound; it wins where the bounds cross.

    Returns:
        Shaped and typed like ``x``.
    """
    y = x.copy()
    if minimum is not None:
        np.maximum(y, minimum, out=y)
    if maximum is not None:
        np.minimum(y, maximum, out=y)
    return y


def clip_backward(
    grad_y: FloatArray, x: FloatArray, minimum: float | None = None, maximum: float | None = None
) -> FloatArray:
    """Gradient of :func:`clip`: ``grad_y`` strictly between the bounds, otherwise 0.

    Args:
        grad_y: Gradient of the output, shaped like ``x``.
        x: The input of the forward call.
        minimum: As in the forward call.
        maximum: As in the forward call.

    Returns:
        Shaped and typed like ``grad_y``.

    Raises:
        ShapeMismatchError: The shapes differ.
    """
    require_shape("grad_y", grad_y, x.shape)
    grad_x = grad_y.copy()
    if minimum is not None:
        grad_x *= x > minimum
    if maximum is not None:
        grad_x *= x < maximum
    return grad_x


def relu6(x: FloatArray) -> FloatArray:
    """``min(max(x, 0), 6)``; Howard et al. 2017, arXiv:1704.04861.

    Args:
        x: Any shape.

    Returns:
        Shaped and typed like ``x``.
    """
    return clip(x, 0, 6)


def relu6_backward(grad_y: FloatArray, x: FloatArray) -> FloatArray:
    """Gradient of :func:`relu6`: ``grad_y`` where ``0 < x < 6``, otherwise 0.

    Args:
        grad_y: Gradient of the output, shaped like ``x``.
        x: The input of the forward call.

    Returns:
        Shaped and typed like ``grad_y``.

    Raises:
        ShapeMismatchError: The shapes differ.
    """
    return clip_backward(grad_y, x, 0, 6)


def softmax(x: FloatArray, *, axis: int = -1) -> FloatArray:
    """``exp(x) / sum(exp(x))`` along one axis, as the ONNX op Softmax-13.

    The maximum is subtracted first, so no finite input overflows.

    Args:
        x: Any shape.
        axis: The axis whose values sum to 1.

    Returns:
        Shaped and typed like ``x``.
    """
    y: FloatArray = np.exp(x - x.max(axis=axis, keepdims=True))
    y /= y.sum(axis=axis, keepdims=True)
    return y


def softmax_backward(grad_y: FloatArray, y: FloatArray, *, axis: int = -1) -> FloatArray:
    """Gradient of :func:`softmax`: ``y * (grad_y - sum(grad_y * y))``.

    Args:
        grad_y: Gradient of the output, shaped like ``y``.
        y: The *output* of the forward call.
        axis: As in the forward call.

    Returns:
        Shaped and typed like ``grad_y``.

    Raises:
        ShapeMismatchError: The shapes differ.
    """
    require_shape("grad_y", grad_y, y.shape)
    grad_x: FloatArray = y * (grad_y - (grad_y * y).sum(axis=axis, keepdims=True))
    return grad_x
