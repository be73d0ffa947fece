"""Bootstrap intervals: how a number would scatter if other samples had been drawn."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from quantkit.errors import ConfigError, EmptyDatasetError

IntArray = npt.NDArray[np.int64]

RESAMPLES = 1000


def bootstrap_interval(
    statistic: Callable[[IntArray], float],
    samples: int,
    *,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a number that is computed from samples.

    Of ``resamples`` draws of ``samples`` samples with replacement, the ``(1 - confidence) / 2`` and
    ``(1 + confidence) / 2`` quantiles, linear between neighbours (Efron and Tibshirani 1993, An
    Introduction to the Bootstrap, section 13.3). A difference of two networks is paired where
    ``statistic`` looks at both on the same indices.

    Args:
        statistic: Called with int64 indices, (samples,), into the samples; NaN where it is not
            defined for them: the draw is left out.
        samples: How many there are.
        resamples: Draws; the work is the same on every machine.
        confidence: Coverage, 0.95 for 95 %.
        seed: Of NumPy's PCG64; the same seed gives the same interval.

    Returns:
        Lower and upper end; NaN both where most draws were left out.

    Raises:
        ConfigError: ``confidence`` is not within (0, 1), or ``resamples`` is below 1.
        EmptyDatasetError: There are no samples.
    """
    if not 0.0 < confidence < 1.0:
        raise ConfigError(f"a confidence lies between 0 and 1, got {confidence}")
    if resamples < 1:
        raise ConfigError(f"a bootstrap needs at least 1 draw, got {resamples}")
    if samples < 1:
        raise EmptyDatasetError("a bootstrap needs at least one sample")
    rng = np.random.default_rng(seed)
    draws = np.array([statistic(rng.integers(0, samples, samples)) for _ in range(resamples)])
    found = draws[~np.isnan(draws)]
    if 2 * found.size < resamples:
        return math.nan, math.nan
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(found, [tail, 1.0 - tail])
    return float(low), float(high)
