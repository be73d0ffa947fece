import numpy as np
import pytest

from quantkit.errors import ShapeMismatchError
from quantkit.reference.arrays import FloatArray
from quantkit.reference.linear import linear, linear_backward
from tests.reference.oracles import assert_close, assert_gradient, run_onnx


def arrays(dtype: type[np.floating]) -> list[FloatArray]:
    generator = np.random.default_rng(1)
    return [generator.standard_normal(shape).astype(dtype) for shape in ((5, 7), (4, 7), (4,))]


def test_linear_equals_onnxruntime() -> None:
    x, weight, bias = arrays(np.float32)
    (expected,) = run_onnx("Gemm", [x, weight, bias], {"transB": 1})
    assert_close(linear(x, weight, bias), expected, relative=1e-6)
    (expected,) = run_onnx("Gemm", [x, weight], {"transB": 1})
    assert_close(linear(x, weight), expected, relative=1e-6)


@pytest.mark.parametrize("batch_shape", [(), (5,), (2, 3)])
def test_backward_equals_central_differences(batch_shape: tuple[int, ...]) -> None:
    _, weight, bias = arrays(np.float64)
    generator = np.random.default_rng(2)
    x = generator.standard_normal((*batch_shape, 7))
    grad_y = generator.standard_normal((*batch_shape, 4))

    def loss(x: FloatArray, weight: FloatArray, bias: FloatArray) -> float:
        return float(np.vdot(linear(x, weight, bias), grad_y))

    grad_x, grad_weight, grad_bias = linear_backward(grad_y, x, weight)
    assert_gradient(grad_x, lambda a: loss(a, weight, bias), x, absolute=1e-8)
    assert_gradient(grad_weight, lambda a: loss(x, a, bias), weight, absolute=1e-8)
    assert_gradient(grad_bias, lambda a: loss(x, weight, a), bias, absolute=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(dtype: type[np.floating]) -> None:
    x, weight, bias = arrays(dtype)
    y = linear(x, weight, bias)
    assert {y.dtype, *(g.dtype for g in linear_backward(y, x, weight))} == {np.dtype(dtype)}


def test_shapes_that_do_not_fit_are_refused() -> None:
    x, weight, _ = arrays(np.float64)
    with pytest.raises(ShapeMismatchError, match=r"got weight \(7, 4\) and x \(5, 7\)"):
        linear(x, weight.T)
    with pytest.raises(ShapeMismatchError, match=r"bias must have shape \(4,\), got \(7,\)"):
        linear(x, weight, np.zeros(7))
    with pytest.raises(ShapeMismatchError, match=r"grad_y must have shape \(5, 4\), got \(5, 7\)"):
        linear_backward(x, x, weight)
