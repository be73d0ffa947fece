"""The threshold that loses the least information.

Migacz 2017, "8-bit Inference with TensorRT", slides "Entropy Calibration": the values' histogram P,
clipped at a threshold T with everything beyond added to the last bin, is compared with Q: the bins
within T, merged into as many levels as there are codes and spread again over those of each level's
bins that are not empty. The T with the smallest Kullback-Leibler divergence of Q from P is taken.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantkit.calibration.histogram import Float64Array
from quantkit.calibration.statistics import TensorStatistics
from quantkit.range_estimators.contract import RANGE_ESTIMATORS, Range, RangeOptions
from quantkit.range_estimators.density import density_of

# At the widest threshold: 4,096 bins between 0 and max|x| for 256 levels.
_BINS_PER_LEVEL = 16
# Where it is flat, the divergence of measured values goes up and down by some per cent from one
# bin to the next; the smallest of thousands of thresholds would be chosen by such chance.
_THRESHOLDS_PER_OCTAVE = 16

IntArray = npt.NDArray[np.intp]


@RANGE_ESTIMATORS.register("entropy")
def entropy(statistics: TensorStatistics, options: RangeOptions) -> Range:
    """The threshold of smallest Kullback-Leibler divergence (TensorRT's entropy calibration).

    A tensor with values of both signs is clipped at ``-T`` and ``T`` where it reaches that far, and
    the levels divide what is left. Zeros are not counted: zero has a code of its own at every
    threshold, but bins that share a level with it would seem to lose all it holds.

    Fewer values than bins say nothing about their distribution: they keep their whole range.

    The divergence of the values themselves, counted in the same bins, is usually within 2 % of the
    least of these thresholds. Where a tensor has many equal values (channels that hardly vary) the
    method clips far too much: they lie in one bin, which a wide threshold would merge with others.
    """
    low, high = statistics.minimum, statistics.maximum
    density = density_of(statistics).without_zeros()
    if density.total < options.levels * _BINS_PER_LEVEL:
        return Range(low, high)
    bins = bins_of(low, high, options.levels)
    up_to = density.moments(bins.edges()[1:-1])[0]
    counts = np.diff(np.concatenate([[0.0], up_to, [float(density.total)]]))
    losses = divergences(counts, bins.starts, bins.stops, options.levels)
    threshold = float(bins.thresholds[int(np.argmin(losses))] * bins.width)
    ends = np.clip([-threshold, threshold], low, high)
    return Range(float(ends[0]), float(ends[1]))


@dataclass(frozen=True, slots=True, eq=False)
class Bins:
    """Linear bins, and where the thresholds clip them.

    Attributes:
        width: Of a bin.
        first: The first bin begins at ``first * width``, at most 0.
        last: The last bin ends at ``last * width``, at least 0.
        thresholds: intp, (T,), increasing, in bins; the last one clips nothing.
    """

    width: float
    first: int
    last: int
    thresholds: IntArray

    def edges(self) -> Float64Array:
        """The ends of the bins, float64, (last - first + 1,)."""
        return np.asarray(np.arange(self.first, self.last + 1) * self.width)

    @property
    def starts(self) -> IntArray:
        """Position of the first bin within each threshold."""
        return np.asarray(np.maximum(-self.thresholds, self.first) - self.first)

    @property
    def stops(self) -> IntArray:
        """One past the position of the last bin within each threshold."""
        return np.asarray(np.minimum(self.thresholds, self.last) - self.first)


def bins_of(low: float, high: float, levels: int) -> Bins:
    """16 bins per level between 0 and the larger of ``-low`` and ``high``.

    The thresholds are 16 per octave, down to where each level is a single bin.

    Args:
        low: Smallest value.
        high: Largest value; one of them is not 0.
        levels: Codes for the values that are kept.
    """
    most = levels * _BINS_PER_LEVEL
    width = max(-low, high) / most
    first, last = int(np.floor(min(low, 0.0) / width)), int(np.ceil(max(high, 0.0) / width))
    octaves = np.arange(_THRESHOLDS_PER_OCTAVE * most.bit_length()) / _THRESHOLDS_PER_OCTAVE
    thresholds = np.unique(np.rint(most * 2.0**-octaves).astype(np.intp))
    kept = np.minimum(thresholds, last) - np.maximum(-thresholds, first)
    return Bins(width, first, last, thresholds[kept >= levels])


def divergences(
    counts: Float64Array, starts: IntArray, stops: IntArray, levels: int
) -> Float64Array:
    """Divergence of Q from P, in nats, for each way to clip a histogram.

    Args:
        counts: float64, (bins,).
        starts: intp, (T,): the first bin that is kept.
        stops: intp, (T,): one past the last one; at least ``levels`` bins are kept.
        levels: Levels that the kept bins are merged into, bin i of n into ``i levels // n``.

    Returns:
        float64, (T,). An empty level at a threshold that clips is taken to hold one value.
    """
    logs = np.log(np.where(counts > 0, counts, 1.0))
    running = np.zeros((3, counts.size + 1))
    np.cumsum([counts, counts * logs, counts > 0], axis=1, out=running[:, 1:])
    # Level k of n bins begins at bin ceil(k n / levels).
    sizes = (stops - starts)[:, np.newaxis]
    bounds = starts[:, np.newaxis] - (-np.arange(levels + 1) * sizes // levels)
    masses, filled = np.diff(running[0][bounds], axis=1), np.diff(running[2][bounds], axis=1)
    kept, total = running[0][stops] - running[0][starts], running[0][-1]
    ends = (
        (0, starts, running[0][starts]),
        (levels - 1, stops - 1, total - running[0][stops]),
    )
    for level, end, outliers in ends:
        filled[:, level] += (outliers > 0) & (counts[end] == 0)
        masses[:, level] = np.where(outliers > 0, np.maximum(masses[:, level], 1), masses[:, level])
    spread = np.log(np.where(masses > 0, masses / np.maximum(filled, 1.0), 1.0))
    # Sums over bins of p log p and p log q, both times the number of values.
    own = running[1][stops] - running[1][starts]
    other = (np.diff(running[0][bounds], axis=1) * spread).sum(axis=1)
    for level, end, outliers in ends:
        full = counts[end] + outliers
        own += full * np.log(np.where(full > 0, full, 1.0)) - counts[end] * logs[end]
        other += outliers * spread[:, level]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (own - other) / total - np.log(total / masses.sum(axis=1))
    return np.asarray(np.where(kept > 0, found, np.inf))
