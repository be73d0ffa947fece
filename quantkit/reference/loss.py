"""Softmax cross-entropy, the loss of a classifier.

``loss = mean_n(log(sum_k exp(logits[n, k])) - logits[n, label[n]])``

Source: ONNX operator specification, SoftmaxCrossEntropyLoss-13, ``reduction = mean``.
"""

import numpy as np
import numpy.typing as npt

from quantkit.errors import ShapeMismatchError
from quantkit.reference.activations import softmax
from quantkit.reference.arrays import FloatArray, require_shape


def softmax_cross_entropy(logits: FloatArray, label: npt.NDArray[np.integer]) -> float:
    """The mean loss of a batch, in nats.

    Args:
        logits: (N, K).
        label: (N,), classes in [0, K).

    Returns:
        The loss.

    Raises:
        ShapeMismatchError: The shapes do not fit, or a label is not in [0, K).
    """
    _require_labels(logits, label)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    return float(np.mean(log_sum - shifted[np.arange(len(label)), label]))


def softmax_cross_entropy_backward(
    logits: FloatArray, label: npt.NDArray[np.integer]
) -> FloatArray:
    """Gradient of :func:`softmax_cross_entropy`: ``(softmax(logits) - one_hot(label)) / N``.

    Args:
        logits: (N, K).
        label: (N,), classes in [0, K).

    Returns:
        Shaped and typed like ``logits``.

    Raises:
        ShapeMismatchError: The shapes do not fit, or a label is not in [0, K).
    """
    _require_labels(logits, label)
    grad = softmax(logits, axis=1)
    grad[np.arange(len(label)), label] -= 1
    grad /= len(label)
    return grad


def _require_labels(logits: FloatArray, label: npt.NDArray[np.integer]) -> None:
    if logits.ndim != 2 or 0 in logits.shape:
        raise ShapeMismatchError(f"logits must have shape (N, K), not empty, got {logits.shape}")
    require_shape("label", label, (len(logits),))
    if label.min() < 0 or label.max() >= logits.shape[1]:
        raise ShapeMismatchError(
            f"label must lie in [0, {logits.shape[1]}), got {label.min()} to {label.max()}"
        )
