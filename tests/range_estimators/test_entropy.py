import math

import hypothesis.extra.numpy as hnp
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkit.range_estimators.entropy import bins_of, divergences
from tests.range_estimators.distributions import DRAWS, Float32, estimate, scale_of, values

Float64 = npt.NDArray[np.float64]


def divergence_step_by_step(counts: list[int], start: int, stop: int, levels: int) -> float:
    """Migacz's pseudo-code, with values below ``start`` as outliers of the first bin."""
    reference = [float(count) for count in counts[start:stop]]
    reference[0] += sum(counts[:start])
    reference[-1] += sum(counts[stop:])
    kept = counts[start:stop]
    spread = [0.0] * len(kept)
    for level in range(levels):
        members = [i for i in range(len(kept)) if i * levels // len(kept) == level]
        filled = [i for i in members if reference[i] > 0]
        for i in filled:
            spread[i] = sum(kept[j] for j in members) / len(filled)
    total, remaining = sum(reference), sum(kept)
    return sum(
        p / total * math.log((p / total) / (q / remaining))
        for p, q in zip(reference, spread, strict=True)
        if p > 0
    )


@given(
    st.lists(st.sampled_from([0, 1, 1, 2, 3, 5, 40, 1000]), min_size=12, max_size=40),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(2, 6),
)
def test_divergence_is_that_of_the_pseudo_code(
    counts: list[int], left: int, right: int, levels: int
) -> None:
    # No empty level next to outliers, where the divergence is infinite.
    counts[left], counts[-1 - right] = max(counts[left], 1), max(counts[-1 - right], 1)
    start, stop = left, len(counts) - right
    found = divergences(np.array(counts, np.float64), np.array([start]), np.array([stop]), levels)
    expected = divergence_step_by_step(counts, start, stop, levels)
    assert abs(float(found[0]) - expected) <= 1e-12


def test_divergence_by_hand() -> None:
    """Four bins, two levels: P = (4, 0, 1, 3) / 8 becomes Q = (4, 0, 2, 2) / 8.

    Clipped to two bins, P = (4, 4) / 8 and Q = (4, 1) / 5: the level of the empty second bin,
    which now has outliers, is taken to hold one value.
    """
    counts = np.array([4.0, 0, 1, 3])
    found = divergences(counts, np.array([0, 0]), np.array([4, 2]), 2)
    whole = 1 / 8 * math.log(1 / 2) + 3 / 8 * math.log(3 / 2)
    clipped = 1 / 2 * math.log((1 / 2) / (4 / 5)) + 1 / 2 * math.log((1 / 2) / (1 / 5))
    np.testing.assert_allclose(found, [whole, clipped], rtol=0, atol=1e-15)


@given(
    hnp.arrays(np.float64, 40, elements=st.integers(0, 9).map(float)),
    st.integers(0, 10),
    st.integers(16, 30),
)
def test_a_divergence_is_never_negative(counts: Float64, first: int, kept: int) -> None:
    """Gibbs' inequality: it is one only where P and Q both sum to 1."""
    counts[first + 3] += 1
    found = divergences(counts, np.array([first]), np.array([first + kept]), 8)
    assert found[0] >= -1e-12


@pytest.mark.parametrize("count", [1, 10, 100, 4095])
def test_few_values_are_not_clipped(count: int) -> None:
    x = np.random.default_rng(count).standard_normal((1, count)).astype(np.float32)
    found = estimate("entropy", x)
    assert (found.low, found.high) == (x.min(), x.max())


def test_bins_by_hand() -> None:
    bins = bins_of(-1.0, 4.0, 4)
    assert (bins.width, bins.first, bins.last) == (4 / 64, -16, 64)
    np.testing.assert_array_equal(bins.edges()[[0, 16, -1]], [-1.0, 0.0, 4.0])
    assert bins.thresholds[-1] == 64
    assert (bins.stops - bins.starts >= 4).all()
    assert (bins.starts[-1], bins.stops[-1]) == (0, 80)
    narrow = int(np.flatnonzero(bins.thresholds == 8)[0])
    assert (bins.starts[narrow], bins.stops[narrow]) == (8, 24)
    assert bins_of(0.5, 1.0, 256).last == 4096


def divergences_of_values(x: Float32) -> tuple[Float64, Float64]:
    """Thresholds, and the divergences from the values themselves in the same bins."""
    nonzero = x[x != 0].astype(np.float64)
    bins = bins_of(float(x.min()), float(x.max()), 256)
    counts = np.histogram(nonzero, bins.edges())[0].astype(np.float64)
    found = divergences(counts, bins.starts, bins.stops, 256)
    return np.asarray(bins.thresholds * bins.width), found


@pytest.mark.parametrize("name", DRAWS)
def test_divergence_of_the_values_is_near_the_least(name: str) -> None:
    x = values(name, 500_000)
    thresholds, exact = divergences_of_values(x)
    found = estimate("entropy", x)
    chosen = int(np.argmin(abs(thresholds - max(-found.low, found.high))))
    assert exact[chosen] <= 1.02 * exact.min()


def test_is_not_minmax() -> None:
    """Which 128 bins for 128 levels would be, whatever the values."""
    for name in ("student_t", "lognormal"):
        x = values(name)
        found = estimate("entropy", x)
        assert scale_of(found.low, found.high) < 0.85 * scale_of(float(x.min()), float(x.max()))
    relu6 = estimate("entropy", values("relu6"))
    assert (relu6.low, relu6.high) == (0.0, 6.0)


def test_zeros_do_not_matter() -> None:
    x = values("lognormal", 20_000)
    sparse = np.concatenate([x, np.zeros((1, 500_000), np.float32)], axis=1)
    assert estimate("entropy", sparse).high == estimate("entropy", x).high


def test_signed_values_are_clipped_at_both_ends_or_one() -> None:
    x = values("student_t")
    both = estimate("entropy", x)
    assert both.low == -both.high
    one = estimate("entropy", np.maximum(x, -1.0))
    assert one.low == -1.0
    assert one.high < x.max()
