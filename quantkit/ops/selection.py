"""Where, Min, Max, Concat: every output value is one of the inputs' values.

Codes are converted to the output's parameters, then selected: ``y_q = select(rescale_i(x_i))``. For
Min and Max that equals quantizing the selected value, since quantizing is monotone. onnxruntime has
integer kernels for Concat and Where (QLinearConcat, QLinearWhere) and runs Min and Max in floats.
"""

from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np

from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import FloatArray, IntegerArray
from quantkit.ops.contract import (
    OPS,
    Kernel,
    Lowering,
    Op,
    QuantRule,
    optional_input,
    real_input,
)
from quantkit.ops.operands import node_operands, refuse_constants

# A mask for a softmax (minus infinity, -10,000 ...) would set the scale of everything it is near.
_LARGEST_CONSTANT = 1000.0


class Concat(Op):
    """One tensor after the other along ``axis`` (ONNX Concat)."""

    rule = QuantRule("own")

    def refusal(self, node: Node, constants: Sequence[Array | None]) -> str | None:
        """Why this node cannot have an integer kernel, or None."""
        return refuse_constants(constants)

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """The inputs, one after the other."""
        arrays = [array for array in inputs if array is not None]
        return (np.concatenate(arrays, axis=node.integer("axis", 1)),)

    def lower(self, lowering: Lowering) -> Kernel:
        """Convert the codes of each input, then move them."""
        axis = lowering.node.integer("axis", 1)
        rescaled = _rescaled_operands(lowering, range(len(lowering.inputs)))

        def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
            return (np.concatenate(rescaled(inputs), axis=axis),)

        return kernel


class Where(Op):
    """``x`` where a constant condition holds, otherwise ``y`` (ONNX Where)."""

    rule = QuantRule("own", data_inputs=(1, 2))

    def refusal(self, node: Node, constants: Sequence[Array | None]) -> str | None:
        """Why this node cannot have an integer kernel, or None."""
        if constants[0] is None:
            return "its condition is computed, not a constant"
        for constant in constants[1:]:
            # Written so that NaN is refused too.
            if constant is not None and not bool(np.all(np.abs(constant) <= _LARGEST_CONSTANT)):
                return "a constant operand is a mask beyond the range of codes"
        return refuse_constants(constants[1:])

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """The selected values."""
        condition = optional_input(inputs, 0)
        assert condition is not None
        return (np.where(condition, real_input(inputs, 1), real_input(inputs, 2)),)

    def lower(self, lowering: Lowering) -> Kernel:
        """Convert the codes of both operands, then select."""
        condition = lowering.array(0)
        assert condition is not None
        rescaled = _rescaled_operands(lowering, (1, 2))

        def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
            return (np.where(condition, *rescaled(inputs)),)

        return kernel


class Extremum(Op):
    """The smallest or the largest of several tensors (ONNX Min, Max).

    Args:
        function: ``np.minimum`` or ``np.maximum``.
    """

    rule = QuantRule("own")

    def __init__(self, function: Callable[[Array, Array], Array]) -> None:
        self._function = function

    def refusal(self, node: Node, constants: Sequence[Array | None]) -> str | None:
        """Why this node cannot have an integer kernel, or None."""
        return refuse_constants(constants)

    def has_onnxruntime_kernel(self, node: Node) -> bool:
        """Whether onnxruntime computes it in integers: it does not."""
        return False

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """The extreme values."""
        reals: list[FloatArray] = [real_input(inputs, position) for position in range(len(inputs))]
        return (reduce(self._function, reals),)

    def lower(self, lowering: Lowering) -> Kernel:
        """Convert the codes of each input, then compare them."""
        rescaled = _rescaled_operands(lowering, range(len(lowering.inputs)))

        def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
            return (reduce(self._function, rescaled(inputs)),)

        return kernel


def _rescaled_operands(
    lowering: Lowering, positions: Sequence[int]
) -> Callable[[Sequence[IntegerArray]], list[IntegerArray]]:
    """From the codes a kernel gets to those of every operand, with the output's parameters."""
    operands, y = node_operands(lowering, positions), lowering.outputs[0]
    convert = [lowering.arithmetic.rescaling(params, y) for params in operands.params]

    def rescaled(computed: Sequence[IntegerArray]) -> list[IntegerArray]:
        codes = operands.codes(computed)
        return [rescale(q) for rescale, q in zip(convert, codes, strict=True)]

    return rescaled


OPS.register("Concat")(Concat())
OPS.register("Where")(Where())
OPS.register("Min")(Extremum(np.minimum))
OPS.register("Max")(Extremum(np.maximum))
