import dataclasses

import numpy as np
import pytest

from quantkit.errors import ShapeMismatchError
from quantkit.reference.arrays import FloatArray
from quantkit.reference.loss import softmax_cross_entropy, softmax_cross_entropy_backward
from quantkit.reference.mobilenet import (
    BlockSpec,
    MobileNetSpec,
    backward,
    forward,
    forward_training,
    initial_parameters,
)
from tests.reference.oracles import assert_close, assert_gradient

SPEC = MobileNetSpec(
    input_channels=2,
    classes=3,
    stem_channels=4,
    blocks=(BlockSpec(4, stride=2), BlockSpec(6)),
    epsilon=1e-2,
    momentum=0.0,
)
LABEL = np.array([0, 2, 1, 2])


def pictures(dtype: type[np.floating] = np.float64) -> FloatArray:
    return np.random.default_rng(1).standard_normal((4, 2, 6, 6)).astype(dtype)


def parameters_64() -> dict[str, FloatArray]:
    """Scales and biases that drive activations to both ends of ReLU6."""
    generator = np.random.default_rng(2)
    parameters: dict[str, FloatArray] = {}
    for name, value in initial_parameters(SPEC, seed=3).items():
        parameters[name] = value.astype(np.float64)
        if name.endswith(("bn/scale", "bn/bias")):
            parameters[name] += generator.uniform(1, 4, value.shape)
    return parameters


def test_backward_equals_central_differences() -> None:
    x, parameters = pictures(), parameters_64()
    training = forward_training(SPEC, parameters, x)
    for layer in training.layers:
        assert layer.normalized.min() < 0
        assert layer.normalized.max() > 6
    gradients = backward(
        SPEC, parameters, training, softmax_cross_entropy_backward(training.logits, LABEL)
    )
    assert set(gradients) == {name for name in parameters if "running" not in name}
    for name, gradient in gradients.items():

        def loss(value: FloatArray, name: str = name) -> float:
            changed = parameters | {name: value}
            return softmax_cross_entropy(forward_training(SPEC, changed, x).logits, LABEL)

        # A step of 1e-6 crosses no kink of ReLU6 with this seed.
        assert_gradient(gradient, loss, parameters[name], absolute=1e-7, step=1e-6)


def test_inference_with_the_statistics_of_the_batch_equals_training() -> None:
    x, parameters = pictures(), parameters_64()
    # With momentum 0 the running statistics are those of the batch.
    training = forward_training(SPEC, parameters, x)
    logits = forward(SPEC, parameters | dict(training.running), x)
    assert_close(logits, training.logits, relative=1e-12)


def test_layers_follow_the_spec() -> None:
    wide = dataclasses.replace(SPEC, width_multiplier=1.5)
    layers = [(each.name, each.weight_shape, each.stride, each.group) for each in wide.layers()]
    assert layers == [
        ("stem", (6, 2, 3, 3), 1, 1),
        ("block_1/depthwise", (6, 1, 3, 3), 2, 6),
        ("block_1/pointwise", (6, 6, 1, 1), 1, 1),
        ("block_2/depthwise", (6, 1, 3, 3), 1, 6),
        ("block_2/pointwise", (9, 6, 1, 1), 1, 1),
    ]
    parameters = initial_parameters(wide, seed=0)
    for layer in wide.layers():
        assert parameters[f"{layer.name}/conv/weight"].shape == layer.weight_shape
    assert forward(wide, parameters, pictures(np.float32)).shape == (4, 3)


def test_weights_are_drawn_with_the_deviation_of_he() -> None:
    spec = MobileNetSpec(3, 10, 64, (BlockSpec(512),))
    parameters = initial_parameters(spec, seed=0)
    for name, fan_in, gain in (
        ("stem/conv/weight", 27, 2),
        ("block_1/depthwise/conv/weight", 9, 2),
        ("block_1/pointwise/conv/weight", 64, 2),
        ("classifier/weight", 512, 1),
    ):
        weight = parameters[name]
        # Six standard errors of an estimated variance.
        tolerance = 6 * (2 / weight.size) ** 0.5
        assert weight.var() == pytest.approx(gain / fan_in, rel=tolerance)
    again = initial_parameters(spec, seed=0)
    other = initial_parameters(spec, seed=1)
    np.testing.assert_array_equal(again["classifier/weight"], parameters["classifier/weight"])
    assert not np.array_equal(other["classifier/weight"], parameters["classifier/weight"])


def test_dtype_is_kept() -> None:
    parameters, x = initial_parameters(SPEC, seed=0), pictures(np.float32)
    training = forward_training(SPEC, parameters, x)
    gradients = backward(SPEC, parameters, training, training.logits)
    arrays = [forward(SPEC, parameters, x), *training.running.values(), *gradients.values()]
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}


def test_a_picture_of_other_channels_is_refused() -> None:
    with pytest.raises(ShapeMismatchError, match="the second of size 3"):
        forward(SPEC, initial_parameters(SPEC, seed=0), np.zeros((1, 3, 6, 6), np.float32))
