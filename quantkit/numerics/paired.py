"""Two classifiers on the same samples: intervals and tests for the difference of their accuracies.

Float and int8 network see the *same* pictures, and agree on most of them; treating their accuracies
as independent would make every interval far too wide.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from quantkit.errors import ConfigError, EmptyDatasetError, ShapeMismatchError
from quantkit.numerics.metrics import BoolArray


@dataclass(frozen=True, slots=True)
class PairedCounts:
    """How often two classifiers were right on the same samples.

    Attributes:
        both: Both right.
        first_only: Only the first right.
        second_only: Only the second right.
        neither: Both wrong.
    """

    both: int
    first_only: int
    second_only: int
    neither: int

    def __post_init__(self) -> None:
        if min(self.both, self.first_only, self.second_only, self.neither) < 0:
            raise ConfigError(f"counts cannot be negative: {self}")
        if self.total == 0:
            raise EmptyDatasetError("a paired comparison needs at least one sample")

    @classmethod
    def of(cls, first: BoolArray, second: BoolArray) -> "PairedCounts":
        """Count from booleans per sample, as :func:`top_k_correct` gives them.

        Raises:
            ShapeMismatchError: The shapes differ.
            EmptyDatasetError: There are no samples.
        """
        first, second = np.asarray(first, np.bool_), np.asarray(second, np.bool_)
        if first.shape != second.shape:
            raise ShapeMismatchError(f"shapes {first.shape} and {second.shape} are no pairs")
        return cls(
            both=int(np.sum(first & second)),
            first_only=int(np.sum(first & ~second)),
            second_only=int(np.sum(~first & second)),
            neither=int(np.sum(~first & ~second)),
        )

    @property
    def total(self) -> int:
        """Number of samples."""
        return self.both + self.first_only + self.second_only + self.neither

    @property
    def difference(self) -> float:
        """Share of the first minus share of the second, in [-1, 1]."""
        return (self.first_only - self.second_only) / self.total


def wilson_interval(successes: int, total: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for p = successes / total, without continuity correction.

    ``(2 n p + z**2 -/+ z sqrt(z**2 + 4 n p (1 - p))) / (2 (n + z**2))``, z the normal quantile
    (Wilson 1927; Newcombe 1998, Statistics in Medicine 17:857-872, method 3).

    Raises:
        ConfigError: ``confidence`` is not within (0, 1), or the counts are impossible.
    """
    if not 0.0 < confidence < 1.0:
        raise ConfigError(f"a confidence lies between 0 and 1, got {confidence}")
    if not 0 <= successes <= total or total < 1:
        raise ConfigError(f"{successes} of {total} is no proportion")
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    p = successes / total
    centre = 2.0 * successes + z * z
    spread = z * math.sqrt(z * z + 4.0 * successes * (1.0 - p))
    denominator = 2.0 * (total + z * z)
    # The ends are exactly 0 and 1 at 0 and n successes; rounding would miss them.
    low = 0.0 if successes == 0 else (centre - spread) / denominator
    high = 1.0 if successes == total else (centre + spread) / denominator
    return low, high


def paired_difference_interval(
    counts: PairedCounts, *, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval for the difference of two paired proportions, first minus second.

    With a, b, c, d = both, first_only, second_only, neither; p1 = (a+b)/n, p2 = (a+c)/n; Wilson
    intervals (l1, u1), (l2, u2); and the correlation

    ``phi = (ad - bc) / sqrt((a+b)(c+d)(a+c)(b+d))``, 0 where a margin is 0

    the interval is from ``p1 - p2 - sqrt((p1-l1)**2 - 2 phi (p1-l1)(u2-p2) + (u2-p2)**2)``
    to ``p1 - p2 + sqrt((u1-p1)**2 - 2 phi (u1-p1)(p2-l2) + (p2-l2)**2)``
    (Newcombe 1998, Improved confidence intervals for the difference between binomial proportions
    based on paired data, Statistics in Medicine 17:2635-2650, method 8: score intervals, squared
    and added). His method 10 corrects phi for continuity; where only a few samples differ, as
    between a network and its int8 version, it is too wide: in draws of 650 samples with 0.5 % and
    0.2 % discordant ones it held the truth 98.6 % of the time, this one 95.9 %.

    Args:
        counts: Outcomes on the same samples.
        confidence: Coverage, 0.95 for 95 %.

    Returns:
        Lower and upper end, as shares within [-1, 1] (times 100: percentage points).

    Raises:
        ConfigError: ``confidence`` is not within (0, 1).
    """
    a, b, c, d = counts.both, counts.first_only, counts.second_only, counts.neither
    n = counts.total
    p1, p2 = (a + b) / n, (a + c) / n
    l1, u1 = wilson_interval(a + b, n, confidence=confidence)
    l2, u2 = wilson_interval(a + c, n, confidence=confidence)
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    phi = (a * d - b * c) / math.sqrt(margins) if margins else 0.0
    below = _correlated_distance(p1 - l1, u2 - p2, phi)
    above = _correlated_distance(u1 - p1, p2 - l2, phi)
    return max(counts.difference - below, -1.0), min(counts.difference + above, 1.0)


def mcnemar_p_value(counts: PairedCounts) -> float:
    """Two-sided exact p-value of "both are right equally often" (McNemar 1947).

    With m = first_only + second_only and k the smaller of both:
    ``min(1, 2 sum_{i=0..k} C(m, i) / 2**m)``, summed in integers, rounded once.
    """
    m = counts.first_only + counts.second_only
    k = min(counts.first_only, counts.second_only)
    term = tail = 1
    for i in range(k):
        term = term * (m - i) // (i + 1)
        tail += term
    return min(1.0, 2 * tail / (1 << m))


def chance_of_at_least(successes: int, total: int, probability: float) -> float:
    """``P(X >= successes)`` of a binomial X, exact but for float64 rounding."""
    return math.fsum(
        math.exp(
            math.lgamma(total + 1)
            - math.lgamma(k + 1)
            - math.lgamma(total - k + 1)
            + k * math.log(probability)
            + (total - k) * math.log1p(-probability)
        )
        for k in range(successes, total + 1)
    )


def _correlated_distance(x: float, y: float, phi: float) -> float:
    return math.sqrt(max(x * x - 2.0 * phi * x * y + y * y, 0.0))
