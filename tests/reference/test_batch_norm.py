import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantkit.errors import ShapeMismatchError
from quantkit.reference.arrays import FloatArray
from quantkit.reference.batch_norm import batch_norm, batch_norm_backward, batch_norm_training
from tests.reference.oracles import assert_close, assert_gradient, run_onnx

shapes = st.tuples(
    st.integers(2, 4), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)
) | st.tuples(st.integers(2, 6), st.integers(1, 4))
# From far below a float32's last place of the variance to as large as the variance itself.
epsilons = st.sampled_from([1e-12, 1e-5, 1e-3, 0.5])


def arrays(shape: tuple[int, ...], seed: int, dtype: type[np.floating]) -> list[FloatArray]:
    generator = np.random.default_rng(seed)
    x = generator.standard_normal(shape) * 2 + 1
    scale, bias, mean = generator.standard_normal((3, shape[1]))
    var = generator.uniform(0.1, 4, shape[1])
    return [array.astype(dtype) for array in (x, scale, bias, mean, var)]


@settings(max_examples=50, deadline=None)
@given(shape=shapes, epsilon=epsilons, seed=st.integers(0, 2**16))
def test_inference_equals_onnxruntime(shape: tuple[int, ...], epsilon: float, seed: int) -> None:
    x, scale, bias, mean, var = arrays(shape, seed, np.float32)
    (expected,) = run_onnx(
        "BatchNormalization", [x, scale, bias, mean, var], {"epsilon": epsilon}, opset=15
    )
    got = batch_norm(x, scale, bias, mean, var, epsilon=epsilon)
    assert_close(got, expected, relative=2e-6)


@settings(max_examples=50, deadline=None)
@given(
    shape=shapes,
    epsilon=epsilons,
    momentum=st.sampled_from([0.0, 0.9, 0.99]),
    seed=st.integers(0, 2**16),
)
def test_training_equals_onnxruntime(
    shape: tuple[int, ...], epsilon: float, momentum: float, seed: int
) -> None:
    x, scale, bias, mean, var = arrays(shape, seed, np.float32)
    expected = run_onnx(
        "BatchNormalization",
        [x, scale, bias, mean, var],
        {"epsilon": epsilon, "momentum": momentum, "training_mode": 1},
        opset=15,
        outputs=3,
    )
    got = batch_norm_training(x, scale, bias, mean, var, epsilon=epsilon, momentum=momentum)
    for array, oracle in zip((got.y, got.running_mean, got.running_var), expected, strict=True):
        assert_close(array, oracle, relative=1e-4)


@settings(max_examples=40, deadline=None)
@given(shape=shapes, epsilon=st.sampled_from([1e-3, 0.5]), seed=st.integers(0, 2**16))
def test_backward_equals_central_differences(
    shape: tuple[int, ...], epsilon: float, seed: int
) -> None:
    x, scale, bias, mean, var = arrays(shape, seed, np.float64)
    grad_y = np.random.default_rng(seed + 1).standard_normal(shape)
    forward = batch_norm_training(x, scale, bias, mean, var, epsilon=epsilon)
    grad_x, grad_scale, grad_bias = batch_norm_backward(
        grad_y, x, scale, forward.mean, forward.var, epsilon=epsilon
    )

    def loss(x: FloatArray, scale: FloatArray, bias: FloatArray) -> float:
        y = batch_norm_training(x, scale, bias, mean, var, epsilon=epsilon).y
        return float(np.vdot(y, grad_y))

    # Third derivatives grow as (var + epsilon)^-1.5; two nearly equal samples are the worst.
    assert_gradient(grad_x, lambda a: loss(a, scale, bias), x, absolute=1e-5)
    assert_gradient(grad_scale, lambda a: loss(x, a, bias), scale, absolute=1e-8)
    assert_gradient(grad_bias, lambda a: loss(x, scale, a), bias, absolute=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept_and_arguments_are_not_written(dtype: type[np.floating]) -> None:
    given_arrays = arrays((3, 4, 5, 5), 1, dtype)
    copies = [array.copy() for array in given_arrays]
    x, scale, bias, mean, var = given_arrays
    result = batch_norm_training(x, scale, bias, mean, var)
    gradients = batch_norm_backward(result.y, x, scale, result.mean, result.var)
    results = [batch_norm(x, scale, bias, mean, var), result.y, *gradients]
    results += [result.mean, result.var, result.running_mean, result.running_var]
    assert {array.dtype for array in results} == {np.dtype(dtype)}
    for array, copy in zip(given_arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_shapes_that_do_not_fit_are_refused() -> None:
    x, vector = np.zeros((2, 3, 4)), np.ones(3)
    for position, name in enumerate(("scale", "bias", "mean", "var")):
        vectors = [vector] * 4
        vectors[position] = np.ones(2)
        with pytest.raises(ShapeMismatchError, match=rf"{name} must have shape \(3,\), got \(2,\)"):
            batch_norm(x, *vectors)
        with pytest.raises(ShapeMismatchError, match=rf"{name} must have shape \(3,\), got \(2,\)"):
            batch_norm_training(x, *vectors)
    with pytest.raises(ShapeMismatchError, match=r"x must have shape \(N, C, ...\), got \(3,\)"):
        batch_norm(vector, vector, vector, vector, vector)
    with pytest.raises(ShapeMismatchError, match=r"grad_y must have shape \(2, 3, 4\), got"):
        batch_norm_backward(np.zeros((2, 3)), x, vector, vector, vector)
