"""A MobileNetV1-style network: a stem, depthwise separable blocks, global pooling, a classifier.

Every convolution is followed by batch normalization and ReLU6. A block is a 3x3 depthwise
convolution and a pointwise one. Source: Howard et al. 2017, arXiv:1704.04861, table 1.

The network is a :class:`MobileNetSpec` and a plain mapping of parameters. Their names::

    stem/conv/weight               (O, C, 3, 3)      and so for every layer: stem,
    stem/bn/scale, bias            (O,)              block_1/depthwise, block_1/pointwise,
    stem/bn/running_mean, _var     (O,)              block_2/depthwise ...
    classifier/weight              (classes, features)
    classifier/bias                (classes,)
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from quantkit.reference.activations import relu6, relu6_backward
from quantkit.reference.arrays import FloatArray
from quantkit.reference.batch_norm import batch_norm, batch_norm_backward, batch_norm_training
from quantkit.reference.conv import conv, conv_backward
from quantkit.reference.linear import linear, linear_backward
from quantkit.reference.pooling import global_average_pool, global_average_pool_backward

Parameters = Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """One depthwise separable block.

    Attributes:
        channels: Output channels, before the width multiplier.
        stride: Stride of the depthwise convolution.
    """

    channels: int
    stride: int = 1


@dataclass(frozen=True, slots=True)
class ConvLayer:
    """One convolution with its batch normalization and ReLU6.

    Attributes:
        name: Prefix of its parameters' names.
        inputs: Input channels.
        outputs: Output channels.
        kernel: 3 or 1, on both spatial axes.
        stride: On both spatial axes.
        group: ``inputs`` for a depthwise layer, otherwise 1.
    """

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int
    group: int

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """The weight's shape, (O, C / group, kernel, kernel)."""
        return (self.outputs, self.inputs // self.group, self.kernel, self.kernel)

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of the ONNX op Conv, which are the keywords of :func:`conv`."""
        return {
            "strides": (self.stride, self.stride),
            "pads": (self.kernel // 2,) * 4,
            "group": self.group,
        }


@dataclass(frozen=True, slots=True)
class MobileNetSpec:
    """The shape of a network.

    Attributes:
        input_channels: Channels of a picture; never multiplied.
        classes: Outputs of the classifier.
        stem_channels: Outputs of the first convolution, before the width multiplier.
        blocks: The depthwise separable blocks, first to last.
        stem_stride: Stride of the first convolution.
        width_multiplier: Scales every inner channel count (rounded, at least 1).
        epsilon: Of every batch normalization.
        momentum: Of every batch normalization's running statistics.
    """

    input_channels: int
    classes: int
    stem_channels: int
    blocks: tuple[BlockSpec, ...]
    stem_stride: int = 1
    width_multiplier: float = 1.0
    epsilon: float = 1e-5
    momentum: float = 0.9

    def layers(self) -> tuple[ConvLayer, ...]:
        """The convolutions, first to last."""
        width = self._width(self.stem_channels)
        layers = [ConvLayer("stem", self.input_channels, width, 3, self.stem_stride, 1)]
        for number, block in enumerate(self.blocks, start=1):
            name, outputs = f"block_{number}", self._width(block.channels)
            layers.append(ConvLayer(f"{name}/depthwise", width, width, 3, block.stride, width))
            layers.append(ConvLayer(f"{name}/pointwise", width, outputs, 1, 1, 1))
            width = outputs
        return tuple(layers)

    def _width(self, channels: int) -> int:
        return max(1, round(channels * self.width_multiplier))


@dataclass(frozen=True, slots=True, eq=False)
class LayerTape:
    """What the backward pass needs of one :class:`ConvLayer`.

    Attributes:
        x: Input of the convolution.
        convolved: Its output.
        mean: Mean of ``convolved`` over the batch.
        var: Variance of ``convolved`` over the batch.
        normalized: Output of the batch normalization, before ReLU6.
    """

    x: FloatArray
    convolved: FloatArray
    mean: FloatArray
    var: FloatArray
    normalized: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class TrainingPass:
    """Result of :func:`forward_training`.

    Attributes:
        logits: (N, classes).
        running: The updated running statistics, by parameter name.
        layers: One entry per convolution.
        last: Output of the last convolution's ReLU6, (N, C, H, W).
    """

    logits: FloatArray
    running: Parameters
    layers: tuple[LayerTape, ...]
    last: FloatArray


def initial_parameters(spec: MobileNetSpec, *, seed: int) -> Parameters:
    """Draw the weights: ``N(0, 2 / fan_in)`` before a ReLU6, ``N(0, 1 / fan_in)`` at the end.

    Scales and variances start at 1, biases and means at 0. Source: He et al. 2015,
    arXiv:1502.01852, equation 10.

    Args:
        spec: The network.
        seed: Of NumPy's default generator; the same seed gives the same bits.

    Returns:
        float32 arrays by name.
    """
    generator = np.random.default_rng(seed)
    parameters: dict[str, FloatArray] = {}

    def draw(shape: tuple[int, ...], gain: float) -> FloatArray:
        deviation = math.sqrt(gain / math.prod(shape[1:]))
        return (deviation * generator.standard_normal(shape)).astype(np.float32)

    for layer in spec.layers():
        parameters[f"{layer.name}/conv/weight"] = draw(layer.weight_shape, 2)
        for vector, value in (("scale", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            parameters[f"{layer.name}/bn/{vector}"] = np.full(layer.outputs, value, np.float32)
    features = spec.layers()[-1].outputs
    parameters["classifier/weight"] = draw((spec.classes, features), 1)
    parameters["classifier/bias"] = np.zeros(spec.classes, np.float32)
    return MappingProxyType(parameters)


def forward(spec: MobileNetSpec, parameters: Parameters, x: FloatArray) -> FloatArray:
    """Run the network with its running statistics: inference.

    Args:
        spec: The network.
        parameters: Arrays by name.
        x: (N, C, H, W).

    Returns:
        Logits, (N, classes), of ``x``'s dtype.

    Raises:
        ShapeMismatchError: The parameters or ``x`` do not fit the spec.
    """
    for layer in spec.layers():
        x = conv(x, parameters[f"{layer.name}/conv/weight"], **layer.attributes)
        vectors = _batch_norm_vectors(parameters, layer)
        x = relu6(batch_norm(x, *vectors, epsilon=spec.epsilon))
    return _classify(parameters, x)


def forward_training(spec: MobileNetSpec, parameters: Parameters, x: FloatArray) -> TrainingPass:
    """Run the network with the statistics of the batch, and keep what backward needs.

    Args:
        spec: The network.
        parameters: Arrays by name.
        x: (N, C, H, W).

    Returns:
        Logits, updated running statistics and the tape.

    Raises:
        ShapeMismatchError: The parameters or ``x`` do not fit the spec.
    """
    tape = []
    running = {}
    for layer in spec.layers():
        convolved = conv(x, parameters[f"{layer.name}/conv/weight"], **layer.attributes)
        vectors = _batch_norm_vectors(parameters, layer)
        normalized = batch_norm_training(
            convolved, *vectors, epsilon=spec.epsilon, momentum=spec.momentum
        )
        running[f"{layer.name}/bn/running_mean"] = normalized.running_mean
        running[f"{layer.name}/bn/running_var"] = normalized.running_var
        tape.append(LayerTape(x, convolved, normalized.mean, normalized.var, normalized.y))
        x = relu6(normalized.y)
    return TrainingPass(_classify(parameters, x), running, tuple(tape), x)


def backward(
    spec: MobileNetSpec, parameters: Parameters, training: TrainingPass, grad_logits: FloatArray
) -> dict[str, FloatArray]:
    """Gradients of everything that is trained (all but the running statistics).

    Args:
        spec: The network.
        parameters: As in the forward call.
        training: What :func:`forward_training` returned.
        grad_logits: Gradient of the logits, (N, classes).

    Returns:
        Gradients by parameter name, each shaped like its parameter.

    Raises:
        ShapeMismatchError: ``grad_logits`` does not fit.
    """
    gradients = {}
    last = training.last
    grad_pooled, gradients["classifier/weight"], gradients["classifier/bias"] = linear_backward(
        grad_logits, last.mean(axis=(2, 3)), parameters["classifier/weight"]
    )
    grad = global_average_pool_backward(grad_pooled[..., np.newaxis, np.newaxis], last)
    for layer, tape in zip(reversed(spec.layers()), reversed(training.layers), strict=True):
        name = layer.name
        grad = relu6_backward(grad, tape.normalized)
        grad, gradients[f"{name}/bn/scale"], gradients[f"{name}/bn/bias"] = batch_norm_backward(
            grad,
            tape.convolved,
            parameters[f"{name}/bn/scale"],
            tape.mean,
            tape.var,
            epsilon=spec.epsilon,
        )
        grad, gradients[f"{name}/conv/weight"], _ = conv_backward(
            grad, tape.x, parameters[f"{name}/conv/weight"], **layer.attributes
        )
    return gradients


def _batch_norm_vectors(
    parameters: Parameters, layer: ConvLayer
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    scale, bias, mean, var = (
        parameters[f"{layer.name}/bn/{vector}"]
        for vector in ("scale", "bias", "running_mean", "running_var")
    )
    return scale, bias, mean, var


def _classify(parameters: Parameters, x: FloatArray) -> FloatArray:
    features = global_average_pool(x).reshape(len(x), -1)
    return linear(features, parameters["classifier/weight"], parameters["classifier/bias"])
