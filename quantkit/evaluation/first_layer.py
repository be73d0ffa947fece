"""What a network's first layer says of its data, against what training left there.

A BatchNormalization records the mean and standard deviation of every channel of the first
convolution over the training data. A convolution is linear, so the means of the input's channels
give its output's (borders ignored):

    mean_c = bias_c + sum_k w[c, k] * mean_k,   z_c = (mean_c - trained_mean_c) / trained_std_c

Pictures are alike enough to give the variance, too: with R the correlation of two values in a
convolution's window, ``PIXEL_CORRELATION ** distance`` times ``COLOUR_CORRELATION`` for two
colours,

    variance_c = variance * w_c' R w_c,   r_c = variance_c / trained_std_c^2
    misfit_c = (r_c + z_c^2 - 1 - ln r_c) / 2

which is the Kullback-Leibler divergence of two normal distributions.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantkit.graph.program import Node, Program
from quantkit.passes.prepare import Prepared
from quantkit.passes.trained_statistics import TrainedStatistics

Float64Array = npt.NDArray[np.float64]

# Of photographs at the sizes that networks take: of pixels one apart, and of two of R, G and B.
PIXEL_CORRELATION = 0.95
COLOUR_CORRELATION = 0.92
# Nodes that keep every channel's values.
_MOVING = ("Transpose", "Pad", "Identity", "Cast")
# A channel counts if its gain, in units of its trained std, is above this share of the largest.
_LIVE = 0.05
_LEAST_RATIO = 1e-30  # constant data have no logarithm


@dataclass(frozen=True, slots=True, eq=False)
class FirstLayer:
    """What reads the data first, and what training saw behind it; channels switched off left out.

    Attributes:
        node: A convolution, or a matrix product.
        weight: float64, (M, C, kernel height, kernel width), dense.
        bias: float64, (M,).
        trained: Of its normalized output, (M,).
    """

    node: Node
    weight: Float64Array
    bias: Float64Array
    trained: TrainedStatistics

    def z(self, mean: Float64Array) -> Float64Array:
        """How many standard deviations the output's means are from training's, (M,)."""
        found: Float64Array = self.weight.sum(axis=(2, 3)) @ mean + self.bias
        return (found - self.trained.mean) / self.trained.std

    def misfit(self, mean: Float64Array, variance: float) -> float:
        """Median over the channels of the divergence from training (module docstring)."""
        predicted = variance * self._picture_gain()
        ratio = np.maximum(predicted / self.trained.std**2, _LEAST_RATIO)
        return float(np.median((ratio + self.z(mean) ** 2 - 1 - np.log(ratio)) / 2))

    def spread(self, variance: float) -> tuple[float, float]:
        """Between what the output's standard deviation lies, in units of training's.

        Medians over the channels; nothing is known of the input but its variance. At least: the
        smaller of what independent values and pictures give. At most: the values of every window
        move together, each in the direction of its weight.
        """
        flat = self.weight.reshape(len(self.weight), -1)
        least = np.sqrt(np.minimum(self._picture_gain(), (flat**2).sum(axis=1)))
        found = (np.median(gain / self.trained.std) for gain in (least, np.abs(flat).sum(axis=1)))
        low, high = (float(gain) * variance**0.5 for gain in found)
        return low, high

    def _picture_gain(self) -> Float64Array:
        """``w' R w``: a picture's variance behind the layer over that before it, (M,)."""
        outputs, channels, height, width = self.weight.shape
        rows, columns = (axis.reshape(-1) for axis in np.mgrid[:height, :width])
        distance = np.hypot(rows[:, None] - rows, columns[:, None] - columns)
        colours = np.where(np.eye(channels, dtype=bool), 1.0, COLOUR_CORRELATION)
        correlation = np.kron(colours, PIXEL_CORRELATION**distance)
        flat = self.weight.reshape(outputs, -1)
        gain: Float64Array = np.einsum("ci,ij,cj->c", flat, correlation, flat)
        return gain


def first_layer(prepared: Prepared, name: str) -> FirstLayer | None:
    """The first convolution or product behind an input.

    Returns:
        The layer, or None: something else reads the input, or training left nothing there (no
        BatchNormalization, or folded by the exporter).
    """
    program, readers = prepared.program, prepared.program.consumers()
    while True:
        nodes = readers.get(name, [])
        known = [node for node in nodes if node.outputs[0] in prepared.trained]
        if known:
            return _layer_of(known[0], program, prepared.trained[known[0].outputs[0]])
        if len(nodes) != 1 or nodes[0].op_type not in _MOVING:
            return None
        name = nodes[0].outputs[0]


def _layer_of(node: Node, program: Program, trained: TrainedStatistics) -> FirstLayer | None:
    weight, bias = (program.constants.get(name) for name in (*node.inputs, "", "")[1:3])
    if weight is None or node.op_type not in ("Conv", "Gemm"):
        return None
    dense = np.asarray(weight, np.float64)
    if node.op_type == "Gemm":
        dense = dense if node.integer("transB", 0) else dense.T
        dense = node.number("alpha", 1.0) * dense[:, :, None, None]
    elif dense.ndim != 4:
        return None
    else:
        dense = _dense(dense, node.integer("group", 1))
    offset = np.zeros(len(dense)) if bias is None else np.asarray(bias, np.float64).reshape(-1)
    if {offset.size, trained.std.size, trained.mean.size} != {len(dense)}:
        return None
    # What training has switched off says nothing.
    gain = np.abs(dense).sum(axis=(1, 2, 3))
    gain = np.divide(gain, trained.std, out=np.zeros_like(gain), where=trained.std > 0)
    live = gain > _LIVE * gain.max(initial=0)
    if not live.any():
        return None
    statistics = TrainedStatistics(trained.mean[live], trained.std[live])
    return FirstLayer(node, dense[live], offset[live], statistics)


def _dense(weight: Float64Array, group: int) -> Float64Array:
    """The weight of a convolution in groups as that of one without."""
    outputs, inputs, *kernel = weight.shape
    dense = np.zeros((outputs, inputs * group, *kernel))
    for output in range(outputs):
        first = output * group // outputs * inputs
        dense[output, first : first + inputs] = weight[output]
    return dense
