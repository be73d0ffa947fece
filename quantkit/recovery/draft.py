"""The float network on its way to a plan: what the steps before quantization hand on."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from quantkit.calibration.table import CalibrationTable
from quantkit.passes.note import PassNote
from quantkit.passes.prepare import Prepared
from quantkit.range_estimators.contract import Range
from quantkit.recovery.channel_changes import ChannelChange


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A float network, what is known of its values, and what was done to it.

    Attributes:
        prepared: The float graph, its function unchanged.
        table: Statistics of its values as they are now: minima, maxima and means per channel are
            exact, histograms of scaled values are estimates.
        ranges: Ranges that are known better than an estimator finds them, by value name.
        changes: What became of the channels of a value, by value name; others are as they were.
        notes: What the steps did.
    """

    prepared: Prepared
    table: CalibrationTable
    ranges: Mapping[str, Range] = field(default_factory=dict)
    changes: Mapping[str, ChannelChange] = field(default_factory=dict)
    notes: tuple[PassNote, ...] = ()
