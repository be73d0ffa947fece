"""Scale channels between two layers, so that each of them uses the codes of its tensor.

Nagel et al. 2019 (Data-Free Quantization, arXiv:1906.04721, section 4.1) scale the channels between
two layers such that the weights' ranges are equal on both sides. That is what per-tensor weights
need, see :mod:`quantkit.recovery.weight_equalization`. With a weight scale per channel the rows of
the first layer are free, and what remains uneven are the channels of the activations in between,
which share one scale; there the factor is
``f_c = (widest / reach_c)^a`` with the reaches that calibration saw. A depthwise consumer has one
weight scale per channel too, so it takes every factor for free and a = 1; elsewhere the columns
of the consumer's weights pay, and a is smaller.

Through ReLU the scaling is exact. ReLU6 and other Clips limit it: a channel is only scaled if
nothing of it was clipped, and only so far that, with some room for other data, nothing will be.
"""

from collections.abc import Sequence

import numpy as np

from quantkit.config import QuantConfig
from quantkit.recovery.channel_changes import Float64Array, on_grid
from quantkit.recovery.channel_groups import ChannelGroup, channel_groups
from quantkit.recovery.channel_limits import LARGEST_FACTOR, allowed
from quantkit.recovery.channel_scaling import channel_reach, scale_channels
from quantkit.recovery.draft import Draft
from quantkit.recovery.scaling_note import with_scaling_note
from quantkit.recovery.weight_equalization import weight_equalizing_factors

# Where the consumer's weights pay for the activations' evenness.
_SHARED_EXPONENT = 0.25


def equalize_layers(draft: Draft, config: QuantConfig) -> Draft:
    """Equalize every group of channels that is made by one layer and never added to another.

    Args:
        draft: The float network.
        config: ``per_channel`` decides what is equalized.

    Returns:
        The network with other weights and the same function (exact but for float32 rounding, and
        for values beyond 1.25 times those that calibration saw where a Clip has an upper bound).
    """
    groups = [group for group in channel_groups(draft.prepared.program) if not group.has_sum]
    scaled = scaled_groups(draft, groups, config, _SHARED_EXPONENT)
    message = "between two layers scaled to use their tensor's codes evenly"
    return with_scaling_note(
        scale_channels(draft, scaled, config), scaled, "cross_layer_equalization", message
    )


def scaled_groups(
    draft: Draft, groups: Sequence[ChannelGroup], config: QuantConfig, exponent: float
) -> list[tuple[ChannelGroup, Float64Array]]:
    """The groups that shall be scaled, with their factors: powers of 2^(1/8), float64 (C,).

    Args:
        draft: The float network.
        groups: Some of its groups.
        config: ``per_channel`` decides what is equalized.
        exponent: Of the activations' factors, where readers have one scale for all columns.
    """
    reaches = [(group, channel_reach(group, draft)) for group in groups]
    known = [(group, reach) for group, reach in reaches if reach is not None]
    if not config.per_channel:
        return weight_equalizing_factors(draft, known)
    program = draft.prepared.program
    scaled = []
    for group, reach in known:
        wanted = wanted_factors(reach, 1.0 if group.is_free(program) else exponent)
        factors = allowed(on_grid(wanted), group, draft)
        if (factors != 1.0).any():
            scaled.append((group, factors))
    return scaled


def wanted_factors(reach: Float64Array, exponent: float) -> Float64Array:
    """``(widest / reach)^exponent``, at most 2^10; 1 for a channel that was always zero.

    Args:
        reach: The channels' largest magnitudes, relative to the widest; float64 (C,).
        exponent: 0: no scaling, 1: equal reaches.
    """
    alive = reach > 0
    with np.errstate(divide="ignore"):
        factors = np.where(alive, reach, 1.0) ** -exponent
    return np.minimum(factors, LARGEST_FACTOR)
