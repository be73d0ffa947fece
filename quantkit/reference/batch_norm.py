"""Batch normalization: inference form, training form, gradients of the training form.

``y = scale * (x - mean) / sqrt(var + epsilon) + bias``, per channel.

Source: ONNX operator specification, BatchNormalization-15; Ioffe and Szegedy 2015,
arXiv:1502.03167, algorithm 1.
"""

from dataclasses import dataclass

import numpy as np

from quantkit.errors import ShapeMismatchError
from quantkit.reference.arrays import FloatArray, per_channel, require_shape


@dataclass(frozen=True, slots=True, eq=False)
class BatchNormTraining:
    """What the training form computes.

    Attributes:
        y: The normalized batch, (N, C, ...).
        mean: Mean of the batch, (C,).
        var: Population variance of the batch, (C,).
        running_mean: ``momentum * old + (1 - momentum) * mean``, (C,).
        running_var: ``momentum * old + (1 - momentum) * var``, (C,).
    """

    y: FloatArray
    mean: FloatArray
    var: FloatArray
    running_mean: FloatArray
    running_var: FloatArray


def batch_norm(
    x: FloatArray,
    scale: FloatArray,
    bias: FloatArray,
    mean: FloatArray,
    var: FloatArray,
    *,
    epsilon: float = 1e-5,
) -> FloatArray:
    """Normalize with given statistics: the inference form.

    Args:
        x: (N, C, ...).
        scale: (C,).
        bias: (C,).
        mean: (C,).
        var: (C,), not negative.
        epsilon: Added to ``var``.

    Returns:
        Shaped and typed like ``x``.

    Raises:
        ShapeMismatchError: A vector does not have one entry per channel.
    """
    _require_channels(x, scale=scale, bias=bias, mean=mean, var=var)
    factor = scale / np.sqrt(var + epsilon)
    y = x * per_channel(factor, x)
    y += per_channel(bias - mean * factor, x)
    return y


def batch_norm_training(
    x: FloatArray,
    scale: FloatArray,
    bias: FloatArray,
    running_mean: FloatArray,
    running_var: FloatArray,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
) -> BatchNormTraining:
    """Normalize with the statistics of the batch itself, and update the running ones.

    Args:
        x: (N, C, ...).
        scale: (C,).
        bias: (C,).
        running_mean: (C,), before this batch.
        running_var: (C,), before this batch.
        epsilon: Added to the variance.
        momentum: Share of the old running statistics that is kept.

    Returns:
        The output, the statistics of the batch and the updated running statistics.

    Raises:
        ShapeMismatchError: A vector does not have one entry per channel.
    """
    _require_channels(x, scale=scale, bias=bias, running_mean=running_mean, running_var=running_var)
    axes = (0, *range(2, x.ndim))
    mean = x.mean(axis=axes)
    var = np.square(x - per_channel(mean, x)).mean(axis=axes)
    return BatchNormTraining(
        y=batch_norm(x, scale, bias, mean, var, epsilon=epsilon),
        mean=mean,
        var=var,
        running_mean=momentum * running_mean + (1 - momentum) * mean,
        running_var=momentum * running_var + (1 - momentum) * var,
    )


def batch_norm_backward(
    grad_y: FloatArray,
    x: FloatArray,
    scale: FloatArray,
    mean: FloatArray,
    var: FloatArray,
    *,
    epsilon: float = 1e-5,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Gradients of :func:`batch_norm_training`'s ``y``, through the statistics of the batch too.

    With ``z = (x - mean) / sqrt(var + epsilon)`` and the mean taken per channel::

        grad_x = scale / sqrt(var + epsilon) * (grad_y - mean(grad_y) - z * mean(grad_y * z))

    Args:
        grad_y: (N, C, ...).
        x: The input of the forward call, (N, C, ...).
        scale: (C,).
        mean: Mean of the batch, as the forward call returned it, (C,).
        var: Variance of the batch, as the forward call returned it, (C,).
        epsilon: As in the forward call.

    Returns:
        ``(grad_x, grad_scale, grad_bias)``, shaped and typed like x, scale and bias.

    Raises:
        ShapeMismatchError: The shapes do not fit each other.
    """
    _require_channels(x, scale=scale, mean=mean, var=var)
    require_shape("grad_y", grad_y, x.shape)
    axes = (0, *range(2, x.ndim))
    count = x.size // x.shape[1]
    inverse = 1 / np.sqrt(var + epsilon)
    z = (x - per_channel(mean, x)) * per_channel(inverse, x)
    grad_bias = grad_y.sum(axis=axes)
    grad_scale = (grad_y * z).sum(axis=axes)
    z *= per_channel(grad_scale / count, x)
    grad_x = grad_y - per_channel(grad_bias / count, x)
    grad_x -= z
    grad_x *= per_channel(scale * inverse, x)
    return grad_x, grad_scale, grad_bias


def _require_channels(x: FloatArray, **vectors: FloatArray) -> None:
    if x.ndim < 2:
        raise ShapeMismatchError(f"x must have shape (N, C, ...), got {x.shape}")
    for name, vector in vectors.items():
        require_shape(name, vector, (x.shape[1],))
