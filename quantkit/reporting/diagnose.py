"""Named causes of lost accuracy, with their evidence and the option to try.

1. One weight scale for channels of very different ranges: the small channels get few codes.
2. A node that stays float.
3. A layer whose output has few codes: its range is much wider than its typical values.

A cause is only named for a layer whose own (isolated) SQNR is far below that of the others.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quantkit.graph.program import Node, Program
from quantkit.ops.contract import OPS
from quantkit.passes.prepare import Prepared
from quantkit.quantized_model.model import QuantizedModel
from quantkit.reporting.compare import LayerError

# With one scale for all, a channel whose range is this many times smaller has 6 bits left.
_UNEVEN_RATIO = 4.0
# Below this, a layer alone does visible damage: 8-bit rounding of a well-used range loses less.
_HEALTHY_DB = 20.0


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
    nodes = {node.name: node for node in model.prepared.program.nodes}
    judged = [error for error in errors if error.isolated_sqnr_db is not None]
    causes = [
        Cause(
            error.node,
            "float island",
            f"{error.kept_float}; it costs speed, not accuracy",
            "see `quantkit inspect`",
        )
        for error in errors
        if error.kept_float is not None and error.macs
    ]
    suspicious = [error for error in judged if (error.isolated_sqnr_db or 0.0) < _HEALTHY_DB]
    found = []
    for error in sorted(suspicious, key=lambda error: error.isolated_sqnr_db or 0.0):
        cause = _uneven_channels(nodes[error.node], reference, model, error) or _wide_range(
            error, judged
        )
        if cause is not None:
            found.append(cause)
    return (*found, *causes)


def channel_range_ratio(node: Node, program: Program) -> float | None:
    """Largest over median channel range of a node's float weight; None without a weight."""
    position = OPS[node.op_type].rule.weight if node.op_type in OPS else None
    if position is None or node.inputs[position] not in program.constants:
        return None
    weight = program.constants[node.inputs[position]]
    axis = OPS[node.op_type].weight_axis(node, weight.ndim)
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    ranges = np.abs(rows).max(axis=1)
    alive = ranges[ranges > 0]
    return float(alive.max() / np.median(alive)) if alive.size else None


def _uneven_channels(
    node: Node, reference: Prepared, model: QuantizedModel, error: LayerError
) -> Cause | None:
    position = OPS[node.op_type].rule.weight if node.op_type in OPS else None
    if position is None or node.inputs[position] not in model.constants:
        return None
    if model.constants[node.inputs[position]].params.is_per_channel:
        return None
    same = next((other for other in reference.program.nodes if other.name == node.name), None)
    ratio = channel_range_ratio(same, reference.program) if same is not None else None
    if ratio is None or ratio < _UNEVEN_RATIO:
        return None
    return Cause(
        node.name,
        "one weight scale for uneven channels",
        f"its largest channel reaches {ratio:.0f} times as far as its median channel; alone it "
        f"leaves {error.isolated_sqnr_db:.1f} dB",
        "--per-channel",
    )


def _wide_range(error: LayerError, judged: Sequence[LayerError]) -> Cause | None:
    values = [other.isolated_sqnr_db for other in judged if other.isolated_sqnr_db is not None]
    typical = statistics.median(values)
    if error.isolated_sqnr_db is None or error.isolated_sqnr_db > typical - 6.0:
        return None
    return Cause(
        error.node,
        "few codes for typical values",
        f"alone it leaves {error.isolated_sqnr_db:.1f} dB, the median layer {typical:.1f} dB",
        f"--nodes-to-exclude {error.node}",
    )
