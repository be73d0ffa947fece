"""The sums of a layer: how large they can be, and what takes them to codes."""

import numpy as np

from quantkit.graph.program import Node
from quantkit.quantized_model.model import QuantizedModel
from quantkit.quantized_model.multipliers import accumulator_multipliers
from quantkit.reporting.layer import Accumulator

# A multiplier is mantissa * 2^(shift - 31) in the library's integers, mantissa / 2^shift here.
_MANTISSA_BITS = 31


def layer_accumulator(node: Node, model: QuantizedModel) -> Accumulator | None:
    """The accumulator of an integer node; None where it sums up no products."""
    bound = model.accumulator_bounds.get(node.name)
    found = None if bound is None else accumulator_multipliers(node, model)
    if bound is None or found is None:
        return None
    mantissa = found.fixed_point.mantissa.reshape(-1)
    right = _MANTISSA_BITS - found.fixed_point.shift.reshape(-1)
    real = np.ldexp(mantissa.astype(np.float64), -right)
    least, greatest = real.argmin(), real.argmax()
    return Accumulator(
        bound=bound,
        bits=bound.bit_length() + 1,
        multiplier=(float(real[least]), float(real[greatest])),
        mantissa=(int(mantissa[least]), int(mantissa[greatest])),
        shift=(int(right[least]), int(right[greatest])),
    )
