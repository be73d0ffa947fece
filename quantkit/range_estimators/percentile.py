"""Order statistics: the few values farthest out are clipped, and the others get finer steps."""

from fractions import Fraction

from quantkit.calibration.statistics import TensorStatistics
from quantkit.range_estimators.contract import RANGE_ESTIMATORS, Range, RangeOptions
from quantkit.range_estimators.density import Density, density_of


@RANGE_ESTIMATORS.register("percentile")
def percentile(statistics: TensorStatistics, options: RangeOptions) -> Range:
    """All values but the few farthest out: at most 100 - percentile % are cut at each end.

    Of n values, ``floor(n (1 - percentile / 100))`` are cut at each end and the next one is the
    range's end: ``np.quantile(x, percentile / 100, method="inverted_cdf")`` at the upper end, its
    mirror image at the lower. Fewer than 10,000 values thus keep their whole range at 99.99.

    An end lies in the right bucket, so it is off by at most 2^-7 of itself, usually by far less.
    """
    density = density_of(statistics)
    return without_tails(density, tail_size(statistics.count, options.percentile))


def tail_size(values: int, percentile: float) -> int:
    """How many of so many values may be cut at each end, rounded down."""
    # The decimal fraction that the user wrote: 1 - 0.999 in floats is below 0.001.
    return int(values * (1 - Fraction(str(percentile)) / 100))


def without_tails(density: Density, cut: int) -> Range:
    """The range that is left when ``cut`` values are cut at each end."""
    return Range(density.order_statistic(cut), density.order_statistic(density.total - 1 - cut))
