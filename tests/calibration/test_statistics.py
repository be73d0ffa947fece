import math
from fractions import Fraction
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkit.calibration.histogram import LogHistogram
from quantkit.calibration.statistics import (
    LARGEST_MEAN,
    ChannelStatistics,
    TensorStatistics,
    statistics_of_sample,
)
from quantkit.errors import NonFiniteRangeError, ShapeMismatchError

Float32 = npt.NDArray[np.float32]
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
SAMPLES = st.integers(1, 3).flatmap(
    lambda channels: hnp.arrays(np.float32, (1, channels, 2, 3), elements=FINITE)
)


def as_bytes(found: TensorStatistics) -> tuple[object, ...]:
    channels = found.channels
    arrays: list[npt.NDArray[Any]] = [found.histogram.bucket, found.histogram.count]
    if channels is not None:
        arrays += [channels.minimum, channels.maximum, channels.mean_whole, channels.mean_fraction]
    ends = np.array([found.minimum, found.maximum]).tobytes()
    counts = (found.sample_count, found.count)
    return (ends, counts, channels is None, *(array.tobytes() for array in arrays))


def mean_sums(found: TensorStatistics) -> list[Fraction]:
    assert found.channels is not None
    words = zip(found.channels.mean_whole, found.channels.mean_fraction, strict=True)
    return [int(whole) + Fraction(int(fraction), 1 << 32) for whole, fraction in words]


@given(SAMPLES, SAMPLES, SAMPLES)
def test_merge_is_associative_and_commutative_bit_for_bit(
    a: Float32, b: Float32, c: Float32
) -> None:
    one, two, three = map(statistics_of_sample, (a, b, c))
    assert as_bytes(one.merge(two)) == as_bytes(two.merge(one))
    assert as_bytes(one.merge(two).merge(three)) == as_bytes(one.merge(two.merge(three)))


@given(st.lists(hnp.arrays(np.float32, (1, 2, 3), elements=FINITE), min_size=1, max_size=5))
def test_merged_statistics_equal_those_by_hand(samples: list[Float32]) -> None:
    merged = statistics_of_sample(samples[0])
    for sample in samples[1:]:
        merged = merged.merge(statistics_of_sample(sample))
    values = np.concatenate(samples)
    assert (merged.minimum, merged.maximum) == (values.min(), values.max())
    assert (merged.sample_count, merged.count) == (len(samples), values.size)
    assert merged.channels is not None
    np.testing.assert_array_equal(merged.channels.minimum, values.min(axis=(0, 2)))
    np.testing.assert_array_equal(merged.channels.maximum, values.max(axis=(0, 2)))
    expected = [Fraction(0), Fraction(0)]
    for sample in samples:
        for channel, row in enumerate(sample[0]):
            with np.errstate(over="ignore"):
                total = float(row.sum())
            mean = total / 3 if math.isfinite(total) else float(row.mean(dtype=np.float64))
            clamped = min(max(mean, -LARGEST_MEAN), LARGEST_MEAN)
            # Python's round is half to even on exact rationals.
            expected[channel] += Fraction(round(Fraction(clamped) * 2**32), 1 << 32)
    assert mean_sums(merged) == expected


def test_means_are_the_average_of_the_samples_means() -> None:
    rng = np.random.default_rng(1)
    samples = [rng.standard_normal((1, 4, 5, 5)).astype(np.float32) for _ in range(9)]
    merged = statistics_of_sample(samples[0])
    for sample in samples[1:]:
        merged = merged.merge(statistics_of_sample(sample))
    assert merged.channels is not None
    expected = np.mean(
        [sample.mean(axis=(0, 2, 3), dtype=np.float64) for sample in samples], axis=0
    )
    np.testing.assert_allclose(merged.channels.means(9), expected, rtol=0, atol=2.0**-24)


def test_carry_between_the_words_of_a_sum() -> None:
    found = statistics_of_sample(np.array([[-(2.0**-32), 0.75]], np.float32))
    assert found.channels is not None
    np.testing.assert_array_equal(found.channels.mean_whole, [-1, 0])
    np.testing.assert_array_equal(found.channels.mean_fraction, [2**32 - 1, 3 * 2**30])
    twice = found.merge(found)
    assert mean_sums(twice) == [Fraction(-2, 1 << 32), Fraction(3, 2)]


