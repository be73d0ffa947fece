import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkit.calibration.statistics import statistics_of_sample
from quantkit.reporting.linear_histogram import central_range, linear_counts, share_outside
from tests.reporting.tables import statistics_of

values = st.lists(
    st.one_of(
        st.just(0.0),
        st.floats(-1e6, 1e6, width=32),
        st.floats(-(2.0**-100), 2.0**-100, width=32),
    ),
    min_size=1,
    max_size=50,
)


@given(values, st.integers(1, 40))
def test_every_value_is_counted_in_its_part_or_the_one_beside_it(
    found: list[float], bins: int
) -> None:
    statistics = statistics_of(*found)
    low, high = statistics.minimum - 1.0, statistics.maximum + 1.0
    counts = linear_counts(statistics, low, high, bins)
    assert counts.shape == (bins,)
    assert (counts >= 0).all()
    assert counts.sum() == pytest.approx(len(found), rel=1e-9)
    # A value may lie anywhere in its bucket, which is 2^-7 of it wide.
    ends = np.linspace(low, high, bins + 1)
    x = np.array(found, np.float32)
    reached = np.cumsum(counts)[:-1]
    slack = np.abs(ends[1:-1]) * 2.0**-6 + 1e-30
    for end, extra, below in zip(ends[1:-1], slack, reached, strict=True):
        assert (x < end - extra).sum() - 1e-6 <= below <= (x <= end + extra).sum() + 1e-6


@given(values)
def test_nothing_is_outside_of_all_and_everything_outside_of_nothing(found: list[float]) -> None:
    statistics = statistics_of(*found)
    assert share_outside(statistics, statistics.minimum, statistics.maximum) == 0.0
    assert share_outside(statistics, 2e6, 3e6) == 1.0
    assert share_outside(statistics, -3e6, -2e6) == 1.0


def test_the_ends_of_a_range_are_not_outside() -> None:
    """Most activations are exactly 0, and 6 after a Relu6: neither may be halved."""
    statistics = statistics_of(*[0.0] * 90, *[6.0] * 9, -1.0)
    assert share_outside(statistics, 0.0, 6.0) == 0.01
    assert share_outside(statistics, -1.0, 0.0) == 0.09
    assert share_outside(statistics, -1.0, 5.99) == 0.09


def test_shares_are_within_a_bucket_of_the_truth() -> None:
    x = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    statistics = statistics_of_sample(x)
    for low, high in ((-1.0, 1.0), (-2.5, 0.7), (0.0, 3.0)):
        exact = np.mean((x < low) | (x > high))
        assert share_outside(statistics, low, high) == pytest.approx(exact, rel=0.01)


def test_central_range() -> None:
    x = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    x[:10] = 1000.0
    low, high = central_range(statistics_of_sample(x), 0.99)
    assert (low, high) == pytest.approx(tuple(np.quantile(x, (0.005, 0.995))), rel=2.0**-6)
    assert central_range(statistics_of(*[0.0] * 9999, 1.0), 0.999) == (0.0, 0.0)
