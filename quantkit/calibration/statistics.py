"""What calibration knows of one tensor, and how two halves of it become one, exactly.

Everything is computed per sample and then joined by minimum, maximum and integer addition, so the
result does not depend on how samples were batched, ordered or divided among workers.
"""

from dataclasses import dataclass
from math import isfinite

import numpy as np
import numpy.typing as npt

from quantkit.calibration.counting import Runs, count_all, count_sample_and_tails
from quantkit.calibration.histogram import (
    BUCKETS,
    Float32Array,
    Float64Array,
    Int64Array,
    LogHistogram,
    from_dense,
)
from quantkit.errors import NonFiniteRangeError, ShapeMismatchError
from quantkit.graph.program import Array

# Per-sample means are multiples of 2^-32 of at most this magnitude (larger ones are clamped), so
# that the sum over 2^22 samples stays below 2^62.
LARGEST_MEAN = 2.0**40
_ONE = 2.0**32
_ZERO = np.float32(0)


@dataclass(frozen=True, slots=True, eq=False)
class ChannelStatistics:
    """Statistics per channel.

    The sum over samples of each sample's channel mean is the exact integer
    ``mean_whole * 2^32 + mean_fraction`` in units of 2^-32 (see :func:`observe`); sums stay exact
    for 2^22 samples.

    Attributes:
        minimum: float32, (C,).
        maximum: float32, (C,).
        mean_whole: int64, (C,).
        mean_fraction: uint32, (C,).
    """

    minimum: Float32Array
    maximum: Float32Array
    mean_whole: Int64Array
    mean_fraction: npt.NDArray[np.uint32]

    def __post_init__(self) -> None:
        found = [(a.dtype.name, a.shape) for a in self._arrays()]
        shape = (self.minimum.size,)
        wanted = [(name, shape) for name in ("float32", "float32", "int64", "uint32")]
        if found != wanted:
            raise ShapeMismatchError(f"channel statistics are {found}, expected {wanted}")
        if not np.isfinite(self.minimum).all() or not np.isfinite(self.maximum).all():
            raise NonFiniteRangeError("a channel's minimum or maximum is not finite")

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.minimum.size

    def merge(self, other: "ChannelStatistics") -> "ChannelStatistics | None":
        """The statistics of both; None where they differ in the number of channels."""
        if self.channels != other.channels:
            return None
        fraction = self.mean_fraction.astype(np.int64) + other.mean_fraction
        return ChannelStatistics(
            np.minimum(self.minimum, other.minimum),
            np.maximum(self.maximum, other.maximum),
            self.mean_whole + other.mean_whole + (fraction >> 32),
            fraction.astype(np.uint32),  # keeps the lower 32 bits
        )

    def means(self, sample_count: int) -> Float64Array:
        """Mean over samples of each channel's mean, float64, (C,)."""
        return (self.mean_whole + self.mean_fraction / _ONE) / sample_count

    def _arrays(self) -> tuple[Array, ...]:
        return self.minimum, self.maximum, self.mean_whole, self.mean_fraction


