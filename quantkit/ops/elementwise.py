"""Add: the sum of two tensors, with broadcasting; one of them may be a constant."""

from collections.abc import Sequence

from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import IntegerArray, QuantizedTensor, QuantParams
from quantkit.ops.contract import OPS, Kernel, Lowering, Op, QuantRule, real_input


class Add(Op):
    """``a + b`` (ONNX Add); the arithmetic tabulates all pairs of codes."""

    rule = QuantRule("own")

    def refusal(self, node: Node, constants: Sequence[Array | None]) -> str | None:
        """Why this node cannot have an integer kernel, or None."""
        if all(constant is not None for constant in constants):
            return "both operands are constants"
        return None

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """``a + b``."""
        return (real_input(inputs, 0) + real_input(inputs, 1),)

    def lower(self, lowering: Lowering) -> Kernel:
        """Look the pairs up."""
        a, b = (_operand(lowering, position) for position in (0, 1))
        add = lowering.arithmetic.addition(a[0], b[0], lowering.outputs[0])

        def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
            computed = iter(inputs)
            operands = [next(computed) if codes is None else codes for _, codes in (a, b)]
            return (add(*operands),)

        return kernel


def _operand(lowering: Lowering, position: int) -> tuple[QuantParams, IntegerArray | None]:
    """Parameters of an operand, and its codes where it is a constant."""
    value = lowering.inputs[position]
    if isinstance(value, QuantizedTensor):
        return value.params, value.data
    return lowering.params(position), None


OPS.register("Add")(Add())
