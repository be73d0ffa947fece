"""Multiply channels of the network's values, and rescale its weights and what is known of them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from quantkit.calibration.statistics import ChannelStatistics, TensorStatistics
from quantkit.config import QuantConfig
from quantkit.graph.program import Array, Node, Program
from quantkit.passes.replace_constants import replace_constants
from quantkit.plan.ranges import estimated_range
from quantkit.range_estimators.contract import Range
from quantkit.recovery.channel_changes import UNCHANGED, ChannelChange, Float64Array
from quantkit.recovery.channel_groups import ChannelGroup
from quantkit.recovery.channel_limits import channel_ends
from quantkit.recovery.draft import Draft

_FRACTION = 2.0**32


def scale_channels(
    draft: Draft, scaled: Sequence[tuple[ChannelGroup, Float64Array]], config: QuantConfig
) -> Draft:
    """Multiply the channels of whole groups; the network's function stays, but for float rounding.

    Args:
        draft: The network.
        scaled: Groups of it and their factors, float64 (C,), all > 0.
        config: Names the range estimator.

    Returns:
        The rewritten network; the same draft where there is nothing to scale.
    """
    if not scaled:
        return draft
    program = draft.prepared.program
    arrays: dict[str, Array] = {}
    statistics, ranges = dict(draft.table.statistics), dict(draft.ranges)
    changes = dict(draft.changes)
    for group, by_channel in scaled:
        scale_weights(arrays, group, by_channel, program)
        for name in group.values:
            before = statistics.get(name)
            old_change = changes.get(name, UNCHANGED)
            changes[name] = ChannelChange(
                old_change.factors * by_channel, old_change.shifts * by_channel
            )
            if before is None:
                continue
            after = _scaled_statistics(before, by_channel)
            statistics[name] = after
            ranges[name] = range_after(
                before, after, by_channel, ranges.get(name), group, config, "channels equalized"
            )
    return replace(
        draft,
        prepared=replace_constants(draft.prepared, arrays),
        table=replace(draft.table, statistics=statistics),
        ranges=ranges,
        changes=changes,
    )


def scale_weights(
    arrays: dict[str, Array], group: ChannelGroup, factors: Float64Array, program: Program
) -> None:
    """Multiply the rows that make the channels of a group, divide the columns that read them.

    Args:
        arrays: Weights and biases that were scaled already; more are added, float64.
        group: The group.
        factors: float64 (C,), all > 0.
        program: Holds the weights as they were.
    """
    for node in group.producers:
        for name in filter(None, node.inputs[1:]):
            old = arrays.get(name, program.constants[name])
            arrays[name] = old * _on_rows(factors, old, node)
    for node in group.consumers:
        name = node.inputs[1]
        old = arrays.get(name, program.constants[name])
        arrays[name] = old / _on_columns(factors, old, node)


def _on_rows(factors: Float64Array, array: Array, node: Node) -> Float64Array:
    """Shaped to multiply the weight or bias of a layer that makes the channels."""
    if array.ndim == 1 or (node.op_type == "Gemm" and not node.integer("transB", 0)):
        return factors  # a bias, (C,), or a weight (K, C)
    if node.op_type == "Gemm" and array.size == factors.size:
        return factors.reshape(array.shape)
    return factors.reshape(-1, *[1] * (array.ndim - 1))


def _on_columns(factors: Float64Array, weight: Array, node: Node) -> Float64Array:
    """Shaped to divide the weight of a layer that reads the channels."""
    if node.op_type == "Gemm":
        axis = 1 if node.integer("transB", 0) else 0
        # Behind Flatten a channel is a block of columns.
        columns = np.repeat(factors, weight.shape[axis] // factors.size)
        return columns if axis else columns[:, None]
    group = node.integer("group", 1)
    columns = np.repeat(factors, group * weight.shape[1] // factors.size)
    per_group = np.repeat(columns.reshape(group, -1), weight.shape[0] // group, axis=0)
    return per_group.reshape(*per_group.shape, *[1] * (weight.ndim - 2))


def _scaled_statistics(before: TensorStatistics, factors: Float64Array) -> TensorStatistics:
    """Exact minimum, maximum and means; the histogram keeps its shape relative to its ends."""
    channels = before.channels
    assert channels is not None  # channel_reach has seen to it
    repeated = np.repeat(factors, channels.channels // factors.size)
    minimum = (channels.minimum * repeated).astype(np.float32)
    maximum = (channels.maximum * repeated).astype(np.float32)
    scaled = ChannelStatistics(minimum, maximum, channels.mean_whole, channels.mean_fraction)
    return replace(
        before,
        minimum=float(minimum.min()),
        maximum=float(maximum.max()),
        channels=with_sums(scaled, mean_sums(channels) * repeated),
    )


def mean_sums(channels: ChannelStatistics) -> Float64Array:
    """The sum over samples of every channel's mean, float64, (C,)."""
    return np.asarray(channels.mean_whole + channels.mean_fraction / _FRACTION)


