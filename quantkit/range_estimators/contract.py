"""What a range estimator promises, and the registry of all of them."""

from typing import Protocol

from quantkit.calibration.statistics import TensorStatistics
from quantkit.registry import Registry


class RangeEstimator(Protocol):
    """A method to choose a range."""

    def __call__(self, statistics: TensorStatistics, /) -> tuple[float, float]:
        """Lowest and highest real value to cover.

        Args:
            statistics: Of one tensor.

        Returns:
            ``low <= high``, finite, within ``[statistics.minimum, statistics.maximum]``. The
            planner widens the range to contain 0.
        """


RANGE_ESTIMATORS: Registry[RangeEstimator] = Registry(
    "range estimator", "quantkit.range_estimators"
)
