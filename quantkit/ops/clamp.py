"""Relu and Clip: an integer clamp to the codes of the bounds.

``y_q = clamp(x_q, q(low), q(high))`` where input and output share their parameters. ``quantize``
is monotone, so clamping the codes and quantizing clamped values agree. Other tools' models may give
the output parameters of its own; then the 256 codes are tabulated.
"""

from collections.abc import Sequence

import numpy as np

from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import IntegerArray, QuantParams, quantize
from quantkit.numerics.code_table import tabulate_unary
from quantkit.ops.contract import OPS, Kernel, Lowering, Op, QuantRule, optional_input, real_input
from quantkit.reference.activations import clip, relu

_MINIMUM, _MAXIMUM = 1, 2


class Relu(Op):
    """``max(x, 0)`` (ONNX Relu)."""

    rule = QuantRule("same_as_input", clamps=True)

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """``max(x, 0)``."""
        return (relu(real_input(inputs, 0)),)

    def lower(self, lowering: Lowering) -> Kernel:
        """Clamp at the zero point."""
        return _clamp(lowering.params(0), lowering.outputs[0], 0.0, None)


class Clip(Op):
    """``min(max(x, low), high)``; bounds are inputs, or attributes before opset 11 (ONNX Clip)."""

    rule = QuantRule("same_as_input", clamps=True, data_inputs=(0,))

    def refusal(self, node: Node, constants: Sequence[Array | None]) -> str | None:
        """Why this node cannot have an integer kernel, or None."""
        for position in (_MINIMUM, _MAXIMUM):
            is_given = position < len(node.inputs) and node.inputs[position]
            if is_given and constants[position] is None:
                return "a bound is computed, not a constant"
        return None

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """``min(max(x, low), high)``."""
        return (clip(real_input(inputs, 0), *_bounds(node, inputs)),)

    def lower(self, lowering: Lowering) -> Kernel:
        """Clamp to the codes of the bounds."""
        arrays = [None, *(lowering.array(position) for position in (_MINIMUM, _MAXIMUM))]
        bounds = _bounds(lowering.node, arrays)
        return _clamp(lowering.params(0), lowering.outputs[0], *bounds)


def _bounds(node: Node, inputs: Sequence[Array | None]) -> tuple[float | None, float | None]:
    bounds: list[float | None] = []
    for position, name in ((_MINIMUM, "min"), (_MAXIMUM, "max")):
        array = optional_input(inputs, position)
        if array is not None:
            bounds.append(float(array.reshape(())))
        else:
            bounds.append(node.number(name, 0.0) if name in node.attributes else None)
    return bounds[0], bounds[1]


def _clamp(x: QuantParams, y: QuantParams, low: float | None, high: float | None) -> Kernel:
    if not x.equals(y):
        look_up = tabulate_unary(lambda value: clip(value, low, high), x, y)
        return lambda inputs: (look_up(inputs[0]),)
    lowest = x.qmin if low is None else int(quantize(np.array([low], np.float32), x)[0])
    highest = x.qmax if high is None else int(quantize(np.array([high], np.float32), x)[0])
    if (lowest, highest) == (x.qmin, x.qmax):
        return lambda inputs: (inputs[0],)

    def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
        return (np.clip(inputs[0], lowest, highest),)

    return kernel


OPS.register("Relu")(Relu())
OPS.register("Clip")(Clip())


def clamp_is_implied(node: Node, constants: Sequence[Array | None], params: QuantParams) -> bool:
    """Whether saturation to the codes of ``params`` is all that a Relu or Clip does."""
    low, high = (0.0, None) if node.op_type == "Relu" else _bounds(node, constants)
    return (
        low is None or int(quantize(np.array([low], np.float32), params)[0]) == params.qmin
    ) and (high is None or int(quantize(np.array([high], np.float32), params)[0]) == params.qmax)
