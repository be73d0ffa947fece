"""Scale the channels of tensors that are added up: the residual stream of MobileNetV2 and its like.

Between linear bottlenecks nothing but Add lies on the edge, so scaling is exact: all layers that
write to the stream multiply their rows, all that read it divide their columns, and both operands of
every Add have the same factors. Cross-layer equalization (Nagel et al. 2019, arXiv:1906.04721,
section 4.1) stops at such edges. The factor is ``f_c = (widest / reach_c)^0.5``: what the
activations win the readers' weights lose, and the square root gives both an equal part.
"""

from quantkit.config import QuantConfig
from quantkit.recovery.channel_groups import channel_groups
from quantkit.recovery.channel_scaling import scale_channels
from quantkit.recovery.cross_layer_equalization import scaled_groups
from quantkit.recovery.draft import Draft
from quantkit.recovery.scaling_note import with_scaling_note

_EXPONENT = 0.5


def equalize_linear_edges(draft: Draft, config: QuantConfig) -> Draft:
    """Equalize every group of channels that are added up on their way.

    Args:
        draft: The float network.
        config: ``per_channel`` decides what is equalized.

    Returns:
        The network with other weights and the same function.
    """
    groups = [group for group in channel_groups(draft.prepared.program) if group.has_sum]
    scaled = scaled_groups(draft, groups, config, _EXPONENT)
    message = "of added tensors scaled to use their tensors' codes evenly"
    return with_scaling_note(
        scale_channels(draft, scaled, config), scaled, "linear_edge_equalization", message
    )
