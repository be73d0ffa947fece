"""What an equalization says it did."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from quantkit.passes.note import PassNote
from quantkit.recovery.channel_changes import Float64Array
from quantkit.recovery.channel_groups import ChannelGroup
from quantkit.recovery.draft import Draft


def with_scaling_note(
    draft: Draft, scaled: Sequence[tuple[ChannelGroup, Float64Array]], step: str, message: str
) -> Draft:
    """The draft with one more note; unchanged where nothing was scaled."""
    if not scaled:
        return draft
    factors = np.concatenate([by_channel for _, by_channel in scaled])
    text = (
        f"{np.count_nonzero(factors != 1.0)} channels of {len(scaled)} groups {message} "
        f"(factors {_factor(factors.min())} to {_factor(factors.max())})"
    )
    return replace(draft, notes=(*draft.notes, PassNote(step, "", "", True, text)))


def _factor(value: float) -> str:
    return f"{value:.0f}" if value >= 1000.0 else f"{value:.3g}"
