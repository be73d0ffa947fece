from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantkit.errors import ShapeMismatchError
from quantkit.reference.pooling import (
    average_pool,
    average_pool_backward,
    global_average_pool,
    global_average_pool_backward,
    max_pool,
    max_pool_backward,
)
from tests.reference.geometries import PoolCase, pool_cases
from tests.reference.oracles import assert_close, assert_gradient, run_onnx


def onnx_attributes(case: PoolCase) -> dict[str, Any]:
    return {**case.attributes, "ceil_mode": int(case.attributes["ceil_mode"])}


@settings(max_examples=100, deadline=None)
@given(case=pool_cases())
def test_max_pool_equals_onnxruntime(case: PoolCase) -> None:
    x = case.x(np.float32) - 5  # all negative: padding with zeros would win
    (expected,) = run_onnx("MaxPool", [x], onnx_attributes(case))
    got = max_pool(x, **case.attributes)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


@settings(max_examples=150, deadline=None)
@given(case=pool_cases(), count_include_pad=st.booleans())
def test_average_pool_equals_onnxruntime(case: PoolCase, count_include_pad: bool) -> None:
    x = case.x(np.float32) + 1
    attributes = onnx_attributes(case) | {"count_include_pad": int(count_include_pad)}
    (expected,) = run_onnx("AveragePool", [x], attributes)
    got = average_pool(x, **case.attributes, count_include_pad=count_include_pad)
    assert_close(got, expected, relative=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 3, 7, 5), (1, 2, 3, 4, 5)])
def test_global_average_pool_equals_onnxruntime(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    (expected,) = run_onnx("GlobalAveragePool", [x])
    assert_close(global_average_pool(x), expected, relative=1e-6)


@settings(max_examples=40, deadline=None)
@given(case=pool_cases(spare=2))
def test_max_pool_backward_equals_central_differences(case: PoolCase) -> None:
    x = case.x(np.float64)
    grad_y = np.random.default_rng(case.seed + 1).standard_normal(
        max_pool(x, **case.attributes).shape
    )
    gradient = max_pool_backward(grad_y, x, **case.attributes)
    # Values are 0.01 apart and the step is 1e-5: the winner stays, the loss is linear.
    assert_gradient(
        gradient,
        lambda a: float(np.vdot(max_pool(a, **case.attributes), grad_y)),
        x,
        absolute=1e-8,
    )


def test_a_tie_hands_the_gradient_to_the_first_value_only() -> None:
    x = np.array([[[1.0, 3.0, 3.0, 3.0]]])
    grad_x = max_pool_backward(np.array([[[5.0, 7.0]]]), x, kernel_shape=[3])
    np.testing.assert_array_equal(grad_x, [[[0.0, 12.0, 0.0, 0.0]]])


@settings(max_examples=40, deadline=None)
@given(case=pool_cases(spare=2), count_include_pad=st.booleans())
def test_average_pool_backward_equals_central_differences(
    case: PoolCase, count_include_pad: bool
) -> None:
    x = case.x(np.float64)
    attributes = case.attributes | {"count_include_pad": count_include_pad}
    grad_y = np.random.default_rng(case.seed + 1).standard_normal(
        average_pool(x, **attributes).shape
    )
    gradient = average_pool_backward(grad_y, x, **attributes)
    assert_gradient(
        gradient, lambda a: float(np.vdot(average_pool(a, **attributes), grad_y)), x, absolute=1e-8
    )


@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 3, 4, 5), (1, 2, 3, 4, 2)])
def test_global_average_pool_backward_equals_central_differences(shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(2)
    x = generator.standard_normal(shape)
    grad_y = generator.standard_normal(shape[:2] + (1,) * (len(shape) - 2))
    assert_gradient(
        global_average_pool_backward(grad_y, x),
        lambda a: float(np.vdot(global_average_pool(a), grad_y)),
        x,
        absolute=1e-8,
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(dtype: type[np.floating]) -> None:
    x = np.ones((1, 2, 4, 4), dtype=dtype)
    attributes: dict[str, Any] = {"kernel_shape": [2, 2], "pads": [1, 1, 0, 0]}
    y = max_pool(x, **attributes)
    assert y.dtype == average_pool(x, **attributes).dtype == dtype
    assert max_pool_backward(y, x, **attributes).dtype == dtype
    assert average_pool_backward(y, x, **attributes).dtype == dtype
    pooled = global_average_pool(x)
    assert pooled.dtype == global_average_pool_backward(pooled, x).dtype == dtype


def test_a_window_of_nothing_but_padding_is_refused() -> None:
    x = np.zeros((1, 1, 4))
    for pool in (max_pool, average_pool):
        with pytest.raises(ShapeMismatchError, match=r"nothing but padding: kernel_shape \[2\]"):
            pool(x, kernel_shape=[2], pads=[2, 0])


def test_shapes_that_do_not_fit_are_refused() -> None:
    x = np.zeros((1, 1, 4))
    with pytest.raises(ShapeMismatchError, match="kernel_shape must be 1 integers >= 1"):
        max_pool(x, kernel_shape=[2, 2])
    with pytest.raises(ShapeMismatchError, match=r"grad_y must have shape \(1, 1, 3\), got"):
        max_pool_backward(np.zeros((1, 1, 4)), x, kernel_shape=[2])
    with pytest.raises(ShapeMismatchError, match=r"grad_y must have shape \(1, 1, 3\), got"):
        average_pool_backward(np.zeros((1, 1, 4)), x, kernel_shape=[2])
    with pytest.raises(ShapeMismatchError, match=r"grad_y must have shape \(1, 1, 1\), got"):
        global_average_pool_backward(np.zeros((1, 1, 4)), x)
    with pytest.raises(ShapeMismatchError, match=r"at least 3 axes, got \(2, 3\)"):
        global_average_pool(np.zeros((2, 3)))
