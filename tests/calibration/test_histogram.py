import struct
from collections import Counter

import hypothesis.extra.numpy as hnp
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkit.calibration import histogram
from quantkit.calibration.histogram import (
    LogHistogram,
    bucket_counts,
    buckets_of,
    edges,
    from_dense,
    representatives,
)
from quantkit.errors import NonFiniteRangeError, ShapeMismatchError

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
ARRAYS = hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=9), elements=FINITE)
ALL_BUCKETS = np.concatenate([np.arange(0x7F80), np.arange(0x8001, 0xFF80)]).astype(np.uint16)


def bucket_by_hand(value: float) -> int:
    bits = struct.unpack(">I", struct.pack(">f", value))[0]
    return 0 if bits >> 16 == 0x8000 else bits >> 16


def count_values(x: npt.NDArray[np.float32]) -> LogHistogram:
    return from_dense(bucket_counts(buckets_of(x)))


def as_counter(found: LogHistogram) -> Counter[int]:
    return Counter(dict(zip(found.bucket.tolist(), found.count.tolist(), strict=True)))


@given(ARRAYS)
def test_counts_equal_a_slow_oracle(x: npt.NDArray[np.float32]) -> None:
    expected = Counter(bucket_by_hand(float(value)) for value in x.reshape(-1))
    assert as_counter(count_values(x)) == expected


def test_counts_do_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).standard_normal(100_003).astype(np.float32)
    whole = as_counter(count_values(x))
    monkeypatch.setattr(histogram, "_CHUNK", 1000)
    assert as_counter(count_values(x)) == whole
    assert sum(whole.values()) == x.size


def test_both_zeros_share_bucket_0() -> None:
    x = np.array([0.0, -0.0, 1e-45, -1e-45, 1.0], np.float32)
    assert as_counter(count_values(x)) == {0: 4, 0x3F80: 1}


@given(ARRAYS, ARRAYS)
def test_merge_counts_both(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> None:
    one, other = count_values(a), count_values(b)
    merged = one.merge(other)
    assert as_counter(merged) == as_counter(one) + as_counter(other)
    assert merged.total == a.size + b.size


@given(FINITE)
def test_a_value_lies_between_its_buckets_edges(value: float) -> None:
    bucket = np.array([bucket_by_hand(value)], np.uint16)
    (low,), (high,) = edges(bucket)
    if bucket[0] == 0:
        assert low < value < high
        assert (low, high) == (-(2.0**-133), 2.0**-133)
    elif value > 0:
        assert low <= value < high
    else:
        assert low < value <= high


def test_finite_buckets_cover_the_line_without_gap() -> None:
    low, high = edges(ALL_BUCKETS)
    order = np.argsort(low)
    np.testing.assert_array_equal(high[order][:-1], low[order][1:])
    assert (low.min(), high.max()) == (-(2.0**128), 2.0**128)


def test_representatives_are_within_2_to_the_minus_8() -> None:
    low, high = edges(ALL_BUCKETS)
    middle = representatives(ALL_BUCKETS)
    assert middle[ALL_BUCKETS == 0] == 0.0
    normal = np.minimum(abs(low), abs(high)) >= 2.0**-126
    near = np.minimum(abs(low), abs(high))[normal]
    assert np.all(abs(middle[normal]) - near <= near * 2.0**-8)
    assert np.all(np.sign(middle[normal]) == np.where(ALL_BUCKETS[normal] >= 0x8000, -1, 1))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_values_are_refused(bad: float) -> None:
    with pytest.raises(NonFiniteRangeError, match="a histogram cannot count NaN or infinity"):
        count_values(np.array([1.0, bad], np.float32))


@pytest.mark.parametrize(
    ("bucket", "count", "message"),
    [
        (np.array([1], np.int32), np.array([1]), "buckets must be uint16 and counts int64, got"),
        (np.array([1, 2], np.uint16), np.array([1]), "differ in shape"),
        (np.array([2, 1], np.uint16), np.array([1, 1]), "must increase strictly"),
        (np.array([1, 2], np.uint16), np.array([1, 0]), "counts be above 0"),
    ],
)
def test_invariants(
    bucket: npt.NDArray[np.uint16], count: npt.NDArray[np.int64], message: str
) -> None:
    with pytest.raises(ShapeMismatchError, match=message):
        LogHistogram(bucket, count)
