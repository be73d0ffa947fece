"""Where a layer's output codes lie: how many were cut off, and how many a ReLU put at an end."""

from dataclasses import dataclass

import numpy as np

from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import QuantParams
from quantkit.ops.contract import OPS
from quantkit.plan import quantized_outputs
from quantkit.quantized_model.model import QuantizedModel


@dataclass(frozen=True, slots=True)
class OutputCodes:
    """Where output codes lie; all 0 without samples.

    Attributes:
        total: All codes of all outputs.
        low: At the smallest code, and not because a clamp of the network put them there.
        high: At the largest code, likewise.
        clamped: At either end because the network itself clamps there: a ReLU's zeros (the
            smallest code means 0), a ReLU6's sixes. Nothing is lost by them.
    """

    total: int = 0
    low: int = 0
    high: int = 0
    clamped: int = 0

    @property
    def saturated_share(self) -> float | None:
        """``(low + high) / total``, in [0, 1]; None without samples."""
        return (self.low + self.high) / self.total if self.total else None


def counted(
    codes: OutputCodes, array: Array, params: QuantParams, clamped: tuple[bool, bool]
) -> OutputCodes:
    """``codes`` with those of one more array.

    Args:
        codes: What was counted so far.
        array: Output codes.
        params: Of the output.
        clamped: See :func:`clamped_ends`.
    """
    low = int(np.count_nonzero(array == params.qmin))
    high = int(np.count_nonzero(array == params.qmax))
    by_clamp = low * clamped[0] + high * clamped[1]
    return OutputCodes(
        codes.total + array.size,
        codes.low + low * (not clamped[0]),
        codes.high + high * (not clamped[1]),
        codes.clamped + by_clamp,
    )


def clamped_ends(node: Node, model: QuantizedModel) -> tuple[bool, bool]:
    """Whether the network itself clamps at the smallest and at the largest code of the output.

    The smallest code means 0, as behind a ReLU; or the node is a clamp, or is followed by the one
    that it absorbs, and a bound lies where the codes end.
    """
    names = quantized_outputs(node)
    if not names:
        return False, False
    params = model.plan.params[names[0]]
    if params.axis is not None:
        return False, False
    program = model.prepared.program
    clamps = [
        other
        for other in program.nodes
        if model.prepared.clamps.get(other.name) == node.name
        or (other is node and OPS[node.op_type].rule.clamps)
    ]
    scale, zero_point = float(params.scale), int(params.zero_point)
    low, high = zero_point == params.qmin, False
    for clamp in clamps:
        ends = np.array([np.finfo(np.float32).min, np.finfo(np.float32).max], np.float32)
        constants = [program.constants.get(name) for name in clamp.inputs[1:]]
        lowest, highest = OPS[clamp.op_type].float_form(clamp, [ends, *constants])[0].tolist()
        # Half a step beyond the last code still rounds to it without a loss.
        low |= lowest >= scale * (params.qmin - zero_point - 0.5)
        high |= highest <= scale * (params.qmax - zero_point + 0.5)
    return low, high
