"""Add: the sum of two activations, with broadcasting."""

from collections.abc import Sequence

from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import IntegerArray
from quantkit.ops.contract import OPS, Kernel, Lowering, Op, QuantRule, real_input


class Add(Op):
    """``a + b`` (ONNX Add); the arithmetic tabulates all pairs of codes."""

    rule = QuantRule("own")

    def refusal(self, node: Node, constants: Sequence[Array | None]) -> str | None:
        """Why this node cannot have an integer kernel, or None."""
        if any(constant is not None for constant in constants):
            return "an operand is a constant"
        return None

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """``a + b``."""
        return (real_input(inputs, 0) + real_input(inputs, 1),)

    def lower(self, lowering: Lowering) -> Kernel:
        """Look the pairs up."""
        add = lowering.arithmetic.addition(
            lowering.params(0), lowering.params(1), lowering.outputs[0]
        )

        def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
            return (add(*inputs),)

        return kernel


OPS.register("Add")(Add())
