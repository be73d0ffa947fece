"""The values of a tensor as far as its histogram knows them: evenly spread inside each bucket.

Near the far end a bucket is as wide as a quantization step, so what depends on where values lie
inside a bucket is integrated over it. Zeros are a point, and so are values that stop at a bound,
such as the 6.0 of a ReLU6: the exact minimum and maximum tell where the bound is, and the next
bucket how many values the last one would have without it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantkit.calibration.histogram import Float64Array, Int64Array, edges
from quantkit.calibration.statistics import TensorStatistics

_FIRST_NEGATIVE = 0x8000
_ALMOST_ZERO = 2.0**-133


@dataclass(frozen=True, slots=True, eq=False)
class Density:
    """Buckets in increasing order of their values.

    Attributes:
        low: float64, (B,), increasing: where each bucket begins.
        high: float64, (B,): where it ends; ``low`` for a point, which precedes the bucket that
            begins there.
        count: int64, (B,): the values in it.
    """

    low: Float64Array
    high: Float64Array
    count: Int64Array

    @property
    def total(self) -> int:
        """Values in all buckets."""
        return int(self.count.sum())

    def without_zeros(self) -> "Density":
        """The buckets but for that of 0, which has all magnitudes below 2^-133."""
        others = np.maximum(-self.low, self.high) > _ALMOST_ZERO
        return Density(self.low[others], self.high[others], self.count[others])

    def order_statistic(self, rank: int) -> float:
        """The value with ``rank`` values below it; the ends are exact.

        Args:
            rank: In ``[0, total)``.
        """
        if rank in (0, self.total - 1):
            return float(self.high[-1] if rank else self.low[0])
        ends = np.cumsum(self.count)
        index = int(np.searchsorted(ends, rank, side="right"))
        low, high, count = self.low[index], self.high[index], self.count[index]
        share = (rank - (ends[index] - count) + 0.5) / count
        return float(low + (high - low) * share)

    def moments(self, points: Float64Array) -> Float64Array:
        """Number, sum and sum of squares of the values up to each point.

        Args:
            points: float64, any shape.

        Returns:
            float64, (3, *points.shape). A value that is a point counts from there on.
        """
        parts = self._parts(self.low, self.high, self.count.astype(np.float64))
        before = np.zeros((3, self.low.size + 1))
        np.cumsum(parts, axis=1, out=before[:, 1:])
        index = np.maximum(np.searchsorted(self.low, points, side="right") - 1, 0)
        low, high = self.low[index], self.high[index]
        upto = np.clip(points, low, high)
        width = high - low
        with np.errstate(invalid="ignore"):
            share = np.where(width > 0, (upto - low) / width, points >= low)
        found: Float64Array = before[:, index]
        found += self._parts(low, upto, np.asarray(self.count[index] * share))
        return found

    @staticmethod
    def _parts(low: Float64Array, high: Float64Array, count: Float64Array) -> Float64Array:
        """The moments of values evenly spread between two ends."""
        mean, square = (low + high) / 2, (low * low + low * high + high * high) / 3
        return np.stack([count, count * mean, count * square])


def density_of(statistics: TensorStatistics) -> Density:
    """The density that a tensor's histogram stands for."""
    bucket, count = statistics.histogram.bucket, statistics.histogram.count
    split = int(np.searchsorted(bucket, np.uint16(_FIRST_NEGATIVE)))
    order: npt.NDArray[np.intp] = np.concatenate(
        [np.arange(bucket.size - 1, split - 1, -1), np.arange(split)]
    )
    low, high = edges(bucket[order])
    low[bucket[order] == 0] = high[bucket[order] == 0] = 0.0
    low, high = np.maximum(low, statistics.minimum), np.minimum(high, statistics.maximum)
    low[0], high[-1] = statistics.minimum, statistics.maximum
    found = Density(low, high, count[order])
    return _mirrored(_with_end_point(_mirrored(_with_end_point(found))))


def _with_end_point(density: Density) -> Density:
    """The last bucket's values beyond the next one's density (at least one) put at its end."""
    low, high, count = float(density.low[-1]), float(density.high[-1]), int(density.count[-1])
    if low == high:
        return density
    usual = 1.0 if density.low.size == 1 else 0.0  # one for the other end
    if density.low.size > 1 and density.high[-2] == low > density.low[-2]:
        usual = density.count[-2] / (low - density.low[-2]) * (high - low)
    spread = min(count - 1, round(usual))
    ends = [(low, high, spread)] if spread else []
    ends.append((high, high, count - spread))
    lows, highs, counts = zip(*ends, strict=True)
    return Density(
        np.append(density.low[:-1], lows),
        np.append(density.high[:-1], highs),
        np.append(density.count[:-1], np.array(counts, np.int64)),
    )


def _mirrored(density: Density) -> Density:
    """The density of the negated values."""
    return Density(-density.high[::-1], -density.low[::-1], density.count[::-1])
