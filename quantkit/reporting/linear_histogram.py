"""Log-spaced counts on a linear axis, for people to look at.

Values are taken as spread evenly over their bucket, cut to the tensor's exact minimum and maximum;
those of bucket 0 as 0.
"""

import numpy as np

from quantkit.calibration.histogram import Float64Array, Int64Array, edges
from quantkit.calibration.statistics import TensorStatistics


def linear_counts(statistics: TensorStatistics, low: float, high: float, bins: int) -> Float64Array:
    """How many values lie in each of ``bins`` equal parts of [low, high].

    Args:
        statistics: Of one tensor.
        low: Left end, at most the tensor's minimum.
        high: Right end, at least its maximum; above ``low``.
        bins: Number of parts.

    Returns:
        float64, (bins,); the sum is ``statistics.histogram.total``. Not whole numbers: a bucket
        may lie in several parts.
    """
    below = _count_below(*_spans(statistics), np.linspace(low, high, bins + 1))
    below[0], below[-1] = 0, statistics.histogram.total
    return np.diff(below)


def share_outside(statistics: TensorStatistics, low: float, high: float) -> float:
    """Share of the values below ``low`` or above ``high``, 0 to 1; the ends are not outside."""
    left, right, count = _spans(statistics)
    below = _count_below(left, right, count, np.array([low]))
    above = _count_below(-right, -left, count, np.array([-high]))
    return float((below + above)[0] / statistics.histogram.total)


def central_range(statistics: TensorStatistics, share: float) -> tuple[float, float]:
    """The narrowest run of whole buckets without the ``(1 - share) / 2`` on either side of it."""
    low, high, count = _spans(statistics)
    order = np.argsort(low + high, kind="stable")
    low, high, reached = low[order], high[order], np.cumsum(count[order])
    outside = (1 - share) / 2 * reached[-1]
    first = np.searchsorted(reached, outside, side="right")
    last = np.searchsorted(reached, reached[-1] - outside, side="left")
    return float(low[first]), float(high[last])


def _spans(statistics: TensorStatistics) -> tuple[Float64Array, Float64Array, Int64Array]:
    """Where each bucket's values lie, (B,), and how many they are."""
    bucket = statistics.histogram.bucket
    low, high = edges(bucket)
    low[bucket == 0] = high[bucket == 0] = 0.0
    ends = statistics.minimum, statistics.maximum
    return np.clip(low, *ends), np.clip(high, *ends), statistics.histogram.count


def _count_below(
    low: Float64Array, high: Float64Array, count: Int64Array, x: Float64Array
) -> Float64Array:
    """Number of values below each ``x``, (K,)."""
    width = high - low
    distance = x[:, None] - low
    # All values of a bucket without width are equal: below x, or not.
    part = np.divide(distance, width, out=(distance > 0).astype(np.float64), where=width > 0)
    below: Float64Array = np.clip(part, 0.0, 1.0) @ count.astype(np.float64)
    return below
