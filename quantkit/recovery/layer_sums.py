"""A layer's sums in the float network and in the quantized one, neither clamped nor rounded.

onnxruntime computes both: the quantized network's from what the codes stand for, which float32 sums
to within its rounding error.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantkit.graph.ort_session import OrtSession, between, open_session
from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import QuantParams, dequantize
from quantkit.quantized_model.model import QuantizedModel, weight_and_bias
from quantkit.recovery.block_values import Values
from quantkit.reference.arrays import FloatArray

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A layer whose output has channels on axis 1; make one with :func:`open_layer`.

    Attributes:
        node: The node.
        session: Runs it in floats; weight and bias may be fed.
        x: Parameters of its input.
        y: Parameters of its output.
        constants: What the codes of weight and bias stand for, by name.
    """

    node: Node
    session: OrtSession
    x: QuantParams
    y: QuantParams
    constants: Mapping[str, FloatArray]

    def real(self, value: Values) -> FloatArray:
        """The float network's sums."""
        name = self.node.inputs[0]
        return self.session.run({name: value.real[name]})[self.node.outputs[0]]

    def coded(self, value: Values) -> FloatArray:
        """The quantized network's sums."""
        name = self.node.inputs[0]
        x = dequantize(value.codes[name], self.x)
        return self.session.run({name: x, **self.constants})[self.node.outputs[0]]

    def clamped(self, sums: FloatArray) -> FloatArray:
        """What the output's codes hold of sums, but for rounding."""
        low, high = dequantize(np.array([self.y.qmin, self.y.qmax]), self.y)
        return np.clip(sums, low, high)

    def errors_within_range(self, real: FloatArray, coded: FloatArray) -> Float64Array:
        """Sums of ``real - coded`` where real is within the output's range, and counts: (2, C)."""
        inside = self.clamped(real) == real
        errors, axes = np.where(inside, real - coded, 0), _but_channels(real)
        return np.stack([errors.sum(axes, dtype=np.float64), inside.sum(axes, dtype=np.float64)])

    def squared_errors(
        self, real: FloatArray, coded: FloatArray, shift: Float64Array
    ) -> Float64Array:
        """Of the clamped output, without and with a shift of every channel: (2, C)."""
        target, axes = self.clamped(real), _but_channels(real)
        shifts = (np.float32(0), along_channels(shift, real))
        errors = (np.square(self.clamped(coded + by) - target) for by in shifts)
        return np.stack([error.sum(axes, dtype=np.float64) for error in errors])


def open_layer(model: QuantizedModel, node: Node) -> Layer:
    """A Conv, ConvTranspose or Gemm with constant weight and bias, ready to run."""
    dtypes = dict.fromkeys(node.inputs, np.dtype(np.float32))
    part = between(model.prepared.model, dtypes, [node.outputs[0]])
    x, y = (model.plan.params[name] for name in (node.inputs[0], node.outputs[0]))
    constants = {name: model.constants[name].dequantize() for name in weight_and_bias(node)}
    return Layer(node, open_session(part, threads=1), x, y, constants)


def along_channels(shift: Float64Array, sums: FloatArray) -> FloatArray:
    """One number per channel, to be added to the layer's sums."""
    return shift.astype(sums.dtype).reshape(-1, *[1] * (sums.ndim - 2))


def _but_channels(sums: Array) -> tuple[int, ...]:
    return (0, *range(2, sums.ndim))
