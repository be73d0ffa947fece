"""What every recipe must reach on the zoo's networks, and the row of figures it is held to."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.other_tools import MINMAX, NNCF

PER_TENSOR = "mobilenet_v1_025_per_tensor"

_LEAST = {
    ("mobilenet_v2", "fast"): (19.2, 96.5),
    ("mobilenet_v2", "balanced"): (20.5, 97.3),
    ("mobilenet_v2", "accurate"): (22.0, 98.0),
    ("mobilenet_v1_025", "fast"): (16.5, 91.5),
    ("mobilenet_v1_025", "balanced"): (17.0, 92.0),
    ("mobilenet_v1_025", "accurate"): (18.0, 93.5),
    ("kws_dscnn", "balanced"): (None, 98.5),
}
"""SQNR in dB and agreement in per cent, by network and recipe."""
_LEAST_TOP1 = {(PER_TENSOR, "accurate"): 58.0}
_TIMES_NNCF = {("mobilenet_v2", "fast"): 1.0, ("mobilenet_v2", "balanced"): 6.0}
_MOST_S_AND_MB = {("mobilenet_v2", "accurate"): (600.0, 1500.0)}
_AHEAD = ("balanced", "accurate")
_MOST_TIMES_ONNXRUNTIME = 1.03
_SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class Row:
    """One quantized file.

    Attributes:
        label: Who made it.
        recipe: Of quantkit; None: another tool's.
        wall_s: Median wall time of the whole process; None: the float network's.
        own_s: What the tool's script measured, imports left out; None: it says nothing.
        peak_mb: The largest resident memory.
        sqnr_db: Of the output, against float.
        agreement_percent: Samples with the float network's class.
        tied: Samples with several best classes.
        top1_percent: Samples with the right class.
        drop: Float's top-1 less this, in percentage points, and its 95 % interval.
        integer_mac_percent: Share of MACs in onnxruntime's integer kernels.
        latency_ms: Of one sample.
        times_onnxruntime: The latency by that of onnxruntime's own quantized file; None: no such.
        onnxruntime_better_p: McNemar's p by each of onnxruntime's files that is right more often.
    """

    label: str
    recipe: str | None
    wall_s: float | None
    own_s: float | None
    peak_mb: float | None
    sqnr_db: float
    agreement_percent: float
    tied: int
    top1_percent: float
    drop: tuple[float, float, float]
    integer_mac_percent: float | None
    latency_ms: float
    times_onnxruntime: float | None
    onnxruntime_better_p: dict[str, float]


@dataclass(frozen=True, slots=True)
class Target:
    """A figure and the limit it must keep.

    Attributes:
        what: The figure's name, with its unit.
        figure: What was measured.
        limit: What it must not exceed.
        is_least: Whether it must not fall below the limit instead.
        note: What else there is to say.
    """

    what: str
    figure: float
    limit: float
    is_least: bool = False
    note: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the limit is kept."""
        return self.figure >= self.limit if self.is_least else self.figure <= self.limit


def targets(network: str, row: Row, others: Sequence[Row]) -> list[Target]:
    """All that a recipe's row is held to.

    Args:
        network: The network's key.
        row: Of a recipe.
        others: The other tools' rows of the same run; what needs one that is absent is left out.
    """
    key = (network, row.recipe or "")
    sqnr, agreement = _LEAST.get(key, (None, None))
    found = [
        Target(what, figure, limit, is_least=True)
        for what, figure, limit in (
            ("SQNR, dB", row.sqnr_db, sqnr),
            ("agreement, %", row.agreement_percent, agreement),
            ("top-1, %", row.top1_percent, _LEAST_TOP1.get(key)),
            ("MACs in integer kernels, %", row.integer_mac_percent or 0.0, 100.0),
        )
        if limit is not None
    ]
    if network != PER_TENSOR:
        found.append(Target("drop of top-1, low end of its 95 % interval", row.drop[1], 0.0))
    for label, p in row.onnxruntime_better_p.items():
        found.append(Target(f"p of {label} being better", p, _SIGNIFICANT, is_least=True))
    if row.times_onnxruntime is not None:
        what = f"latency, times {MINMAX}"
        found.append(Target(what, row.times_onnxruntime, _MOST_TIMES_ONNXRUNTIME))
    if row.recipe in _AHEAD and others:
        found += _ahead(row, others)
    return found + _cost(key, row, others)


def _ahead(row: Row, others: Sequence[Row]) -> list[Target]:
    """More than what the best of the other tools reaches; a draw is not ahead."""
    first = max(others, key=lambda other: other.sqnr_db)
    second = max(others, key=lambda other: other.agreement_percent)
    return [
        Target(what, figure, math.nextafter(best, math.inf), is_least=True, note=other.label)
        for what, figure, best, other in (
            ("SQNR above the other tools', dB", row.sqnr_db, first.sqnr_db, first),
            (
                "agreement above the other tools', %",
                row.agreement_percent,
                second.agreement_percent,
                second,
            ),
        )
    ]


def _cost(key: tuple[str, str], row: Row, others: Sequence[Row]) -> list[Target]:
    found = []
    wall, peak = row.wall_s or 0.0, row.peak_mb or 0.0
    for other in others:
        if other.label == NNCF and other.wall_s and key in _TIMES_NNCF:
            times = _TIMES_NNCF[key]
            note = f"{times:g} times {NNCF}'s"
            found.append(Target("wall time, s", wall, times * other.wall_s, note=note))
    if key in _MOST_S_AND_MB:
        seconds, megabytes = _MOST_S_AND_MB[key]
        found.append(Target("wall time, s", wall, seconds))
        found.append(Target("peak memory, MB", peak, megabytes))
    return found
