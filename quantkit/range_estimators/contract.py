"""What a range estimator promises, and the registry of all of them."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from quantkit.calibration.statistics import TensorStatistics
from quantkit.errors import ConfigError, NonFiniteRangeError
from quantkit.registry import Registry

_MOST_LEVELS = 256


@dataclass(frozen=True, slots=True)
class Range:
    """Real values that integer codes are to cover, and why these.

    Attributes:
        low: Smallest value to cover.
        high: Largest value to cover.
        reason: Why, in words for people; empty where the method says it all.
    """

    low: float
    high: float
    reason: str = ""

    def __post_init__(self) -> None:
        if not (np.isfinite(self.low) and np.isfinite(self.high)) or self.low > self.high:
            raise NonFiniteRangeError(
                f"a range must be finite with low <= high, got [{self.low}, {self.high}]"
            )


@dataclass(frozen=True, slots=True)
class RangeOptions:
    """What a user may tell the estimators.

    Attributes:
        percentile: Of the values, in (50, 100]; at most 100 less this many per cent are cut at
            each end.
        levels: Codes that a range is divided among, in [2, 256].
    """

    percentile: float = 99.99
    levels: int = _MOST_LEVELS

    def __post_init__(self) -> None:
        if not 50 < self.percentile <= 100:
            raise ConfigError(
                f"the percentile must be above 50 and at most 100, got {self.percentile}"
            )
        if not 2 <= self.levels <= _MOST_LEVELS:
            raise ConfigError(f"levels must be 2 to {_MOST_LEVELS}, got {self.levels}")


class RangeEstimator(Protocol):
    """A method to choose a range."""

    def __call__(self, statistics: TensorStatistics, options: RangeOptions, /) -> Range:
        """The values to cover.

        Args:
            statistics: Of one tensor.
            options: The user's choices; a method ignores those that are not its own.

        Returns:
            ``low <= high``, finite, within ``[statistics.minimum, statistics.maximum]``. The
            planner widens the range to contain 0.
        """


RANGE_ESTIMATORS: Registry[RangeEstimator] = Registry(
    "range estimator", "quantkit.range_estimators"
)
