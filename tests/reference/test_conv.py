from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from quantkit.errors import ShapeMismatchError
from quantkit.reference.conv import conv, conv_backward
from tests.reference.geometries import ConvCase, conv_cases
from tests.reference.oracles import assert_close, assert_gradient, run_onnx

# Layers of MobileNetV1 and V2, and what random small shapes reach rarely or never: rows laid
# out both ways, several cache blocks, grouped layers with many channels.
LAYERS = {
    "stem 224": ((1, 3, 224, 224), (32, 3, 3, 3), 2, 1, 1),
    "depthwise 112 stride 2": ((1, 96, 112, 112), (96, 1, 3, 3), 2, 1, 96),
    "depthwise 112": ((1, 32, 112, 112), (32, 1, 3, 3), 1, 1, 32),
    "depthwise 14": ((2, 384, 14, 14), (384, 1, 3, 3), 1, 1, 384),
    "depthwise 7 two per channel": ((2, 480, 7, 7), (960, 1, 3, 3), 1, 1, 480),
    "depthwise volume": ((1, 24, 9, 12, 40), (24, 1, 3, 3, 3), 1, 1, 24),
    "grouped 28": ((2, 64, 28, 28), (128, 16, 3, 3), 1, 1, 4),
    "pointwise 56": ((2, 24, 56, 56), (144, 24, 1, 1), 1, 0, 1),
    "pointwise 28 stride 2": ((2, 32, 28, 28), (64, 32, 1, 1), 2, 0, 1),
}


def attributes_of(rank: int, stride: int, pad: int, group: int) -> dict[str, Any]:
    return {"strides": [stride] * rank, "pads": [pad] * (2 * rank), "group": group}


@pytest.mark.parametrize("name", LAYERS)
def test_a_real_layer_equals_onnxruntime(name: str) -> None:
    x_shape, weight_shape, stride, pad, group = LAYERS[name]
    attributes = attributes_of(len(x_shape) - 2, stride, pad, group)
    x, weight, bias = ConvCase(x_shape, weight_shape, attributes, seed=1).arrays(np.float32)
    (expected,) = run_onnx("Conv", [x, weight, bias], attributes)
    assert_close(conv(x, weight, bias, **attributes), expected, relative=2e-6)


@settings(max_examples=150, deadline=None)
@given(case=conv_cases())
def test_conv_equals_onnxruntime(case: ConvCase) -> None:
    x, weight, bias = case.arrays(np.float32)
    (expected,) = run_onnx("Conv", [x, weight, bias], case.attributes)
    assert_close(conv(x, weight, bias, **case.attributes), expected, relative=1e-5)


@settings(max_examples=60, deadline=None)
@given(case=conv_cases(spare=2))
def test_conv_backward_equals_central_differences(case: ConvCase) -> None:
    x, weight, bias = case.arrays(np.float64)
    y = conv(x, weight, bias, **case.attributes)
    grad_y = np.random.default_rng(case.seed + 1).standard_normal(y.shape)
    grad_x, grad_weight, grad_bias = conv_backward(grad_y, x, weight, **case.attributes)

    def loss(x: Any, weight: Any, bias: Any) -> float:
        return float(np.vdot(conv(x, weight, bias, **case.attributes), grad_y))

    # The loss is linear in each argument: only rounding of order 1e-16 / step remains.
    assert_gradient(grad_x, lambda a: loss(a, weight, bias), x, absolute=1e-8)
    assert_gradient(grad_weight, lambda a: loss(x, a, bias), weight, absolute=1e-8)
    assert_gradient(grad_bias, lambda a: loss(x, weight, a), bias, absolute=1e-8)


@pytest.mark.parametrize("name", LAYERS)
def test_backward_of_a_real_layer_is_the_transpose_of_forward(name: str) -> None:
    x_shape, weight_shape, stride, pad, group = LAYERS[name]
    attributes = attributes_of(len(x_shape) - 2, stride, pad, group)
    x, weight, _ = ConvCase(x_shape, weight_shape, attributes, seed=2).arrays(np.float64)
    y = conv(x, weight, **attributes)
    grad_y = np.random.default_rng(3).standard_normal(y.shape)
    grad_x, grad_weight, grad_bias = conv_backward(grad_y, x, weight, **attributes)
    inner = np.vdot(y, grad_y)
    scale = np.linalg.norm(y) * np.linalg.norm(grad_y)
    assert abs(np.vdot(x, grad_x) - inner) <= 1e-13 * scale
    assert abs(np.vdot(weight, grad_weight) - inner) <= 1e-13 * scale
    assert_close(grad_bias, grad_y.sum(axis=(0, *range(2, y.ndim))), relative=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["stem 224", "depthwise 14", "pointwise 28 stride 2"])
