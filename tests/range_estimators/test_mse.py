import time

import numpy as np
import pytest

from quantkit.calibration.histogram import representatives
from quantkit.calibration.statistics import statistics_of_sample
from quantkit.range_estimators import Range, mse
from quantkit.range_estimators.density import Density, density_of
from tests.range_estimators.distributions import (
    DRAWS,
    Float32,
    estimate,
    squared_error,
    values,
)

SIZE = 50_000
# The second one puts the ends inside their buckets.
FACTORS = (1.0, 1.542)
MISJUDGED = 0.01
NEAR = (0.7, 0.85, 0.95, 0.98, 0.99, 0.995, 1.0, 1.005, 1.01, 1.02, 1.05, 1.15, 1.4)
FAR = tuple(np.geomspace(0.02, 1.0, 8))


def least_error(x: Float32, found: Range) -> float:
    """The least error over the values themselves, of ranges near and far from the one found."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)

    def ends(middle: float, end: float) -> list[float]:
        if end == 0:
            return [0.0]
        near = [middle * factor for factor in NEAR if abs(middle * factor) <= abs(end)]
        return [*near, *(end * factor for factor in FAR)]

    return min(
        squared_error(x, bottom, top)
        for bottom in ends(min(found.low, 0.0), low)
        for top in ends(max(found.high, 0.0), high)
    )


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("name", DRAWS)
def test_error_of_the_values_is_within_1_percent_of_the_least(name: str, factor: float) -> None:
    x = values(name, SIZE) * np.float32(factor)
    found = estimate("mse", x)
    assert squared_error(x, found.low, found.high) <= 1.01 * least_error(x, found)


@pytest.mark.parametrize("name", DRAWS)
def test_a_sampled_bulk_costs_no_more_than_2_percent(name: str) -> None:
    x = values(name, SIZE)
    found = estimate("mse", statistics_of_sample(x, exact=False))
    assert squared_error(x, found.low, found.high) <= 1.02 * least_error(x, found)


def misjudgement(x: Float32, density: Density) -> float:
    """How far the error that the search goes by is from that of the values, at worst."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scales = (high - low) / 255 * np.array([1.0, 0.97, 0.9, 0.5])
    sums, zero_points = mse.best_zero_points(density, scales, 255)
    ratios = []
    for scale, total, zero_point in zip(scales, sums, zero_points, strict=True):
        start = float(np.clip(-zero_point * scale, low, high - 255 * scale))
        error = squared_error(x, start, start + 255 * scale)
        ratios.append(total / x.size / error)
    return float(abs(np.array(ratios) - 1).max())


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("name", DRAWS)
def test_the_error_that_is_minimized_is_that_of_the_values(name: str, factor: float) -> None:
    x = values(name) * np.float32(factor)
    assert misjudgement(x, density_of(statistics_of_sample(x))) < MISJUDGED


@pytest.mark.parametrize("name", ["relu6", "uniform", "points", "negative"])
def test_bucket_middles_would_not_do(name: str) -> None:
    """What the check must reject: values taken to lie in the middles of their buckets."""
    x = values(name)
    histogram = statistics_of_sample(x).histogram
    middle = representatives(histogram.bucket)
    order = np.argsort(middle)
    assert (
        misjudgement(x, Density(middle[order], middle[order], histogram.count[order]))
        > 3 * MISJUDGED
    )


def test_all_zero_points_are_tried_by_hand() -> None:
    """Scale 1: codes 0..3 make 0 of -1 and 3 of 5, codes -1..2 make 2 of 5, which is worse.

    Scale 2: 0, 2, 4, 6 and -2, 0, 2, 4 both miss -1, 1 and 5 by one.
    """
    x = np.array([[-1, 0, 1, 2, 5]], np.float32)
    points = np.unique(x).astype(np.float64)
    density = Density(points, points, np.ones(5, np.int64))
    sums, zero_points = mse.best_zero_points(density, np.array([1.0, 2.0]), 3)
    np.testing.assert_array_equal(sums, [1 + 4, 1 + 1 + 1])
    assert zero_points[0] == 0


@pytest.mark.parametrize("factor", [*FACTORS, -1.09])
def test_ends_that_are_points_are_kept(factor: float) -> None:
    relu6 = values("relu6") * np.float32(factor)
    found = estimate("mse", relu6)
    # The zero point is where it is; a thousandth of a step makes no difference to codes.
    step = abs(6 * factor) / 255
    assert abs(found.low - relu6.min()) <= step / 1000
    assert abs(found.high - relu6.max()) <= step / 1000


def test_is_fast() -> None:
    """A hundred tensors in about a second; ten times that on a loaded machine."""
    statistics = [statistics_of_sample(values(name)) for name in DRAWS]
    start = time.perf_counter()
    for each in statistics:
        estimate("mse", each)
    assert time.perf_counter() - start < 0.1 * len(statistics)
