"""What was lost of a score, with its interval."""

import logging
from collections.abc import Callable

from quantkit.evaluation.accuracy import EngineScores, IntArray
from quantkit.evaluation.metric import Metric, drop_interval
from quantkit.numerics.paired import (
    PairedCounts,
    mcnemar_p_value,
    paired_difference_interval,
)
from quantkit.reporting.report import Drop

logger = logging.getLogger(__name__)


def paired_drop(counts: PairedCounts) -> Drop:
    """The drop of top-1 from the first to the second of a pair."""
    low, high = paired_difference_interval(counts)
    return Drop(
        points=100.0 * counts.difference,
        low=100.0 * low,
        high=100.0 * high,
        p_value=mcnemar_p_value(counts),
        right_to_wrong=counts.first_only,
        wrong_to_right=counts.second_only,
    )


def top1_drop(reference: EngineScores, actual: EngineScores) -> Drop | None:
    """The drop of top-1; None without labels or classes."""
    if reference.top1 is None or actual.top1 is None:
        return None
    return paired_drop(PairedCounts.of(reference.top1, actual.top1))


def metric_drop(
    metric: Metric,
    reference: EngineScores,
    actual: EngineScores,
    labels: IntArray | None,
    samples: int,
    progress: Callable[[int, int], None] | None = None,
) -> Drop | None:
    """The drop of the user's metric, with a bootstrap interval.

    Args:
        metric: The user's.
        reference: The float network's outputs.
        actual: The int8 network's outputs.
        labels: A class per sample, or None.
        samples: How many there are.
        progress: Told after every draw.

    Returns:
        None where no interval can be had; a warning says so.

    Raises:
        CalibrationError: The metric fails on all samples.
    """
    first, second = (
        metric.score(reference.outputs, scores.outputs, labels) for scores in (reference, actual)
    )
    interval = drop_interval(metric, reference.outputs, actual.outputs, labels, samples, progress)
    if interval is None:
        logger.warning(
            "%s: its drop has no interval, since outputs have no row per sample, or it fails on "
            "most draws of samples",
            metric.name,
        )
        return None
    low, high = interval
    return Drop(
        metric=metric.name,
        unit=metric.unit,
        points=first - second,
        low=low,
        high=high,
        p_value=None,
        right_to_wrong=None,
        wrong_to_right=None,
    )