def test_dtype_is_kept_and_arguments_are_not_written(dtype: type[np.floating], name: str) -> None:
    x_shape, weight_shape, stride, pad, group = LAYERS[name]
    attributes = attributes_of(len(x_shape) - 2, stride, pad, group)
    x, weight, bias = ConvCase(x_shape, weight_shape, attributes, seed=4).arrays(dtype)
    copies = [x.copy(), weight.copy(), bias.copy()]
    y = conv(x, weight, bias, **attributes)
    assert y.dtype == dtype
    assert [g.dtype for g in conv_backward(y, x, weight, **attributes)] == [dtype] * 3
    for array, copy in zip([x, weight, bias], copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("name", ["stem 224", "depthwise 14", "pointwise 28 stride 2"])
def test_an_empty_batch_gives_an_empty_batch(name: str) -> None:
    x_shape, weight_shape, stride, pad, group = LAYERS[name]
    attributes = attributes_of(len(x_shape) - 2, stride, pad, group)
    x, weight = np.zeros((0, *x_shape[1:])), np.ones(weight_shape)
    y = conv(x, weight, **attributes)
    assert y.shape == (0, *conv(np.zeros(x_shape), weight, **attributes).shape[1:])
    grad_x, grad_weight, _ = conv_backward(y, x, weight, **attributes)
    assert grad_x.shape == x.shape
    np.testing.assert_array_equal(grad_weight, np.zeros(weight_shape))


@pytest.mark.parametrize(
    ("x_shape", "weight_shape", "attributes", "message"),
    [
        ((2, 3), (4, 3, 1), {}, "at least 3 axes, got \\(2, 3\\)"),
        ((1, 4, 5), (4, 3, 1), {}, "the second of size 4 .* got \\(4, 3, 1\\)"),
        ((1, 4, 5), (4, 4, 1, 1), {}, "must have 3 axes, .* got \\(4, 4, 1, 1\\)"),
        ((1, 4, 5), (4, 2, 1), {"group": 3}, "divide the 4 channels .* 4 outputs .* got 3"),
        ((1, 4, 5), (3, 2, 1), {"group": 2}, "divide the 4 channels .* 3 outputs .* got 2"),
        ((1, 4, 5), (4, 4, 1), {"group": 0}, "got 0"),
        (
            (1, 4, 5),
            (4, 4, 3),
            {"strides": [1, 1]},
            "strides must be 1 integers >= 1 .* \\[1, 1\\]",
        ),
        ((1, 4, 5), (4, 4, 3), {"pads": [1]}, "pads must be 2 integers >= 0 .* got \\[1\\]"),
        ((1, 4, 5), (4, 4, 3), {"pads": [-1, 0]}, "pads must be 2 integers >= 0 .* \\[-1, 0\\]"),
        ((1, 4, 5), (4, 4, 3), {"dilations": [0]}, "dilations must be 1 integers >= 1"),
        ((1, 4, 5), (4, 4, 0), {}, "kernel_shape must be 1 integers >= 1"),
        ((1, 4, 5), (4, 4, 3), {"dilations": [3]}, "extent 7 does not fit spatial axis 0: size 5"),
    ],
)
def test_what_does_not_fit_is_refused(
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    attributes: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(ShapeMismatchError, match=message):
        conv(np.zeros(x_shape), np.zeros(weight_shape), **attributes)
    with pytest.raises(ShapeMismatchError, match=message):
        conv_backward(np.zeros((1, 1, 1)), np.zeros(x_shape), np.zeros(weight_shape), **attributes)


def test_a_bias_or_gradient_of_another_shape_is_refused() -> None:
    x, weight = np.zeros((1, 2, 5)), np.zeros((4, 2, 3))
    with pytest.raises(ShapeMismatchError, match=r"bias must have shape \(4,\), got \(3,\)"):
        conv(x, weight, np.zeros(3))
    with pytest.raises(ShapeMismatchError, match=r"grad_y must have shape \(1, 4, 3\), got"):
        conv_backward(np.zeros((1, 4, 5)), x, weight)
