"""The range with the smallest mean squared error of quantized values.

Codes stand for the multiples of the scale s from ``-z s`` to ``(levels - 1 - z) s``. How a value is
rounded depends on s alone, and the zero point z only says from where on values are clipped, above
and below independently. So for one scale the errors of all zero points are sums over the same
cells, and the search is over the scale alone.
"""

import numpy as np
import numpy.typing as npt

from quantkit.calibration.histogram import Float64Array
from quantkit.calibration.statistics import TensorStatistics
from quantkit.range_estimators.contract import RANGE_ESTIMATORS, Range, RangeOptions
from quantkit.range_estimators.density import Density, density_of

# Candidates for the scale: octaves below that of minmax and how many in each, then how often and
# with how many the gaps beside the best one are searched.
_OCTAVES, _PER_OCTAVE = 12, 4
_ZOOMS, _PER_ZOOM = 2, 17

IntArray = npt.NDArray[np.intp]


@RANGE_ESTIMATORS.register("mse")
def mse(statistics: TensorStatistics, options: RangeOptions) -> Range:
    """The range with the least mean squared error of asymmetric codes, clipping included.

    The error is that of ``params_from_range(low, high)``: the range widened to contain 0, the zero
    point rounded; it is integrated over each bucket with its values evenly spread. For 50,000
    values and more, spread continuously but for points at zero and at the ends, the error over the
    values themselves is within 1 % of the least that any range has.
    """
    low, high = min(statistics.minimum, 0.0), max(statistics.maximum, 0.0)
    steps = options.levels - 1
    widest = (high - low) / steps
    if widest == 0.0:
        return Range(statistics.minimum, statistics.maximum)
    density = density_of(statistics)
    exponents = np.linspace(-_OCTAVES, 0.0, _OCTAVES * _PER_OCTAVE + 1)
    for _ in range(1 + _ZOOMS):
        scales = widest * 2.0**exponents
        errors, zero_points = best_zero_points(density, scales, steps)
        best = int(np.argmin(errors))
        scale, zero_point = float(scales[best]), int(zero_points[best])
        around = exponents[max(best - 1, 0)], exponents[min(best + 1, exponents.size - 1)]
        exponents = np.linspace(*around, _PER_ZOOM)
    # Codes beyond the values seen are of no use: move the range back over them.
    start = float(np.clip(-zero_point * scale, low, high - steps * scale))
    ends = np.clip([start, start + steps * scale], statistics.minimum, statistics.maximum)
    return Range(float(ends[0]), float(ends[1]))


def best_zero_points(
    density: Density, scales: Float64Array, steps: int
) -> tuple[Float64Array, IntArray]:
    """The zero point with the least sum of squared errors, and that sum, for each scale.

    Args:
        density: The values.
        scales: float64, (S,).
        steps: The largest code; the smallest is 0.

    Returns:
        Sums, float64, and zero points, intp, both (S,).
    """
    scale = scales[:, np.newaxis]
    ties = scale * (np.arange(steps) + 0.5)
    total = density.moments(np.array([[np.inf]]))
    up_to = density.moments(np.concatenate([-ties, ties], axis=1))
    below, above = up_to[:, :, :steps], total - up_to[:, :, steps:]
    rounded_to_zero = total[2, 0, 0] - below[2, :, :1] - above[2, :, :1]
    mirrored = below * np.array([1.0, -1.0, 1.0])[:, np.newaxis, np.newaxis]
    # Column z: z codes below zero, the others above.
    errors = (
        rounded_to_zero
        + _errors_beyond_zero(above, scale)[:, ::-1]
        + _errors_beyond_zero(mirrored, scale)
    )
    chosen = np.argmin(errors, axis=1)
    return np.take_along_axis(errors, chosen[:, np.newaxis], axis=1)[:, 0], chosen


def _errors_beyond_zero(beyond: Float64Array, scale: Float64Array) -> Float64Array:
    """Squared error of the values nearer to 1 than to 0 steps, by the number of codes for them.

    Args:
        beyond: Moments of the values beyond ``(k + 1/2) scale``, (3, S, steps).
        scale: (S, 1).

    Returns:
        (S, steps + 1); column n: all beyond ``(n - 1/2) scale`` become ``n scale``.
    """
    centre = scale * np.arange(1, beyond.shape[2] + 1)
    errors = np.empty((beyond.shape[1], beyond.shape[2] + 1))
    errors[:, 0] = beyond[2, :, 0]
    errors[:, 1:] = _squares_about(beyond, centre)
    cells = _squares_about(beyond[:, :, :-1] - beyond[:, :, 1:], centre[:, :-1])
    errors[:, 2:] += np.cumsum(cells, axis=1)
    return errors


def _squares_about(moments: Float64Array, centre: Float64Array) -> Float64Array:
    count, total, squares = moments
    return np.asarray(squares - centre * (2 * total - centre * count))
