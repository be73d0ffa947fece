"""From statistics to the range that integer codes cover, one file per method.

A range estimator is a function from :class:`~quantkit.calibration.statistics.TensorStatistics` to
``(low, high)``, registered with ``@RANGE_ESTIMATORS.register("name")``; the first line of its
docstring is its help text. It reads the table only, so another method needs no second calibration.
Adding one is adding a file here.

- ``contract``: :class:`RangeEstimator` and the registry ``RANGE_ESTIMATORS``.
- ``minmax``: all values seen.
"""

from quantkit.range_estimators.contract import RANGE_ESTIMATORS, RangeEstimator

__all__ = ["RANGE_ESTIMATORS", "RangeEstimator"]
