"""Counting the values of one sample's tensor: all of them, or the far tails and a sample.

Ranges are decided in the tails, and counting the rest is most of the work. So tensors of up to
:data:`CAP` values are counted whole; of a larger one every ``stride``-th value is, each for
``stride`` values, and then the far tails anew, from all values: on either side of 0 the outermost
buckets that together hold at most 1/256 of the sampled values. What is counted depends on the
tensor's values alone.

The stride has no common divisor with the number of values, hence none with the length of a row or
of a channel: the sampled values walk through all columns, rows and channels alike. (A stride of 16
over rows of 112 would see the same seven columns in every row.)

Counts come in runs ``(first bucket, counts)`` of consecutive buckets, so that nobody adds up the
tens of thousands of buckets that no value of the tensor can be in.
"""

from functools import lru_cache
from math import gcd

import numpy as np

from quantkit.calibration.histogram import (
    SIGN,
    Float32Array,
    Int64Array,
    bucket_counts,
    buckets_of,
)

CAP = 1 << 16
_TAIL_SHARE = 1 << 8
_NEAR = 1 << 9  # buckets from the largest value down: nearly always enough to find the tail

Runs = tuple[tuple[int, Int64Array], ...]


def count_all(x: Float32Array) -> Runs:
    """Every value counted.

    Args:
        x: float32, C-contiguous, finite, any shape.
    """
    return _halves(bucket_counts(buckets_of(x)))


def count_sample_and_tails(x: Float32Array, minimum: float, maximum: float) -> Runs:
    """The far tails counted, the rest estimated from every ``stride``-th value.

    Args:
        x: float32, C-contiguous, finite, any shape.
        minimum: Of ``x``.
        maximum: Of ``x``.

    Returns:
        Up to :data:`CAP` values: as :func:`count_all`. Beyond: the sum of all counts is about, not
        exactly, the number of values.
    """
    stride = sampling_stride(x.size)
    if stride == 1:
        return count_all(x)
    values = x.reshape(-1)
    positive, negative = _halves(bucket_counts(buckets_of(x)[::stride]))
    few = -(-x.size // stride) // _TAIL_SHARE
    runs = []
    for first, counts in (positive, negative) if negative[1].size or minimum < 0 else (positive,):
        start = first + _tail_start(counts, few)
        runs.append((first, counts[: start - first] * stride))
        edge = _inner_edge(start)
        beyond = maximum >= edge if first == 0 else minimum <= edge
        if beyond:
            where = np.flatnonzero(values >= edge if first == 0 else values <= edge)
            tail = buckets_of(values.take(where))
            runs.append((start, bucket_counts(tail - np.uint16(start))))
    return tuple(runs)


def _halves(counts: Int64Array) -> Runs:
    """The runs of positive and of negative values, without the empty buckets after them."""
    positive, negative = counts[:SIGN], counts[SIGN:]
    if negative.size:  # the positive ones are followed by all buckets up to the sign
        positive = positive[: 1 + int(np.flatnonzero(positive != 0)[-1:].sum())]
    return (0, positive), (SIGN, negative)


@lru_cache
def sampling_stride(size: int) -> int:
    """The smallest stride that leaves at most :data:`CAP` of ``size`` values, coprime to it."""
    stride = max(1, -(-size // CAP))
    while gcd(stride, size) != 1:
        stride += 1
    return stride


def _tail_start(counts: Int64Array, few: int) -> int:
    """The lowest bucket from which on there are at most ``few``; never the one around 0."""
    for looked_at in (_NEAR, counts.size):
        beyond = counts[::-1][:looked_at].cumsum()
        if beyond.size and beyond[-1] > few:
            break
    return max(1, counts.size - int(beyond.searchsorted(few, "right")))


def _inner_edge(bucket: int) -> np.float32:
    """The value of a bucket that is nearest to 0."""
    return np.float32(np.array(bucket << 16, np.uint32).view(np.float32))
