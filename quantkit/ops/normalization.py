"""BatchNormalization: a float form only; a pass folds it into its producer before quantization."""

from collections.abc import Sequence

from quantkit.errors import UnsupportedOpError
from quantkit.graph.program import Array, Node
from quantkit.ops.contract import OPS, Kernel, Lowering, Op, QuantRule, real_input
from quantkit.reference.batch_norm import batch_norm

_REASON = "BatchNormalization has no integer kernel; it is folded into a convolution beforehand"


class BatchNormalization(Op):
    """``(x - mean) / sqrt(var + epsilon) * scale + bias`` (ONNX BatchNormalization)."""

    rule = QuantRule("own", data_inputs=(0,))

    def refusal(self, node: Node, constants: Sequence[Array | None]) -> str | None:
        """Always refused."""
        return _REASON

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """The inference form."""
        if node.integer("training_mode", 0):
            raise UnsupportedOpError(f"{node.name}: BatchNormalization in training mode")
        x, scale, bias, mean, var = (real_input(inputs, position) for position in range(5))
        return (batch_norm(x, scale, bias, mean, var, epsilon=node.number("epsilon", 1e-5)),)

    def lower(self, lowering: Lowering) -> Kernel:
        """Not possible.

        Raises:
            UnsupportedOpError: Always.
        """
        raise UnsupportedOpError(f"{lowering.node.name}: {_REASON}")


OPS.register("BatchNormalization")(BatchNormalization())
