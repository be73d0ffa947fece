"""Counts in 65,536 fixed log-spaced buckets.

    bucket(x) = upper 16 bits of float32 x = sign, exponent and the first 7 bits of the mantissa

which is x truncated to bfloat16. Buckets are at most 2^-7 wide relative to their values and the
same for every tensor and every part of the data, so no range must be known beforehand and merging
is integer addition.

Bucket 0 counts all magnitudes below 2^-133, both zeros included: (-2^-133, 2^-133); bucket 0x8000
(its mirror) is never used. Bucket b in 1..0x7F7F is [low, high); b in 0x8001..0xFF7F is its mirror
(-high, -low]. The others are infinities and NaN, which have no place here.
"""

import sys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantkit.errors import NonFiniteRangeError, ShapeMismatchError

BUCKETS = 1 << 16
SIGN = 0x8000
_FIRST_NON_FINITE = 0x7F80
# Values counted at a time: the widened indices (8 bytes each) stay in the L2 cache.
_CHUNK = 1 << 17
_UPPER_HALF = 1 if sys.byteorder == "little" else 0

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
BucketArray = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True, eq=False)
class LogHistogram:
    """The buckets that are not empty.

    Attributes:
        bucket: uint16, (B,), strictly increasing bucket numbers.
        count: int64, (B,), all > 0.
    """

    bucket: BucketArray
    count: Int64Array

    def __post_init__(self) -> None:
        if self.bucket.dtype != np.uint16 or self.count.dtype != np.int64:
            raise ShapeMismatchError(
                f"buckets must be uint16 and counts int64, got {self.bucket.dtype} and "
                f"{self.count.dtype}"
            )
        if self.bucket.ndim != 1 or self.bucket.shape != self.count.shape:
            raise ShapeMismatchError(
                f"buckets {self.bucket.shape} and counts {self.count.shape} differ in shape"
            )
        if not (self.bucket[1:] > self.bucket[:-1]).all() or not (self.count > 0).all():
            raise ShapeMismatchError("bucket numbers must increase strictly, counts be above 0")
        if ((self.bucket & ~np.uint16(SIGN)) >= _FIRST_NON_FINITE).any():
            raise NonFiniteRangeError("a histogram cannot count NaN or infinity")

    @property
    def total(self) -> int:
        """Number of values counted."""
        return int(self.count.sum())

    def merge(self, other: "LogHistogram") -> "LogHistogram":
        """The counts of both."""
        counts = np.zeros(BUCKETS, np.int64)
        counts[self.bucket] += self.count
        counts[other.bucket] += other.count
        return from_dense(counts)


def from_dense(counts: Int64Array) -> LogHistogram:
    """The histogram of a count per bucket, int64, at most 65,536 of them."""
    bucket = np.flatnonzero(counts != 0)  # several times faster than on integers
    return LogHistogram(bucket.astype(np.uint16), counts[bucket])


def buckets_of(x: Float32Array) -> BucketArray:
    """The bucket number of every value, a view; -0.0 and its neighbours have 0x8000 here.

    Args:
        x: float32, C-contiguous, any shape.

    Returns:
        uint16, (x.size,), not contiguous.
    """
    return x.reshape(-1).view(np.uint16)[_UPPER_HALF::2]


def bucket_counts(buckets: BucketArray) -> Int64Array:
    """How often each bucket occurs.

    Args:
        buckets: Of :func:`buckets_of`, or some of them.

    Returns:
        int64, by bucket number, up to the highest in use; bucket 0x8000 is counted as 0.
    """
    if buckets.size <= _CHUNK:
        counts = np.bincount(buckets)
    else:
        counts = np.zeros(BUCKETS, np.int64)
        widened, used = np.empty(_CHUNK, np.intp), 0
        for start in range(0, buckets.size, _CHUNK):
            part = buckets[start : start + _CHUNK]
            indices = widened[: part.size]
            indices[...] = part
            found = np.bincount(indices)
            counts[: found.size] += found
            used = max(used, found.size)
        counts = counts[:used]
    if counts.size > SIGN:
        counts[0] += counts[SIGN]
        counts[SIGN] = 0
    return counts


def edges(bucket: BucketArray) -> tuple[Float64Array, Float64Array]:
    """Lower and upper end of each bucket, exact in float64; see the module for which is included.

    Args:
        bucket: uint16 numbers of finite buckets, any shape.
    """
    magnitude = (bucket & ~np.uint16(SIGN)).astype(np.uint32)
    near = _value_of(magnitude)
    far = np.where(magnitude + 1 == _FIRST_NON_FINITE, 2.0**128, _value_of(magnitude + 1))
    negative = bucket >= SIGN
    low = np.where(negative, -far, near)
    high = np.where(negative, -near, far)
    return np.where(bucket == 0, -far, low), high


def representatives(bucket: BucketArray) -> Float64Array:
    """The middle of each bucket, float64: within 2^-8 of any value in it; 0 for bucket 0."""
    low, high = edges(bucket)
    return (low + high) / 2


def _value_of(upper: npt.NDArray[np.uint32]) -> Float64Array:
    """The float32 with these upper 16 bits and zeros below, as float64."""
    return (upper << np.uint32(16)).view(np.float32).astype(np.float64)
