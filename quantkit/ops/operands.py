"""Operands that carry codes: each computed, or a constant of the model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from quantkit.graph.program import Array
from quantkit.numerics.affine import IntegerArray, QuantizedTensor, QuantParams
from quantkit.ops.contract import Lowering


@dataclass(frozen=True, slots=True, eq=False)
class Operands:
    """The operands of one node, in order.

    Attributes:
        params: Parameters of each.
        constants: Codes of each that is a constant, otherwise None.
    """

    params: tuple[QuantParams, ...]
    constants: tuple[IntegerArray | None, ...]

    def codes(self, computed: Sequence[IntegerArray]) -> list[IntegerArray]:
        """Codes of every operand, from those a kernel gets."""
        remaining = iter(computed)
        return [next(remaining) if codes is None else codes for codes in self.constants]


def node_operands(lowering: Lowering, positions: Iterable[int]) -> Operands:
    """The operands at these input positions."""
    params: list[QuantParams] = []
    constants: list[IntegerArray | None] = []
    for position in positions:
        value = lowering.inputs[position]
        params.append(
            value.params if isinstance(value, QuantizedTensor) else lowering.params(position)
        )
        constants.append(value.data if isinstance(value, QuantizedTensor) else None)
    return Operands(tuple(params), tuple(constants))


def refuse_constants(constants: Sequence[Array | None]) -> str | None:
    """A reason where no operand is computed: such a node is to be folded, not quantized."""
    return "all operands are constants" if all(c is not None for c in constants) else None
