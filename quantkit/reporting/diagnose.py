"""Named causes of lost accuracy, with their evidence and the option to try.

The causes of ``reporting.causes`` are asked one after the other. Those of the whole network come
first, then those of layers by their share of the outputs' noise, then what only costs speed.
"""

from collections.abc import Callable, Iterator

from quantkit.reporting.causes.activation_channels import activation_channels
from quantkit.reporting.causes.bias_overflow import bias_overflow
from quantkit.reporting.causes.calibration_samples import calibration_samples
from quantkit.reporting.causes.findings import Findings
from quantkit.reporting.causes.float_islands import float_islands
from quantkit.reporting.causes.guessing import guessing
from quantkit.reporting.causes.lost_range import lost_range
from quantkit.reporting.causes.loudest_layer import LOUDEST, loudest_layer
from quantkit.reporting.causes.preprocessing_mismatch import preprocessing_mismatch
from quantkit.reporting.causes.unbalanced_inputs import unbalanced_inputs
from quantkit.reporting.causes.weight_channels import weight_channels
from quantkit.reporting.report import Cause

CAUSES: tuple[Callable[[Findings], Iterator[Cause]], ...] = (
    guessing,
    preprocessing_mismatch,
    calibration_samples,
    unbalanced_inputs,
    activation_channels,
    bias_overflow,
    weight_channels,
    lost_range,
    loudest_layer,
    float_islands,
)
"""Those that say more of a layer come before those that say less."""

# A layer with this share of the noise may well have two faults.
_STRONG_PERCENT = 20.0
# Who repairs these has another network, and asks again.
_MOST = 12


def diagnose(findings: Findings) -> tuple[Cause, ...]:
    """The causes, the worst first; none for a healthy network.

    A layer has one, or two where it makes much of the noise and their remedies differ.
    """
    found: list[Cause] = []
    for name in CAUSES:
        found += (cause for cause in name(findings) if _adds(cause, found))
    return tuple(sorted(found, key=_order)[:_MOST])


def _adds(cause: Cause, found: list[Cause]) -> bool:
    known = [other for other in found if cause.node and other.node == cause.node]
    if not known:
        return True
    if cause.cause == LOUDEST:
        return False  # what is known says why
    is_strong = (cause.noise_percent or 0.0) >= _STRONG_PERCENT
    fields = known[0].remedy.config.keys(), cause.remedy.config.keys()
    return len(known) == 1 and is_strong and all(fields) and fields[0].isdisjoint(fields[1])


def _order(cause: Cause) -> tuple[int, float]:
    if not cause.node:
        return 0, 0.0
    if cause.cause == "float island":
        return 2, 0.0
    return 1, -(cause.noise_percent or 0.0)
