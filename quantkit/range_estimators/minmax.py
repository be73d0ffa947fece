"""``[min, max]``: nothing is clipped, and one outlier coarsens every step."""

from quantkit.calibration.statistics import TensorStatistics
from quantkit.range_estimators.contract import RANGE_ESTIMATORS, Range, RangeOptions


@RANGE_ESTIMATORS.register("minmax")
def minmax(statistics: TensorStatistics, options: RangeOptions) -> Range:
    """All values seen in calibration, none clipped."""
    return Range(statistics.minimum, statistics.maximum)
