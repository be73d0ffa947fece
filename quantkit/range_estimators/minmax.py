"""``[min, max]``: nothing is clipped, and one outlier coarsens every step."""

from quantkit.calibration.statistics import TensorStatistics
from quantkit.range_estimators.contract import RANGE_ESTIMATORS


@RANGE_ESTIMATORS.register("minmax")
def minmax(statistics: TensorStatistics) -> tuple[float, float]:
    """All values seen in calibration, none clipped."""
    return statistics.minimum, statistics.maximum
