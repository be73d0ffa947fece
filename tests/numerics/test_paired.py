"""Paired comparisons: published examples, exact oracles, properties."""

import math
from fractions import Fraction
from statistics import NormalDist

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from quantkit.errors import ConfigError, EmptyDatasetError, ShapeMismatchError
from quantkit.numerics.paired import (
    PairedCounts,
    mcnemar_p_value,
    paired_difference_interval,
    wilson_interval,
)

COUNT = st.integers(0, 60)
TABLES = st.tuples(COUNT, COUNT, COUNT, COUNT).filter(any).map(lambda counts: PairedCounts(*counts))
CONFIDENCE = st.sampled_from([0.5, 0.9, 0.95, 0.999])


def swapped(counts: PairedCounts) -> PairedCounts:
    return PairedCounts(counts.both, counts.second_only, counts.first_only, counts.neither)


@pytest.mark.parametrize(
    ("counts", "low", "high", "digits"),
    [
        # Armitage and Berry 1994, p. 127: two media for tubercle bacilli; Newcombe 1998, method 8.
        ((20, 12, 2, 16), 0.0618, 0.3242, 4),
        # Newcombe 1998, the example with no pair of failures, where methods 8 and 10 are one.
        ((36, 12, 2, 0), 0.0569, 0.3404, 4),
    ],
)
def test_published_intervals(
    counts: tuple[int, int, int, int], low: float, high: float, digits: int
) -> None:
    interval = paired_difference_interval(PairedCounts(*counts))
    assert tuple(round(end, digits) for end in interval) == (low, high)


def test_published_p_values() -> None:
    # Liddell's exact test of the same tubercle bacilli (12 against 2): P = 0.0129.
    assert round(mcnemar_p_value(PairedCounts(20, 12, 2, 16)), 4) == 0.0129
    # Fagerland et al.: 1 against 7: P = 0.0703.
    assert round(mcnemar_p_value(PairedCounts(1, 1, 7, 12)), 4) == 0.0703


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    # Newcombe 1998 (single proportion), table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_wilson_intervals(successes: int, total: int, low: float, high: float) -> None:
    interval = wilson_interval(successes, total)
    assert tuple(round(end, 4) for end in interval) == (low, high)


@given(st.integers(1, 400), st.floats(0, 1), CONFIDENCE)
def test_wilson_ends_solve_their_equation(total: int, share: float, confidence: float) -> None:
    # An end p0 is where the estimate lies z standard errors (of p0) away.
    successes = round(share * total)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    for end in wilson_interval(successes, total, confidence=confidence):
        distance = abs(successes / total - end)
        assert distance == pytest.approx(z * math.sqrt(end * (1 - end) / total), abs=1e-9)
    low, high = wilson_interval(successes, total, confidence=confidence)
    assert 0 <= low <= successes / total <= high <= 1


@given(TABLES, CONFIDENCE)
def test_interval_contains_the_estimate(counts: PairedCounts, confidence: float) -> None:
    low, high = paired_difference_interval(counts, confidence=confidence)
    assert -1 <= low <= counts.difference <= high <= 1


@given(TABLES, CONFIDENCE)
def test_swapping_the_classifiers_mirrors_the_interval(
    counts: PairedCounts, confidence: float
) -> None:
    low, high = paired_difference_interval(counts, confidence=confidence)
    mirrored = paired_difference_interval(swapped(counts), confidence=confidence)
    assert mirrored == pytest.approx((-high, -low), abs=1e-12)


@given(TABLES)
def test_more_confidence_widens_the_interval(counts: PairedCounts) -> None:
    low, high = paired_difference_interval(counts, confidence=0.9)
    wider_low, wider_high = paired_difference_interval(counts, confidence=0.99)
    assert wider_low <= low
    assert high <= wider_high


@given(TABLES)
def test_interval_equals_the_formula_written_out(counts: PairedCounts) -> None:
    a, b, c, d = counts.both, counts.first_only, counts.second_only, counts.neither
    n = counts.total
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    phi = (a * d - b * c) / math.sqrt(margins) if margins else 0.0
    ends = []
    for x1, x2, sign in ((a + b, a + c, -1), (a + c, a + b, 1)):
        p1, p2 = x1 / n, x2 / n
        down, up = p1 - wilson_interval(x1, n)[0], wilson_interval(x2, n)[1] - p2
        ends.append((b - c) / n + sign * math.sqrt(down**2 - 2 * phi * down * up + up**2))
    expected = (max(ends[0], -1), min(ends[1], 1))
    assert paired_difference_interval(counts) == pytest.approx(expected, abs=1e-9)


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_equals_summed_coin_tosses(first: int, second: int) -> None:
    m, k = first + second, min(first, second)
    tail = sum(Fraction(math.comb(m, i), 2**m) for i in range(m + 1) if i <= k or i >= m - k)
    # Where the two tails meet, the middle term would count twice.
    expected = min(Fraction(1), tail)
    measured = mcnemar_p_value(PairedCounts(3, first, second, 4))
    assert measured == float(expected)
    assert measured == mcnemar_p_value(
        PairedCounts(0, second, first, 0) if m else PairedCounts(1, 0, 0, 0)
    )


def test_mcnemar_on_a_whole_validation_set() -> None:
    # 50,000 discordant pairs, six standard deviations apart.
    p_value = mcnemar_p_value(PairedCounts(0, 25_671, 24_329, 0))
    assert p_value == pytest.approx(2 * NormalDist().cdf(-1341 / math.sqrt(50_000)), rel=1e-2)


def test_counting() -> None:
    first = np.array([True, True, True, False, False, False, False])
    second = np.array([True, True, False, True, True, True, False])
    counts = PairedCounts.of(first, second)
    assert counts == PairedCounts(both=2, first_only=1, second_only=3, neither=1)
    assert counts.total == 7
    assert counts.difference == -2 / 7


def test_what_is_refused() -> None:
    with pytest.raises(EmptyDatasetError, match="at least one sample"):
        PairedCounts(0, 0, 0, 0)
    with pytest.raises(ConfigError, match="counts cannot be negative"):
        PairedCounts(5, -1, 0, 0)
    with pytest.raises(ShapeMismatchError, match=r"\(2,\) and \(3,\) are no pairs"):
        PairedCounts.of(np.zeros(2, np.bool_), np.zeros(3, np.bool_))
    with pytest.raises(ConfigError, match="confidence lies between 0 and 1, got 95"):
        paired_difference_interval(PairedCounts(1, 1, 1, 1), confidence=95)
    with pytest.raises(ConfigError, match="5 of 4 is no proportion"):
        wilson_interval(5, 4)
