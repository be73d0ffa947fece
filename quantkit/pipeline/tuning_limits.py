"""What `tune` may be asked for."""

import math

from quantkit.errors import ConfigError
from quantkit.evaluation.accuracy import has_classes
from quantkit.evaluation.measurement import Bench


def limited_metric(
    metric: str | None, max_drop: float | None, min_sqnr: float | None
) -> str | None:
    """The metric's name; None where labels decide."""
    if max_drop is None and min_sqnr is None:
        raise ConfigError(
            "say how much may be lost: either --max-drop (of the metric) or --min-sqnr (dB)"
        )
    if max_drop is not None and min_sqnr is not None:
        raise ConfigError(
            "--max-drop and --min-sqnr are two limits, and tune searches for one: leave one out"
        )
    for option, limit in (("--max-drop", max_drop), ("--min-sqnr", min_sqnr)):
        if limit is not None and not math.isfinite(limit):
            raise ConfigError(f"{option}: a number is expected, got {limit}")
    if max_drop is not None and max_drop < 0.0:
        raise ConfigError(
            f"--max-drop: 0 or more is expected, got {max_drop:g}: it is how far the metric may be "
            "below the float network's"
        )
    if max_drop is not None and max_drop > 100.0 and metric in (None, "top1", "agreement"):
        raise ConfigError(
            f"--max-drop: at most 100 percentage points are expected, got {max_drop:g}; every "
            "network meets that"
        )
    if max_drop is not None and metric == "sqnr":
        raise ConfigError(
            "the float network's SQNR is infinite, so none drops from it; give --min-sqnr"
        )
    if min_sqnr is not None and metric not in (None, "sqnr"):
        raise ConfigError(f"--min-sqnr is no limit of the metric {metric!r}; give --max-drop")
    return "sqnr" if min_sqnr is not None else metric


def refuse_without_classes(bench: Bench) -> None:
    """Refuse the metric that nobody chose where it means nothing.

    Raises:
        ConfigError: The first output holds no scores of classes.
    """
    if not has_classes(bench.reference[0], next(iter(bench.read())), bench.labels):
        raise ConfigError(
            "--max-drop is of top1 or agreement, but the outputs "
            f"({', '.join(bench.reference[0])}) do not look like the scores of classes: give "
            "--min-sqnr, or say what is to be judged with --metric"
        )
