"""How far channels may be scaled: not beyond what a Clip would cut, and not for their noise."""

import numpy as np

from quantkit.recovery.channel_changes import Float64Array, at_most_on_grid
from quantkit.recovery.channel_groups import ChannelGroup
from quantkit.recovery.draft import Draft

# A channel that hardly says anything is not blown up further: its noise is no more than its values.
LARGEST_FACTOR = 2.0**10
# How much wider than seen in calibration a channel may become before a Clip cuts it.
_ROOM = 1.25


def allowed(factors: Float64Array, group: ChannelGroup, draft: Draft) -> Float64Array:
    """The factors as far as every Clip of the group goes on to cut what it cut, and no more.

    A channel that comes near the bound keeps its factor of 1.

    Args:
        factors: float64 (C,), powers of 2^(1/8).
        group: With its least upper bound.
        draft: Knows how large the channels became.
    """
    if not np.isfinite(group.bound):
        return factors
    ends = channel_ends(group, draft) or ()
    largest = np.max([np.zeros(group.channels), *(high for _, high in ends)], axis=0)
    # What never was above zero is never cut.
    with np.errstate(divide="ignore"):
        room = group.bound / (largest * _ROOM)
    limited = np.minimum(factors, at_most_on_grid(np.maximum(room, 1.0)))
    return np.where(room > 1.0, limited, 1.0)


def channel_ends(
    group: ChannelGroup, draft: Draft
) -> list[tuple[Float64Array, Float64Array]] | None:
    """Minimum and maximum of every channel, float64 (C,), for the values that the table knows.

    None where it knows a value as a whole only: what becomes of its range could not be told.
    """
    found = []
    for name in group.values:
        statistics = draft.table.statistics.get(name)
        if statistics is None:
            continue
        channels = statistics.channels
        if channels is None or channels.channels % group.channels:
            return None
        low, high = (
            array.astype(np.float64).reshape(group.channels, -1)
            for array in (channels.minimum, channels.maximum)
        )
        found.append((low.min(axis=1), high.max(axis=1)))
    return found
