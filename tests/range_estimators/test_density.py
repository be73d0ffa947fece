import numpy as np
import pytest

from quantkit.calibration.statistics import statistics_of_sample
from quantkit.range_estimators.density import density_of
from tests.range_estimators.distributions import DRAWS, SPECIAL, values


def test_buckets_are_in_order_and_end_at_the_exact_ends() -> None:
    x = np.array([[-6.0, -1.003, 0.0, 1e-45, 1.0, 1.004, 6.0]], np.float32)
    density = density_of(statistics_of_sample(x))
    step = 2.0**-7
    np.testing.assert_array_equal(density.low, [-6.0, -1.0 - step, 0.0, 1.0, 6.0])
    np.testing.assert_array_equal(density.high, [-6.0, -1.0, 0.0, 1.0 + step, 6.0])
    np.testing.assert_array_equal(density.count, [1, 1, 2, 2, 1])
    np.testing.assert_array_equal(density.without_zeros().count, [1, 1, 2, 1])


def test_moments_of_a_bucket_by_hand() -> None:
    """Four values in [1, 1 + 1/128], of which half lie below the middle; two zeros; a 2."""
    x = np.array([[0, 0, 1, 1.003, 1.006, 1.007, 2]], np.float32)
    density = density_of(statistics_of_sample(x))
    end = 1 + 1 / 128
    middle = (1 + end) / 2
    half = 2 * np.array([1, (1 + middle) / 2, (1 + middle + middle**2) / 3])
    whole = 4 * np.array([1, (1 + end) / 2, (1 + end + end**2) / 3])
    zeros = np.array([2.0, 0, 0])
    expected = [[0, 0, 0], zeros, zeros, zeros + half, zeros + whole, zeros + whole + [1, 2, 4]]
    found = density.moments(np.array([-1.0, 0.0, 0.5, middle, 1.5, 2.0]))
    # (1 + m + m^2) / 3 and the code's order of the same sum differ by the last bit.
    np.testing.assert_allclose(found.T, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("sign", [1, -1])
def test_values_at_a_bound_inside_a_bucket_are_a_point(sign: int) -> None:
    x = np.concatenate([np.linspace(1.0, 6.545, 100_000), np.full(5_000, 6.545)])
    density = density_of(statistics_of_sample(sign * x.astype(np.float32)[np.newaxis]))
    bound = sign * float(np.float32(6.545))
    at_bound = density.count[(density.low == bound) & (density.high == bound)]
    assert at_bound.size == 1
    assert abs(int(at_bound[0]) - 5_000) <= 10
    assert density.total == x.size


@pytest.mark.parametrize("name", DRAWS)
def test_moments_are_those_of_the_values(name: str) -> None:
    x = values(name)
    unit = float(abs(x).max())
    points = np.linspace(1.1 * float(x.min()), 1.1 * float(x.max()), 50)
    found = density_of(statistics_of_sample(x)).moments(points) / x.size
    for point, (count, total, squares) in zip(points, found.T, strict=True):
        below = x[x <= point].astype(np.float64)
        assert abs(count - below.size / x.size) < 0.008
        assert abs(total - below.sum() / x.size) < 0.008 * unit
        assert abs(squares - (below**2).sum() / x.size) < 0.008 * unit**2


@pytest.mark.parametrize("name", [*DRAWS, *SPECIAL])
def test_order_statistics_lie_in_the_right_bucket(name: str) -> None:
    x = SPECIAL[name] if name in SPECIAL else values(name, 3000)
    density = density_of(statistics_of_sample(x))
    exact = np.sort(x.reshape(-1)).astype(np.float64)
    found = np.array([density.order_statistic(rank) for rank in range(x.size)])
    assert (found[0], found[-1]) == (exact[0], exact[-1])
    assert (np.diff(found) >= 0).all()
    assert (abs(found - exact) <= abs(exact) * 2.0**-7 + 2.0**-133).all()