@dataclass(frozen=True, slots=True, eq=False)
class TensorStatistics:
    """Statistics of all values of one tensor over some samples.

    Attributes:
        minimum: Smallest value, exact (a float32); a zero is +0.0.
        maximum: Largest value, likewise.
        sample_count: Samples in which the tensor was not empty.
        count: Number of values, exact.
        histogram: Their counts: exact, or those of :mod:`quantkit.calibration.counting`, whose
            total only comes near ``count``.
        channels: Per channel; None where the tensor has no channel axis, or samples differed in
            their number of channels.
    """

    minimum: float
    maximum: float
    sample_count: int
    count: int
    histogram: LogHistogram
    channels: ChannelStatistics | None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.minimum) and np.isfinite(self.maximum)):
            raise NonFiniteRangeError(f"the range is [{self.minimum}, {self.maximum}]")
        whole = self.sample_count >= 1 and self.count >= 1 and self.histogram.bucket.size >= 1
        if self.minimum > self.maximum or not whole:
            raise ShapeMismatchError(
                f"statistics of {self.sample_count} samples and {self.count} values with the range "
                f"[{self.minimum}, {self.maximum}] contradict themselves"
            )

    def merge(self, other: "TensorStatistics") -> "TensorStatistics":
        """The statistics of both together: associative and commutative, bit for bit."""
        channels = None
        if self.channels is not None and other.channels is not None:
            channels = self.channels.merge(other.channels)
        return TensorStatistics(
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
            self.sample_count + other.sample_count,
            self.count + other.count,
            self.histogram.merge(other.histogram),
            channels,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """One tensor in one sample, before its counts are sorted into a histogram.

    Attributes:
        minimum: Smallest value.
        maximum: Largest value.
        count: Number of values.
        runs: Their counts.
        channels: Minimum, maximum, and the whole and the fraction of the mean per channel, as in
            :class:`ChannelStatistics`, all of shape (C,); empty where there are no channels.
    """

    minimum: float
    maximum: float
    count: int
    runs: Runs
    channels: tuple[Array, ...]


class RunningStatistics:
    """Statistics that grow in place; one writer at a time."""

    def __init__(self) -> None:
        self._minimum = np.inf
        self._maximum = -np.inf
        self._count = 0
        self._sample_count = 0
        self._counts = np.zeros(BUCKETS, np.int64)
        self._channels: tuple[Array, ...] = ()

    def add(self, found: Observation) -> None:
        """Join one more sample."""
        if not self._sample_count:
            self._channels = found.channels
        elif [a.shape for a in self._channels] == [a.shape for a in found.channels]:
            self._join_channels(*found.channels)
        else:
            self._channels = ()
        self._minimum = min(self._minimum, found.minimum)
        self._maximum = max(self._maximum, found.maximum)
        self._count += found.count
        self._sample_count += 1
        for first, counts in found.runs:
            self._counts[first : first + counts.size] += counts

    def _join_channels(self, *found: Array) -> None:
        if found:
            low, high, whole, fraction = self._channels
            self._channels = (
                np.minimum(low, found[0]),
                np.maximum(high, found[1]),
                whole + found[2],
                fraction + found[3],  # up to 2^22 samples of 32 bits
            )

    @property
    def is_empty(self) -> bool:
        """Whether nothing was added yet."""
        return self._sample_count == 0

    def result(self) -> TensorStatistics:
        """What was added so far; at least one sample."""
        channels = None
        if self._channels:
            low, high, whole, fraction = self._channels
            channels = ChannelStatistics(
                low, high, whole + (fraction >> 32), fraction.astype(np.uint32)
            )
        return TensorStatistics(
            self._minimum,
            self._maximum,
            self._sample_count,
            self._count,
            from_dense(self._counts),
            channels,
        )


def statistics_of_sample(array: Array, *, exact: bool = True) -> TensorStatistics:
    """Statistics of one tensor in one sample; see :func:`observe`."""
    running = RunningStatistics()
    running.add(observe(array, exact=exact))
    return running.result()


def observe(
    array: Array, *, exact: bool, channels: tuple[Array, Array, Array] | None = None
) -> Observation:
    """Look at one tensor in one sample.

    A channel's mean is taken in float32, clamped to ±2^40 and rounded to a multiple of 2^-32, half
    to even.

    Args:
        array: Any floating dtype, not empty, with its batch axis. Channels are axis 1 from rank 3
            on, the last axis for rank 2, and unknown below.
        exact: Whether all values are counted, or a sample and the far tails.
        channels: Minimum, maximum and mean over all axes but the first two, float32, of shape
            (first axis, C) but for axes of length 1, where they are known already.

    Raises:
        NonFiniteRangeError: NaN or infinity (or a value beyond float32).
    """
    x = _as_float32(array)
    if channels is not None and np.isfinite(channels[2]).all():
        low, high = channels[0].min(axis=0), channels[1].max(axis=0)
        mean = channels[2].reshape(channels[0].shape).mean(axis=0, dtype=np.float64)
    else:  # a mean that is not finite may be that of NaN, which comparisons pass over
        rows = _rows_per_channel(x) if x.ndim >= 2 else x.reshape(1, -1)
        low, high, mean = rows.min(axis=1), rows.max(axis=1), _means(rows)
    # Adding 0 turns -0.0 into 0.0; which of the two a minimum finds depends on the order.
    low, high = low + _ZERO, high + _ZERO
    minimum, maximum = float(np.minimum.reduce(low)), float(np.maximum.reduce(high))
    if not (isfinite(minimum) and isfinite(maximum)):
        raise NonFiniteRangeError("it holds NaN" if np.isnan(x).any() else "it holds infinity")
    runs = count_all(x) if exact else count_sample_and_tails(x, minimum, maximum)
    known = (low, high, *_fixed_point(mean)) if x.ndim >= 2 else ()
    return Observation(minimum, maximum, x.size, runs, known)


def _as_float32(array: Array) -> Float32Array:
    if array.dtype == np.float32:
        return np.ascontiguousarray(array)
    with np.errstate(over="ignore"):  # an infinity is refused
        return np.ascontiguousarray(array, np.float32)


def _rows_per_channel(x: Float32Array) -> Float32Array:
    """(C, everything else), contiguous; no copy where the batch is 1 and channels come first."""
    first = x.swapaxes(0, 1)
    return np.ascontiguousarray(first).reshape(first.shape[0], -1)


def _means(rows: Float32Array) -> Float64Array:
    sums: Float64Array = np.einsum("ij->i", rows).astype(np.float64)  # never warns
    if not np.isfinite(sums).all():  # beyond float32
        sums = rows.sum(axis=1, dtype=np.float64)
    return np.divide(sums, rows.shape[1])


def _fixed_point(mean: Float64Array) -> tuple[Int64Array, Int64Array]:
    """``rint(mean * 2^32)`` as whole and fraction words; one rounding, the rest is exact."""
    scaled = np.rint(np.maximum(np.minimum(mean, LARGEST_MEAN), -LARGEST_MEAN) * _ONE)
    whole = np.floor(scaled / _ONE)
    return whole.astype(np.int64), (scaled - whole * _ONE).astype(np.int64)
