import numpy as np
import pytest

from quantkit.calibration.statistics import statistics_of_sample
from quantkit.range_estimators import RANGE_ESTIMATORS, Range, RangeOptions
from quantkit.range_estimators.percentile import tail_size
from tests.range_estimators.distributions import (
    DRAWS,
    SPECIAL,
    Float32,
    estimate,
    scale_of,
    values,
)


def from_values(x: Float32, percentile: float) -> tuple[float, float]:
    """The order statistics of the values, by NumPy."""
    share = percentile / 100
    low = -np.quantile(-x.astype(np.float64), share, method="inverted_cdf")
    return float(low), float(np.quantile(x.astype(np.float64), share, method="inverted_cdf"))


@pytest.mark.parametrize("percentile", [75.0, 99.0, 99.9, 99.99, 99.999])
@pytest.mark.parametrize("name", DRAWS)
def test_scale_of_the_values(name: str, percentile: float) -> None:
    """The bound is a bucket's width; where a bucket holds many values it is nearer."""
    x = values(name)
    found = estimate("percentile", x, percentile)
    exact = scale_of(*from_values(x, percentile))
    assert abs(scale_of(found.low, found.high) / exact - 1) < 0.0079
    if percentile <= 99:
        assert abs(scale_of(found.low, found.high) / exact - 1) < 0.003


@pytest.mark.parametrize("name", ["normal", "laplace", "lognormal", "uniform"])
def test_linear_interpolation_gives_the_same_where_values_are_many(name: str) -> None:
    x = values(name, 1_000_000)
    found = estimate("percentile", x, 99.99)
    low, high = np.quantile(x, [0.0001, 0.9999])
    assert abs(scale_of(found.low, found.high) / scale_of(low, high) - 1) < 0.01


@pytest.mark.parametrize("percentile", [60.0, 90.0, 99.0, 99.9])
@pytest.mark.parametrize("name", [*DRAWS, *SPECIAL])
def test_no_more_is_cut_than_was_allowed(name: str, percentile: float) -> None:
    """Counted in buckets: a range's end that lies in a value's bucket does not cut it."""
    x = (SPECIAL[name] if name in SPECIAL else values(name, 5000)).astype(np.float64)
    found = estimate("percentile", x.astype(np.float32), percentile)
    slack = 2.0**-7
    outside = tail_size(x.size, percentile)
    assert (x > found.high + abs(found.high) * slack + 2.0**-133).sum() <= outside
    assert (x < found.low - abs(found.low) * slack - 2.0**-133).sum() <= outside


def test_by_hand() -> None:
    """Powers of two begin their buckets; a bucket of one value puts it in its middle."""
    x = np.array([[-8, -4, -2, 0, 0, 0, 1, 2, 4, 8]], np.float32)
    assert estimate("percentile", x, 100.0) == Range(-8.0, 8.0)
    assert estimate("percentile", x, 91.0) == Range(-8.0, 8.0)
    half = 2.0**-8
    assert estimate("percentile", x, 90.0) == Range(-4 * (1 + half), 4 * (1 + half))
    assert estimate("percentile", x, 60.0) == Range(0.0, 0.0)


def test_points_are_exact() -> None:
    relu6 = np.clip(np.linspace(-2, 7, 20_000), 0, 6).astype(np.float32)[np.newaxis]
    assert estimate("percentile", relu6, 99.0) == Range(0.0, 6.0)
    assert estimate("percentile", -relu6, 99.0) == Range(-6.0, 0.0)


def test_few_values_are_all_kept() -> None:
    x = values("student_t", 9_999)
    assert estimate("percentile", x) == estimate("minmax", x)
    x = values("student_t", 10_000)
    assert estimate("percentile", x).high < x.max()


@pytest.mark.parametrize(
    ("count", "percentile", "expected"),
    [(1000, 99.9, 1), (10_000, 99.99, 1), (999, 99.9, 0), (10, 60.0, 4), (10, 100.0, 0)],
)
def test_tail_sizes_are_those_of_the_decimal_number(
    count: int, percentile: float, expected: int
) -> None:
    """1 - 0.999 in floats is below 0.001: a thousand values would lose none."""
    assert tail_size(count, percentile) == expected


@pytest.mark.parametrize("percentile", [99.9, 99.99])
@pytest.mark.parametrize("name", DRAWS)
def test_a_sampled_bulk_and_exact_tails(name: str, percentile: float) -> None:
    samples = [values(name, 100_000, seed) for seed in range(4)]
    first, *others = (statistics_of_sample(sample, exact=False) for sample in samples)
    for other in others:
        first = first.merge(other)
    found = estimate("percentile", first, percentile)
    exact = scale_of(*from_values(np.concatenate(samples), percentile))
    assert abs(scale_of(found.low, found.high) / exact - 1) < 0.02


@pytest.mark.parametrize("size", [100_000, 120_000, 200_000, 300_000])
def test_a_sampled_bulk_does_not_move_the_range(size: int) -> None:
    """The tails are counted exactly, and how many values may be cut is known exactly."""
    for seed in range(20):
        x = np.random.default_rng(seed).standard_t(3, (1, size)).astype(np.float32)
        sampled = statistics_of_sample(x, exact=False)
        assert sampled.histogram.total != size
        for percentile in (99.9, 99.99):
            options = RangeOptions(percentile)
            found = RANGE_ESTIMATORS["percentile"](sampled, options)
            exact = RANGE_ESTIMATORS["percentile"](statistics_of_sample(x), options)
            assert (found.low, found.high) == (exact.low, exact.high)
