"""What calibration knows of one tensor, and how two halves of it become one, exactly.

Everything is computed per sample and then joined by minimum, maximum and integer addition, so the
result does not depend on how samples were batched, ordered or divided among workers.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantkit.calibration.histogram import (
    BUCKETS,
    Float32Array,
    Float64Array,
    Int64Array,
    LogHistogram,
    count_values,
    from_dense,
)
from quantkit.errors import NonFiniteRangeError, ShapeMismatchError
from quantkit.graph.program import Array

# Per-sample means are multiples of 2^-32 of at most this magnitude (larger ones are clamped), so
# that the sum over 2^22 samples stays below 2^62.
LARGEST_MEAN = 2.0**40
_ONE = 2.0**32


@dataclass(frozen=True, slots=True, eq=False)
class ChannelStatistics:
    """Statistics per channel.

    The sum over samples of each sample's channel mean is the exact integer
    ``mean_whole * 2^32 + mean_fraction`` in units of 2^-32. A sample's mean is taken in float64,
    clamped to ±2^40 and rounded once, half to even; sums stay exact for 2^22 samples.

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
        histogram: Every value, counted.
        channels: Per channel; None where the tensor has no channel axis, or samples differed in
            their number of channels.
    """

    minimum: float
    maximum: float
    sample_count: int
    histogram: LogHistogram
    channels: ChannelStatistics | None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.minimum) and np.isfinite(self.maximum)):
            raise NonFiniteRangeError(f"the range is [{self.minimum}, {self.maximum}]")
        if self.minimum > self.maximum or self.sample_count < 1 or not self.histogram.bucket.size:
            raise ShapeMismatchError(
                f"statistics of {self.sample_count} samples and {self.count} values with the range "
                f"[{self.minimum}, {self.maximum}] contradict themselves"
            )

    @property
    def count(self) -> int:
        """Number of values."""
        return self.histogram.total

    def merge(self, other: "TensorStatistics") -> "TensorStatistics":
        """The statistics of both together: associative and commutative, bit for bit."""
        running = RunningStatistics()
        running.add(self)
        running.add(other)
        return running.result()


class RunningStatistics:
    """Statistics that grow in place; one writer at a time."""

    def __init__(self) -> None:
        self._counts = np.zeros(BUCKETS, np.int64)
        self._minimum = np.inf
        self._maximum = -np.inf
        self._sample_count = 0
        self._channels: ChannelStatistics | None = None

    def add(self, part: TensorStatistics) -> None:
        """Join the statistics of further samples."""
        if self._sample_count == 0:
            self._channels = part.channels
        elif self._channels is not None:
            merged = None if part.channels is None else self._channels.merge(part.channels)
            self._channels = merged
        self._counts[part.histogram.bucket] += part.histogram.count
        self._minimum = min(self._minimum, part.minimum)
        self._maximum = max(self._maximum, part.maximum)
        self._sample_count += part.sample_count

    @property
    def is_empty(self) -> bool:
        """Whether nothing was added yet."""
        return self._sample_count == 0

    def result(self) -> TensorStatistics:
        """What was added so far; at least one part."""
        histogram = from_dense(self._counts)
        return TensorStatistics(
            self._minimum, self._maximum, self._sample_count, histogram, self._channels
        )


def statistics_of_sample(array: Array) -> TensorStatistics:
    """Statistics of one tensor in one sample.

    Args:
        array: Any floating dtype, not empty, with its batch axis. Channels are axis 1 from rank 3
            on, the last axis for rank 2, and unknown below.

    Raises:
        NonFiniteRangeError: NaN or infinity (or a value beyond float32).
    """
    with np.errstate(over="ignore"):  # an infinity is refused below
        x = np.ascontiguousarray(array, np.float32)
    channels = None
    if x.ndim < 2:
        minimum, maximum = x.min() + np.float32(0), x.max() + np.float32(0)
    else:
        rows = _rows_per_channel(x)
        # Adding 0 turns -0.0 into 0.0; which of the two a minimum finds depends on the order.
        low, high = rows.min(axis=1) + np.float32(0), rows.max(axis=1) + np.float32(0)
        minimum, maximum = low.min(), high.max()
    if not (np.isfinite(minimum) and np.isfinite(maximum)):
        raise NonFiniteRangeError("it holds NaN" if np.isnan(x).any() else "it holds infinity")
    if x.ndim >= 2:
        channels = ChannelStatistics(low, high, *_fixed_point(rows.mean(axis=1, dtype=np.float64)))
    return TensorStatistics(float(minimum), float(maximum), 1, count_values(x), channels)


def _rows_per_channel(x: Float32Array) -> Float32Array:
    """(C, everything else), contiguous; no copy where the batch is 1 and channels come first."""
    axis = 1 if x.ndim >= 3 else -1
    first = np.moveaxis(x, axis, 0)
    return np.ascontiguousarray(first).reshape(first.shape[0], -1)


def _fixed_point(mean: Float64Array) -> tuple[Int64Array, npt.NDArray[np.uint32]]:
    """``rint(mean * 2^32)`` as whole and fraction words; one rounding, the rest is exact."""
    scaled = np.rint(np.clip(mean, -LARGEST_MEAN, LARGEST_MEAN) * _ONE)
    whole = np.floor(scaled / _ONE)
    return whole.astype(np.int64), (scaled - whole * _ONE).astype(np.uint32)
