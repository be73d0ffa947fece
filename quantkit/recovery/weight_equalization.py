"""Factors that even out the weights on both sides of a value: what one scale per weight needs.

With a row of the layer before reaching ``r1_c`` and a column of the layer behind ``r2_c``, each
relative to the largest weight of its layer, the factor ``sqrt(r2_c / r1_c)`` gives both the
reach ``sqrt(r1_c r2_c)`` (Nagel et al. 2019, arXiv:1906.04721, section 4.1, equation 11). The value
in between has one scale as well, and grows as the row does: in the place of ``r1_c`` stands the
geometric mean of it and of the channel's reach in calibration. All are relative to what is largest,
so a channel that a Clip does not let be scaled harms no other.

Channels that were always zero matter most: nothing holds their columns small, and one of them can
take all codes of a depthwise layer.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from quantkit.graph.program import Array, Node, Program
from quantkit.recovery.channel_changes import Float64Array, on_grid
from quantkit.recovery.channel_groups import ChannelGroup
from quantkit.recovery.channel_limits import LARGEST_FACTOR, allowed
from quantkit.recovery.channel_scaling import scale_weights
from quantkit.recovery.draft import Draft

# A layer is before one group and behind another; its weights hardly change after so many.
_SWEEPS = 10


def weight_equalizing_factors(
    draft: Draft, groups: Sequence[tuple[ChannelGroup, Float64Array]]
) -> list[tuple[ChannelGroup, Float64Array]]:
    """The factors of all groups, in turn until nothing changes.

    Args:
        draft: The float network.
        groups: Of it, and how far their channels reach, relative to the widest; float64 (C,).

    Returns:
        The groups with factors other than 1, powers of 2^(1/8), float64 (C,).
    """
    program = draft.prepared.program
    arrays: dict[str, Array] = {}
    found = [np.ones(group.channels) for group, _ in groups]
    for _ in range(_SWEEPS):
        is_changed = False
        for index, (group, reach) in enumerate(groups):
            before = found[index]
            rows = _reach(group.producers, _row_reach, group, arrays, program)
            values = reach * before
            values /= values.max() or 1.0  # a group may be always zero
            rows = np.sqrt(rows * np.where(values > 0, values, rows))
            columns = _reach(group.consumers, _column_reach, group, arrays, program)
            alive = (rows > 0) & (columns > 0)
            step = np.sqrt(np.where(alive, columns, 1.0) / np.where(alive, rows, 1.0))
            wanted = np.clip(before * step, 1 / LARGEST_FACTOR, LARGEST_FACTOR)
            found[index] = allowed(on_grid(wanted), group, draft)
            if (found[index] != before).any():
                is_changed = True
                scale_weights(arrays, group, found[index] / before, program)
        if not is_changed:
            break
    return [
        (group, factors)
        for (group, _), factors in zip(groups, found, strict=True)
        if (factors != 1.0).any()
    ]


def _reach(
    nodes: Sequence[Node],
    reach_of: Callable[[Node, Array], Float64Array],
    group: ChannelGroup,
    arrays: Mapping[str, Array],
    program: Program,
) -> Float64Array:
    """Per channel the largest reach in any layer, relative to its layer's largest weight."""
    found = np.zeros(group.channels)
    for node in nodes:
        name = node.inputs[1]
        weight = np.abs(arrays.get(name, program.constants[name]).astype(np.float64))
        largest = weight.max(initial=0.0)
        if largest > 0:
            # Behind Flatten, a channel is a block of columns.
            blocks = reach_of(node, weight).reshape(group.channels, -1).max(axis=1)
            found = np.maximum(found, blocks / largest)
    return found


def _row_reach(node: Node, weight: Array) -> Float64Array:
    if node.op_type == "Gemm" and not node.integer("transB", 0):
        weight = weight.T
    return np.asarray(weight.reshape(weight.shape[0], -1).max(axis=1))


def _column_reach(node: Node, weight: Array) -> Float64Array:
    if node.op_type == "Gemm":
        return np.asarray(weight.max(axis=0 if node.integer("transB", 0) else 1))
    group = node.integer("group", 1)
    taps = weight.reshape(group, weight.shape[0] // group, weight.shape[1], -1)
    return np.asarray(taps.max(axis=(1, 3)).reshape(-1))
