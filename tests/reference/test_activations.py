from collections.abc import Callable

import numpy as np
import pytest

from quantkit.errors import ShapeMismatchError
from quantkit.reference.activations import (
    clip,
    clip_backward,
    relu,
    relu6,
    relu6_backward,
    relu_backward,
    softmax,
    softmax_backward,
)
from quantkit.reference.arrays import FloatArray
from tests.reference.oracles import AnyArray, assert_close, assert_gradient, run_onnx

# At the kinks 0 and 6, one float next to them, and far away.
KINKS = np.array(
    [0.0, -0.0, 6.0, np.nextafter(6, 7), np.nextafter(6, 5), 1e-30, -1e-30, 1e30, -1e30, 3.5]
)
BOUNDS = [(None, None), (-1.0, None), (None, 2.5), (-1.0, 2.5), (3.0, 2.0)]


def test_relu_equals_onnxruntime() -> None:
    x = KINKS.astype(np.float32)
    np.testing.assert_array_equal(relu(x), run_onnx("Relu", [x])[0])


@pytest.mark.parametrize(("minimum", "maximum"), [*BOUNDS, (0.0, 6.0)])
def test_clip_equals_onnxruntime(minimum: float | None, maximum: float | None) -> None:
    x = np.concatenate([KINKS, np.linspace(-4, 8, 25)]).astype(np.float32)
    # onnxruntime takes a missing bound as the largest number of the type.
    limit = np.finfo(np.float32).max
    bounds: list[AnyArray] = [
        np.array(-limit if minimum is None else minimum, dtype=np.float32),
        np.array(limit if maximum is None else maximum, dtype=np.float32),
    ]
    (expected,) = run_onnx("Clip", [x, *bounds])
    np.testing.assert_array_equal(clip(x, minimum, maximum), expected)
    if (minimum, maximum) == (0.0, 6.0):
        np.testing.assert_array_equal(relu6(x), expected)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_equals_onnxruntime(axis: int) -> None:
    x = np.random.default_rng(1).standard_normal((3, 4, 5)).astype(np.float32) * 30
    (expected,) = run_onnx("Softmax", [x], {"axis": axis})
    assert_close(softmax(x, axis=axis), expected, relative=1e-6)


def test_softmax_of_large_numbers_does_not_overflow() -> None:
    np.testing.assert_array_equal(softmax(np.array([1e30, 1e30, -1e30])), [0.5, 0.5, 0.0])


def assert_backward(
    forward: Callable[[FloatArray], FloatArray],
    backward: Callable[[FloatArray, FloatArray], FloatArray],
) -> None:
    # 0.137 apart and never within the step of a kink.
    x = (np.arange(-25, 55) * 0.137 + 0.05).reshape(8, 10)
    grad_y = np.random.default_rng(2).standard_normal(x.shape)
    assert_gradient(
        backward(grad_y, x), lambda a: float(np.vdot(forward(a), grad_y)), x, absolute=1e-8
    )


def test_backward_equals_central_differences() -> None:
    assert_backward(relu, relu_backward)
    assert_backward(relu6, relu6_backward)


@pytest.mark.parametrize(("minimum", "maximum"), BOUNDS)
def test_clip_backward_equals_central_differences(
    minimum: float | None, maximum: float | None
) -> None:
    assert_backward(
        lambda x: clip(x, minimum, maximum),
        lambda grad_y, x: clip_backward(grad_y, x, minimum, maximum),
    )


def test_the_gradient_at_a_kink_is_zero() -> None:
    x = np.array([0.0, 6.0])
    np.testing.assert_array_equal(relu6_backward(np.ones(2), x), [0, 0])
    np.testing.assert_array_equal(relu_backward(np.ones(2), x), [0, 1])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_backward_equals_central_differences(axis: int) -> None:
    generator = np.random.default_rng(3)
    x, grad_y = generator.standard_normal((2, 3, 4, 5))
    assert_gradient(
        softmax_backward(grad_y, softmax(x, axis=axis), axis=axis),
        lambda a: float(np.vdot(softmax(a, axis=axis), grad_y)),
        x,
        absolute=1e-9,
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept_and_arguments_are_not_written(dtype: type[np.floating]) -> None:
    x = np.linspace(-9, 9, 12, dtype=dtype)
    copy = x.copy()
    results = [relu(x), relu6(x), clip(x, -1.5, 2.5), softmax(x)]
    results += [relu_backward(x, x), relu6_backward(x, x), clip_backward(x, x, -1.5, 2.5)]
    results += [softmax_backward(x, x)]
    assert {array.dtype for array in results} == {np.dtype(dtype)}
    np.testing.assert_array_equal(x, copy)


@pytest.mark.parametrize(
    "backward", [relu_backward, relu6_backward, clip_backward, softmax_backward]
)
def test_a_gradient_of_another_shape_is_refused(
    backward: Callable[[FloatArray, FloatArray], FloatArray],
) -> None:
    with pytest.raises(ShapeMismatchError, match=r"grad_y must have shape \(3,\), got \(4,\)"):
        backward(np.zeros(4), np.zeros(3))
