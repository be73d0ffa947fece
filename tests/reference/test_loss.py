import math

import numpy as np
import pytest

from quantkit.errors import ShapeMismatchError
from quantkit.reference.loss import softmax_cross_entropy, softmax_cross_entropy_backward
from tests.reference.oracles import assert_gradient, run_onnx

LABEL = np.array([0, 3, 2, 3, 1])


def test_loss_equals_onnxruntime() -> None:
    logits = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32) * 10
    (expected,) = run_onnx("SoftmaxCrossEntropyLoss", [logits, LABEL], opset=13)
    assert softmax_cross_entropy(logits, LABEL) == pytest.approx(float(expected), rel=1e-6)


def test_loss_of_equal_logits_is_the_logarithm_of_the_class_count() -> None:
    loss = softmax_cross_entropy(np.full((5, 4), 1e4), LABEL)
    assert loss == pytest.approx(math.log(4), rel=1e-12)


def test_backward_equals_central_differences() -> None:
    logits = np.random.default_rng(2).standard_normal((5, 4))
    gradient = softmax_cross_entropy_backward(logits, LABEL)
    assert_gradient(gradient, lambda a: softmax_cross_entropy(a, LABEL), logits, absolute=1e-9)
    single = softmax_cross_entropy_backward(logits.astype(np.float32), LABEL)
    assert single.dtype == np.float32


def test_what_does_not_fit_is_refused() -> None:
    logits = np.zeros((5, 4))
    with pytest.raises(ShapeMismatchError, match=r"label must have shape \(5,\), got \(4,\)"):
        softmax_cross_entropy(logits, LABEL[:4])
    with pytest.raises(ShapeMismatchError, match=r"label must lie in \[0, 4\), got 1 to 4"):
        softmax_cross_entropy(logits, LABEL + 1)
    with pytest.raises(ShapeMismatchError, match=r"label must lie in \[0, 4\), got -1 to 2"):
        softmax_cross_entropy_backward(logits, LABEL - 1)
    with pytest.raises(ShapeMismatchError, match=r"not empty, got \(0, 4\)"):
        softmax_cross_entropy(logits[:0], LABEL[:0])
