"""Bootstrap intervals against closed forms, exact enumeration, and themselves."""

import itertools
import math

import numpy as np
import pytest

from quantkit.errors import ConfigError, EmptyDatasetError
from quantkit.numerics.bootstrap import IntArray, bootstrap_interval


def test_a_mean_scatters_by_its_standard_error() -> None:
    values = np.random.default_rng(3).normal(2.0, 1.0, 400)
    low, high = bootstrap_interval(lambda i: float(values[i].mean()), 400, resamples=4000)
    error = values.std() / math.sqrt(400)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_quantiles_are_those_of_all_draws() -> None:
    """Of 3 samples there are 27 equally likely draws."""
    values = np.array([0.0, 1.0, 5.0])
    exact = [values[list(draw)].sum() for draw in itertools.product(range(3), repeat=3)]
    found = bootstrap_interval(
        lambda i: float(values[i].sum()), 3, resamples=20_000, confidence=0.9
    )
    assert found == tuple(np.quantile(exact, [0.05, 0.95]))


def test_a_pair_that_never_differs_has_no_interval_width() -> None:
    values = np.random.default_rng(0).normal(size=50)

    def difference(indices: IntArray) -> float:
        return float(values[indices].mean() - (values[indices] - 0.25).mean())

    assert bootstrap_interval(difference, 50) == pytest.approx((0.25, 0.25), abs=1e-12)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(1).normal(size=30)

    def run(seed: int) -> tuple[float, float]:
        return bootstrap_interval(lambda i: float(values[i].mean()), 30, seed=seed)

    assert run(0) == run(0)
    assert run(0) != run(1)


def test_draws_without_a_value_are_left_out() -> None:
    """A mean over the positive ones, of which a draw may have none."""
    values = np.array([-1.0, -1.0, 3.0, 4.0])

    def positive(indices: IntArray) -> float:
        chosen = values[indices]
        return float(chosen[chosen > 0].mean()) if (chosen > 0).any() else math.nan

    low, high = bootstrap_interval(positive, 4)
    assert (low, high) == (3.0, 4.0)
    assert all(math.isnan(end) for end in bootstrap_interval(lambda _: math.nan, 4))


def test_refusals() -> None:
    with pytest.raises(ConfigError, match=r"a confidence lies between 0 and 1, got 1"):
        bootstrap_interval(lambda _: 0.0, 4, confidence=1.0)
    with pytest.raises(ConfigError, match=r"at least 1 draw, got 0"):
        bootstrap_interval(lambda _: 0.0, 4, resamples=0)
    with pytest.raises(EmptyDatasetError, match=r"at least one sample"):
        bootstrap_interval(lambda _: 0.0, 0)
