from collections.abc import Callable
from math import gcd

import hypothesis.extra.numpy as hnp
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkit.calibration import counting
from quantkit.calibration.counting import (
    CAP,
    Runs,
    count_all,
    count_sample_and_tails,
    sampling_stride,
)
from quantkit.calibration.histogram import SIGN, bucket_counts, buckets_of, edges, from_dense

Float32 = npt.NDArray[np.float32]
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def dense(runs: Runs) -> npt.NDArray[np.int64]:
    counts = np.zeros(1 << 16, np.int64)
    for first, part in runs:
        counts[first : first + part.size] += part
    return counts


def estimated_counts(x: Float32) -> npt.NDArray[np.int64]:
    return dense(count_sample_and_tails(x, float(x.min()), float(x.max())))


def all_counted(x: Float32) -> npt.NDArray[np.int64]:
    counts = np.zeros(1 << 16, np.int64)
    found = bucket_counts(buckets_of(x))
    counts[: found.size] = found
    return counts


def quantile(counts: npt.NDArray[np.int64], share: float) -> float:
    """The upper edge of the bucket that holds the quantile."""
    histogram = from_dense(counts)
    low, high = edges(histogram.bucket)
    order = np.argsort(low)
    cumulative = histogram.count[order].cumsum()
    return float(high[order][cumulative.searchsorted(share * cumulative[-1])])


@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=9), elements=FINITE))
def test_all_are_counted(x: Float32) -> None:
    np.testing.assert_array_equal(dense(count_all(x)), all_counted(x))


@given(st.data())
def test_a_tensor_up_to_the_cap_is_counted_whole(data: st.DataObject) -> None:
    x = data.draw(hnp.arrays(np.float32, st.integers(1, 300), elements=FINITE))
    np.testing.assert_array_equal(estimated_counts(x), all_counted(x))


@given(st.integers(1, 10**8))
def test_the_stride_keeps_the_cap_and_walks_through_rows_and_columns(size: int) -> None:
    stride = sampling_stride(size)
    assert -(-size // stride) <= CAP
    assert gcd(stride, size) == 1
    assert stride == 1 if size <= CAP else stride <= 2 * size // CAP + 64


SHAPES: dict[str, Callable[[np.random.Generator, int], npt.NDArray[np.floating]]] = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "long tails": lambda rng, n: rng.standard_t(3, n),
    "relu": lambda rng, n: np.maximum(rng.standard_normal(n), 0),
    "relu6": lambda rng, n: np.clip(6 * rng.standard_normal(n), 0, 6),
    "negative": lambda rng, n: -rng.lognormal(0, 2, n),
    "one": lambda rng, n: np.ones(n),
    "zero": lambda rng, n: np.zeros(n),
    "one outlier": lambda rng, n: np.concatenate([rng.random(n - 1), [1000.0]]),
    "tiny": lambda rng, n: rng.standard_normal(n) * 1e-38,
    "huge": lambda rng, n: rng.standard_normal(n) * 1e37,
    "far apart": lambda rng, n: rng.standard_normal(n) ** 31,
}


@pytest.mark.parametrize("name", SHAPES)
def test_tails_are_exact_and_the_rest_is_near(name: str) -> None:
    x = SHAPES[name](np.random.default_rng(0), 40 * CAP + 1).astype(np.float32)
    estimated, exact = estimated_counts(x), all_counted(x)
    for half in (slice(0, SIGN), slice(SIGN, None)):
        beyond = np.cumsum(exact[half][::-1])
        tail = int(np.searchsorted(beyond, x.size / 1000, "right"))
        np.testing.assert_array_equal(estimated[half][::-1][:tail], exact[half][::-1][:tail])
    assert abs(int(estimated.sum()) - x.size) < 0.005 * x.size
    # In a sample of 2^16 a share of 1/2 has a standard deviation of 0.2 %.
    assert np.abs(np.cumsum(estimated) - np.cumsum(exact)).max() < 0.02 * x.size


def test_a_plain_stride_misses_the_tail_and_this_does_not() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_t(2, 64 * CAP).astype(np.float32)
    exact = quantile(all_counted(x), 0.9999)
    plain = quantile(all_counted(np.ascontiguousarray(x[:: sampling_stride(x.size)])), 0.9999)
    assert quantile(estimated_counts(x), 0.9999) == exact
    assert abs(plain - exact) > 0.05 * exact


def test_columns_are_not_seen_in_step() -> None:
    """Rows of 128, each with its own value per column: a stride of 16 would see 8 of them."""
    x = np.tile(np.arange(1, 129, dtype=np.float32), 16 * CAP // 128)
    assert x.size == 16 * CAP
    assert (estimated_counts(x) > 0).sum() == 128
    assert np.unique(buckets_of(x)[::16]).size == 8


def test_the_search_for_the_tail_goes_beyond_the_nearest_buckets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = (np.random.default_rng(2).standard_normal(3 * CAP) ** 31).astype(np.float32)
    whole = estimated_counts(x)
    monkeypatch.setattr(counting, "_NEAR", 4)
    np.testing.assert_array_equal(estimated_counts(x), whole)


def test_a_tail_of_many_chunks() -> None:
    """Only values near zero are sampled: the tails are all the others."""
    x = np.full(24 * CAP + 1, 5, np.float32)
    x[1::2] = -5
    x[:: sampling_stride(x.size)] = 1e-3
    estimated, exact = estimated_counts(x), all_counted(x)
    assert (x == 5).sum() > 1 << 17
    assert estimated[0x40A0] == exact[0x40A0]
    assert estimated[0xC0A0] == exact[0xC0A0]