def with_sums(channels: ChannelStatistics, sums: Float64Array) -> ChannelStatistics:
    """The statistics with other sums of means, rounded down to multiples of 2^-32."""
    whole = np.floor(sums)
    fraction = np.minimum((sums - whole) * _FRACTION, _FRACTION - 1).astype(np.uint32)
    return replace(channels, mean_whole=whole.astype(np.int64), mean_fraction=fraction)


def range_after(
    before: TensorStatistics,
    after: TensorStatistics,
    factors: Float64Array,
    known: Range | None,
    group: ChannelGroup,
    config: QuantConfig,
    what: str,
) -> Range:
    """The range of a value whose channels were scaled or shifted, without another look at the data.

    Behind a Clip, all values seen: where many channels end at the bound, cutting a share of the
    values would cut them all. Elsewhere the range lies halfway, on a logarithmic scale, between two
    guesses of what each channel may lose. If all channels have tails as long as the widest, the
    range keeps its share of the largest value, and every channel is cut; if none has, nothing is
    cut that was not cut before.

    Args:
        before: Statistics of the value as it was.
        after: And as it is.
        factors: What the channels were multiplied by, float64 (C,).
        known: The range of the value as it was; None: the estimator's choice.
        group: Of the value.
        config: Names the estimator.
        what: What was done, for the reason.
    """
    if np.isfinite(group.bound):
        return Range(after.minimum, after.maximum, f"{what}: all values seen")
    was = known or estimated_range(before, config, None)
    old, new = before.channels, after.channels
    assert old is not None
    assert new is not None
    repeated = np.repeat(factors, old.channels // factors.size)
    lows = new.minimum + repeated * np.maximum(was.low - old.minimum, 0.0)
    highs = new.maximum - repeated * np.maximum(old.maximum - was.high, 0.0)
    low = _halfway(
        after.minimum * (was.low / before.minimum if before.minimum < 0 else 1.0), lows.min()
    )
    high = _halfway(
        after.maximum * (was.high / before.maximum if before.maximum > 0 else 1.0), highs.max()
    )
    return Range(min(low, high), high, f"{what}; before: {was.reason}")


def _halfway(share: float, wide: float) -> float:
    """Their geometric mean; the second where they differ in sign."""
    return float(np.copysign(np.sqrt(share * wide), wide) if share * wide > 0 else wide)


def channel_reach(group: ChannelGroup, draft: Draft) -> Float64Array | None:
    """The largest magnitude of every channel relative to the widest, over the group's values.

    The geometric mean over the values that the table knows, float64 (C,); None where it knows none,
    or one of them as a whole only. A channel that was always zero has 0.
    """
    ends = channel_ends(group, draft)
    if ends is None:
        return None
    reaches = [np.maximum(-low, high) for low, high in ends]
    found = [reach / reach.max() for reach in reaches if reach.max() > 0]
    if not found:
        return None
    with np.errstate(divide="ignore"):
        return np.asarray(np.exp(np.mean(np.log(found), axis=0)))
