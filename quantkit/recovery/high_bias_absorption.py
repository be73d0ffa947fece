"""Move what a channel always holds into the biases of the layers that read it.

A large bias can lift a channel so far that it never comes near zero; the codes below are lost to
all channels of the tensor. With ``c`` the part that every value seen had (the value nearest to
zero) ``W x + b = W (x - c) + (b + W c)``, so c leaves the bias of the layer before and enters
those of the layers behind (Nagel et al. 2019, arXiv:1906.04721, section 4.1.3; there c comes from
BatchNormalization's parameters, here from the minima and maxima of calibration).

Relu and Clip stand in between: ``relu(x - c) = relu(x) - c`` wherever ``x >= c``, as it was for all
values seen; four fifths of c leave room for others. Zero padding would mean another value, so only
readers without padding are served.
"""

from dataclasses import replace

import numpy as np

from quantkit.calibration.statistics import ChannelStatistics, TensorStatistics
from quantkit.config import QuantConfig
from quantkit.graph.program import Array, Node, Program
from quantkit.passes.note import PassNote
from quantkit.passes.replace_constants import replace_constants
from quantkit.recovery.channel_changes import (
    UNCHANGED,
    ChannelChange,
    Float64Array,
    six_digits,
)
from quantkit.recovery.channel_groups import ChannelGroup, channel_groups, columns_of, rows_of
from quantkit.recovery.channel_limits import channel_ends
from quantkit.recovery.channel_scaling import mean_sums, range_after, with_sums
from quantkit.recovery.draft import Draft

_ROOM = 0.8
_TRANSPARENT = ("Relu", "Clip", "Identity", "Dropout")


def absorb_high_biases(draft: Draft, config: QuantConfig) -> Draft:
    """Shift the channels that never come near zero, wherever readers can take the shift.

    Args:
        draft: The float network.
        config: Names the range estimator.

    Returns:
        The network with other biases and the same function on the values that calibration saw.
    """
    program = draft.prepared.program
    arrays: dict[str, Array] = {}
    statistics, ranges = dict(draft.table.statistics), dict(draft.ranges)
    changes = dict(draft.changes)
    moved = 0
    for group in channel_groups(program):
        shift = _shift(group, draft) if _can_shift(group, program) else None
        if shift is None or not shift.any():
            continue
        moved += int(np.count_nonzero(shift))
        bias = group.producers[0].inputs[2]
        arrays[bias] = arrays.get(bias, program.constants[bias]) - shift
        for node in group.consumers:
            name = node.inputs[2]
            rows = _columns_summed(node, program) @ shift
            arrays[name] = arrays.get(name, program.constants[name]) + rows
        for name in group.values:
            old = changes.get(name, UNCHANGED)
            changes[name] = ChannelChange(old.factors, old.shifts + shift)
            if name in statistics:
                before = statistics[name]
                statistics[name] = _shifted(before, shift)
                ranges[name] = range_after(
                    before,
                    statistics[name],
                    np.ones(shift.size),
                    ranges.get(name),
                    group,
                    config,
                    "biases absorbed",
                )
    if not moved:
        return draft
    message = f"what {moved} channels always hold moved into the biases behind them"
    return replace(
        draft,
        prepared=replace_constants(draft.prepared, arrays),
        table=replace(draft.table, statistics=statistics),
        ranges=ranges,
        changes=changes,
        notes=(*draft.notes, PassNote("high_bias_absorption", "", "", True, message)),
    )


def _can_shift(group: ChannelGroup, program: Program) -> bool:
    inside = set(group.values)
    between = [
        node
        for node in program.nodes
        if inside.intersection(node.outputs) and node not in group.producers
    ]
    return (
        len(group.producers) == 1
        and _has_own_bias(group.producers[0], group.channels, program)
        and all(node.op_type in _TRANSPARENT for node in between)
        and all(_takes_shift(node, group.channels, program) for node in group.consumers)
    )


def _has_own_bias(node: Node, size: int, program: Program) -> bool:
    name = node.inputs[2] if len(node.inputs) > 2 else ""
    return name in program.constants and program.constants[name].shape == (size,)


def _takes_shift(node: Node, channels: int, program: Program) -> bool:
    if columns_of(node, program) != channels:
        return False
    if not _has_own_bias(node, rows_of(node, program), program):
        return False
    if node.op_type == "Gemm":
        return node.number("alpha", 1.0) == 1.0 and node.number("beta", 1.0) == 1.0
    return not any(node.integers("pads", ())) and node.text("auto_pad", "NOTSET") in (
        "NOTSET",
        "VALID",
    )


def _shift(group: ChannelGroup, draft: Draft) -> Float64Array | None:
    """Four fifths of the value nearest to zero of every channel; None where it is not known."""
    ends = channel_ends(group, draft)
    if not ends:
        return None
    # What is nearest to zero in all of them: behind a Relu that may be zero.
    low = np.min([low for low, _ in ends], axis=0)
    high = np.max([high for _, high in ends], axis=0)
    shift = _ROOM * (np.maximum(low, 0.0) + np.minimum(high, 0.0))
    # Where a Clip cuts, its bound would have to move along.
    return six_digits(np.where(high < _ROOM * group.bound, shift, 0.0))


def _columns_summed(node: Node, program: Program) -> Float64Array:
    """The weight summed over taps, (rows, all input channels)."""
    weight = program.constants[node.inputs[1]].astype(np.float64)
    if node.op_type == "Gemm":
        return weight if node.integer("transB", 0) else weight.T
    group = node.integer("group", 1)
    taps = weight.reshape(*weight.shape[:2], -1).sum(axis=2)
    rows, per_group = taps.shape
    whole = np.zeros((group, rows // group, group, per_group))
    for index in range(group):
        whole[index, :, index] = taps.reshape(group, rows // group, per_group)[index]
    return whole.reshape(rows, group * per_group)


def _shifted(before: TensorStatistics, shift: Float64Array) -> TensorStatistics:
    channels = before.channels
    assert channels is not None  # _shift has seen to it
    minimum = (channels.minimum - shift).astype(np.float32)
    maximum = (channels.maximum - shift).astype(np.float32)
    moved = ChannelStatistics(minimum, maximum, channels.mean_whole, channels.mean_fraction)
    return replace(
        before,
        minimum=float(minimum.min()),
        maximum=float(maximum.max()),
        channels=with_sums(moved, mean_sums(channels) - shift * before.sample_count),
    )
