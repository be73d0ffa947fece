"""From statistics to the range that integer codes cover, one file per method.

A range estimator is a function from :class:`~quantkit.calibration.statistics.TensorStatistics` and
:class:`RangeOptions` to a :class:`Range`, registered with ``@RANGE_ESTIMATORS.register("name")``;
the first line of its docstring is its help text. It reads the table only, so another method needs
no second calibration. Adding one is adding a file here.

- ``contract``: :class:`RangeEstimator` and the registry ``RANGE_ESTIMATORS``.
- ``minmax``: all values seen.
- ``percentile``: all but the few farthest out.
- ``entropy``: the threshold that loses the least information (TensorRT).
- ``mse``: the least squared error.
- ``auto``: minmax or percentile, tensor by tensor.
- ``density``: what a histogram says about where values lie.
"""

from quantkit.range_estimators.contract import (
    RANGE_ESTIMATORS,
    Range,
    RangeEstimator,
    RangeOptions,
)

__all__ = ["RANGE_ESTIMATORS", "Range", "RangeEstimator", "RangeOptions"]
