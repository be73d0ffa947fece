"""Limits that a model must keep, for jobs that fail where it does not."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from quantkit.errors import ConfigError
from quantkit.reporting import numbers
from quantkit.reporting.report import INT8_LABEL, Drop, EngineRow, Report


@dataclass(frozen=True, slots=True)
class Limits:
    """What a model must keep; None: no limit.

    Attributes:
        max_drop: Of the user's metric if there is one, else of top-1 in percentage points: most
            that int8 in onnxruntime may lose.
        min_sqnr: In dB: least of the worst output.
        min_agreement: In per cent: least share of samples with the reference's class.

    Raises:
        ConfigError: A limit is negative or no finite number, or no share of per cent.
    """

    max_drop: float | None = None
    min_sqnr: float | None = None
    min_agreement: float | None = None

    def __post_init__(self) -> None:
        for option, value in self.given().items():
            if not (math.isfinite(value) and value >= 0.0):
                raise ConfigError(f"{option}: a number of 0 or more is expected, got {value:g}")
        if self.min_agreement is not None and self.min_agreement > 100.0:
            raise ConfigError(
                f"--min-agreement: a share of per cent is expected, got {self.min_agreement:g}"
            )

    def given(self) -> dict[str, float]:
        """The limits that are set, by option."""
        limits = {
            "--max-drop": self.max_drop,
            "--min-sqnr": self.min_sqnr,
            "--min-agreement": self.min_agreement,
        }
        return {option: value for option, value in limits.items() if value is not None}


NO_LIMITS = Limits()
NO_DROP = (
    "there is no accuracy to compare; give the float model and --labels (or --metric), or set "
    "--min-agreement instead"
)
NO_REFERENCE = (
    "there is nothing to compare with; give the float model, or leave out --no-integer-session"
)
NO_CLASSES = "the first output holds no score per class; set --min-sqnr instead"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A limit and whether it is kept.

    Attributes:
        limit: As it was given: "--max-drop 0.5".
        text: What was measured, against the limit; or why nothing was, and what to do.
        is_met: Whether it is kept; None where that could not be judged.
    """

    limit: str
    text: str
    is_met: bool | None


def judged_engine(report: Report) -> EngineRow | None:
    """What is compared with the reference: int8 in onnxruntime, without a float model the next."""
    rows = {row.label: row for row in reversed(report.engines[1:])}
    return rows.get(INT8_LABEL) or next(iter(report.engines[1:]), None)


def verdicts(report: Report, limits: Limits) -> tuple[Verdict, ...]:
    """What becomes of every limit that is set."""
    return tuple(_verdicts(report, limits))


def misses(report: Report, limits: Limits) -> tuple[str, ...]:
    """Of every limit that is missed: which, and by how much.

    Raises:
        ConfigError: A limit is set on what was not measured.
    """
    judged = verdicts(report, limits)
    for verdict in judged:
        if verdict.is_met is None:
            raise ConfigError(verdict.text)
    return tuple(verdict.text for verdict in judged if not verdict.is_met)


def _verdicts(report: Report, limits: Limits) -> Iterator[Verdict]:
    row = judged_engine(report)
    if limits.max_drop is not None:
        drop = report.drop if report.metric is None else report.metric_drop
        if drop is None:
            yield _unknown("--max-drop", limits.max_drop, NO_DROP)
        else:
            yield _of_drop(drop, limits.max_drop)
    if limits.min_sqnr is not None:
        if row is None or not row.sqnr_db:
            yield _unknown("--min-sqnr", limits.min_sqnr, NO_REFERENCE)
        else:
            output = min(row.sqnr_db, key=lambda name: _nan_first(row.sqnr_db[name]))
            value = row.sqnr_db[output]
            what = f"SQNR {_with_unit(numbers.decibels(value), 'dB')} of output {output!r}"
            yield _least("--min-sqnr", limits.min_sqnr, value, what)
    if limits.min_agreement is not None:
        if row is None or row.agreement_percent is None:
            reason = NO_REFERENCE if row is None else NO_CLASSES
            yield _unknown("--min-agreement", limits.min_agreement, reason)
        else:
            what = f"agreement {numbers.percent(row.agreement_percent)} %"
            yield _least("--min-agreement", limits.min_agreement, row.agreement_percent, what)


def _unknown(option: str, limit: float, reason: str) -> Verdict:
    return Verdict(f"{option} {limit:g}", f"{option} cannot be judged: {reason}", is_met=None)


def _of_drop(drop: Drop, limit: float) -> Verdict:
    option = f"--max-drop {limit:g}"
    low, high = (numbers.difference(end, drop.unit) for end in (drop.low, drop.high))
    points = numbers.difference(drop.points, drop.unit).removeprefix("+")
    what = f"{drop.metric} drop {points} {drop.unit}".rstrip()
    sure = f"(95 % interval {low} to {high})"
    if drop.points <= limit:
        return Verdict(option, f"{what} keeps {option} {sure}", is_met=True)
    by = numbers.magnitude(drop.points - limit, drop.unit)
    return Verdict(option, f"{what} exceeds {option} by {by} {sure}", is_met=False)


def _least(option: str, limit: float, value: float, what: str) -> Verdict:
    option = f"{option} {limit:g}"
    if value >= limit:
        return Verdict(option, f"{what} keeps {option}", is_met=True)
    by = numbers.magnitude(limit - value)
    return Verdict(option, f"{what} falls short of {option} by {by}", is_met=False)


def _nan_first(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _with_unit(text: str, unit: str) -> str:
    return text if text == numbers.EXACT else f"{text} {unit}".rstrip()