def test_huge_means_are_clamped() -> None:
    found = statistics_of_sample(np.array([[3e38, -3e38]], np.float32))
    assert mean_sums(found) == [Fraction(2**40), Fraction(-(2**40))]


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((1, 3, 4, 5), 1), ((1, 3, 4), 1), ((1, 7), 1), ((6, 7), 1), ((2, 3, 4), 1)],
)
def test_channel_axis(shape: tuple[int, ...], axis: int) -> None:
    x = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    found = statistics_of_sample(x).channels
    assert found is not None
    others = tuple(other for other in range(x.ndim) if other != axis)
    np.testing.assert_array_equal(found.minimum, x.min(axis=others))
    np.testing.assert_array_equal(found.maximum, x.max(axis=others))
    np.testing.assert_allclose(found.means(1), x.mean(axis=others), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(), (5,)])
def test_no_channels_below_rank_2(shape: tuple[int, ...]) -> None:
    found = statistics_of_sample(np.full(shape, 2.5, np.float32))
    assert found.channels is None
    assert (found.minimum, found.maximum) == (2.5, 2.5)


def test_other_channel_counts_give_up_on_channels_for_good() -> None:
    two, three = (statistics_of_sample(np.ones((1, c, 2), np.float32)) for c in (2, 3))
    assert two.merge(three).channels is None
    assert two.merge(three).merge(two).channels is None
    assert two.merge(three).count == 10


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("shape", [(4,), (1, 2, 2)])
def test_zeros_are_positive(shape: tuple[int, ...], every: int) -> None:
    x = np.zeros(shape, np.float32)
    x.reshape(-1)[::every] = -0.0
    found = statistics_of_sample(x)
    assert math.copysign(1, found.minimum) == math.copysign(1, found.maximum) == 1
    if found.channels is not None:
        assert not np.signbit(found.channels.minimum).any()
        assert not np.signbit(found.channels.maximum).any()


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_dtypes_are_counted_as_float32(dtype: type[np.floating]) -> None:
    x = np.random.default_rng(3).standard_normal((1, 3, 4)).astype(np.float16)
    expected = as_bytes(statistics_of_sample(x.astype(np.float32)))
    assert as_bytes(statistics_of_sample(x.astype(dtype))) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "it holds NaN"), (np.inf, "it holds infinity"), (-1e300, "it holds infinity")],
)
@pytest.mark.parametrize("shape", [(3,), (1, 2, 3)])
def test_non_finite(value: float, message: str, shape: tuple[int, ...]) -> None:
    x = np.ones(shape)
    x.reshape(-1)[-1] = value
    with pytest.raises(NonFiniteRangeError, match=message):
        statistics_of_sample(x)


def test_invariants() -> None:
    one = np.ones(1, np.float32)
    counted = statistics_of_sample(one).histogram
    whole, fraction = np.zeros(1, np.int64), np.zeros(1, np.uint32)
    with pytest.raises(ShapeMismatchError, match="channel statistics are"):
        ChannelStatistics(one, np.ones(2, np.float32), whole, fraction)
    with pytest.raises(NonFiniteRangeError, match="a channel's minimum or maximum"):
        ChannelStatistics(one, one * np.inf, whole, fraction)
    with pytest.raises(NonFiniteRangeError, match=r"the range is \[0.0, inf\]"):
        TensorStatistics(0.0, np.inf, 1, 1, counted, None)
    empty = LogHistogram(np.empty(0, np.uint16), np.empty(0, np.int64))
    for minimum, samples, count, histogram in (
        (2.0, 1, 1, counted),
        (1.0, 0, 1, counted),
        (1.0, 1, 0, counted),
        (1.0, 1, 1, empty),
    ):
        with pytest.raises(ShapeMismatchError, match="contradict themselves"):
            TensorStatistics(minimum, 1.0, samples, count, histogram, None)
