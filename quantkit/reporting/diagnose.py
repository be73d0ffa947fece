"""Named causes of lost accuracy, with their evidence and the option to try.

1. One weight scale for channels of very different ranges: the small channels get few codes.
2. A layer that alone makes more noise than all others together, whatever its reason.

A cause is only named where a layer alone, with the float network's inputs, is damaged; a layer
that suffers from earlier ones is none. No cause is better than a guess.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quantkit.graph.program import Node, Program
from quantkit.ops.contract import OPS
from quantkit.passes.prepare import Prepared
from quantkit.quantized_model.model import QuantizedModel, weight_and_bias
from quantkit.reporting.compare import LayerError

# With one scale for all, a channel whose range is this many times smaller has 6 bits left.
_UNEVEN_RATIO = 4.0
# Below this, a layer alone does visible damage: 8-bit rounding of a well-used range loses less.
_HEALTHY_DB = 20.0
# A layer stands out if it alone makes as much noise as this share of all layers' together.
_NOISE_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Cause:
    """A cause, its evidence, and what to try.

    Attributes:
        node: The layer it was found in.
        cause: Its name.
        evidence: The numbers.
        remedy: The option to try.
    """

    node: str
    cause: str
    evidence: str
    remedy: str


def diagnose(
    reference: Prepared, model: QuantizedModel, errors: Sequence[LayerError]
) -> tuple[Cause, ...]:
    """Causes in order of the damage: the layer with the lowest isolated SQNR first."""
    alone = {
        error.node: error.isolated_sqnr_db
        for error in errors
        # Minus infinity: the float layer is all zero, so there is nothing to lose.
        if error.isolated_sqnr_db is not None and error.isolated_sqnr_db > -math.inf
    }
    nodes = {node.name: node for node in model.prepared.program.nodes}
    found = []
    for name in sorted(alone, key=lambda name: alone[name]):
        if alone[name] < _HEALTHY_DB:
            cause = _uneven_channels(nodes[name], reference, model, alone[name])
            cause = cause or _stands_out(name, alone)
            if cause is not None:
                found.append(cause)
    return tuple(found)


def channel_range_ratio(node: Node, program: Program) -> float | None:
    """Largest over median channel range of a node's float weight; None without a weight."""
    name, _ = weight_and_bias(node) if node.op_type in OPS else ("", "")
    if name not in program.constants:
        return None
    weight = program.constants[name]
    axis = OPS[node.op_type].weight_axis(node, weight.ndim)
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    ranges = np.abs(rows).max(axis=1)
    alive = ranges[ranges > 0]
    return float(alive.max() / np.median(alive)) if alive.size else None


def _uneven_channels(
    node: Node, reference: Prepared, model: QuantizedModel, sqnr_db: float
) -> Cause | None:
    name, _ = weight_and_bias(node)
    if name not in model.constants or model.constants[name].params.is_per_channel:
        return None
    # The float file still has the small channels; in the quantized one they may have become 0.
    same = next((other for other in reference.program.nodes if other.name == node.name), None)
    ratio = channel_range_ratio(same, reference.program) if same is not None else None
    if ratio is None or ratio < _UNEVEN_RATIO:
        return None
    return Cause(
        node.name,
        "one weight scale for uneven channels",
        f"its largest channel reaches {ratio:.0f} times as far as its median channel; alone it "
        f"leaves {sqnr_db:.1f} dB",
        "--per-channel",
    )


def _stands_out(name: str, alone: dict[str, float]) -> Cause | None:
    noise = {other: 10.0 ** (-db / 10.0) for other, db in alone.items()}
    share = noise[name] / sum(noise.values())
    if len(alone) < 3 or share < _NOISE_SHARE:
        return None
    return Cause(
        name,
        "more noise than all other layers together",
        f"alone it leaves {alone[name]:.1f} dB, the median layer "
        f"{statistics.median(alone.values()):.1f} dB; in floats it costs speed",
        f"--nodes-to-exclude {name}",
    )
