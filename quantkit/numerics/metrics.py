"""How far two results are apart: SQNR, cosine similarity, top-k, agreement.

Every function refuses NaN and infinity instead of hiding them: a broken network must not get a
score. What a difference of two accuracies is worth is said by ``paired``.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quantkit.errors import ConfigError, EmptyDatasetError, NonFiniteRangeError, ShapeMismatchError

NumberArray = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SqnrSums:
    """The two sums of an SQNR, so that it can be taken over data that arrive in batches.

    Attributes:
        signal: ``sum(reference**2)``, float64.
        noise: ``sum((reference - actual)**2)``, float64.
    """

    signal: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.signal) and math.isfinite(self.noise)):
            raise NonFiniteRangeError(
                "values too large: the sum of their squares overflows float64"
            )

    @classmethod
    def of(cls, reference: NumberArray, actual: NumberArray) -> "SqnrSums":
        """The sums of one batch (NumPy's pairwise summation in float64).

        Raises:
            ShapeMismatchError: The shapes differ.
            NonFiniteRangeError: NaN or infinity in either array.
        """
        x, y = _finite_pair(reference, actual)
        error = x - y
        return cls(_sum_of_squares(x), _sum_of_squares(error))

    def __add__(self, other: "SqnrSums") -> "SqnrSums":
        return SqnrSums(self.signal + other.signal, self.noise + other.noise)

    @property
    def db(self) -> float:
        """``10 log10(signal / noise)``; inf without noise, -inf for noise on an all-zero signal."""
        if self.noise == 0.0:
            return math.inf
        if self.signal == 0.0:
            return -math.inf
        # Not the log of the quotient, which may overflow.
        return 10.0 * (math.log10(self.signal) - math.log10(self.noise))


def sqnr_db(reference: NumberArray, actual: NumberArray) -> float:
    """Signal to quantization noise ratio in dB, in float64.

    ``10 log10( sum(reference**2) / sum((reference - actual)**2) )``

    Args:
        reference: What it should be, any shape.
        actual: What it is, the same shape.

    Returns:
        inf where both are equal (also all zero); -inf where the reference is all zero and the
        actual values are not.

    Raises:
        ShapeMismatchError: The shapes differ.
        NonFiniteRangeError: NaN or infinity in either array.
    """
    return SqnrSums.of(reference, actual).db


def cosine_similarity(a: NumberArray, b: NumberArray) -> float:
    """``<a, b> / (|a| |b|)`` over all elements, in [-1, 1], in float64.

    Two all-zero arrays have similarity 1, an all-zero and another one 0.

    Raises:
        ShapeMismatchError: The shapes differ.
        NonFiniteRangeError: NaN or infinity in either array.
    """
    x, y = (_scaled_to_one(array) for array in _finite_pair(a, b))
    norm_x, norm_y = math.sqrt(_sum_of_squares(x)), math.sqrt(_sum_of_squares(y))
    if norm_x == 0.0 or norm_y == 0.0:
        return 1.0 if norm_x == norm_y else 0.0
    return min(max(float(np.sum(x * y)) / (norm_x * norm_y), -1.0), 1.0)


def top_k_correct(scores: NumberArray, labels: npt.NDArray[np.integer], k: int) -> BoolArray:
    """Whether each label is among the k best scores.

    Equal scores rank by class number, lowest first, so k = 1 is ``argmax(scores) == label``.

    Args:
        scores: (N, classes).
        labels: (N,), each in [0, classes).
        k: How many classes count, at least 1.

    Returns:
        (N,) booleans; their mean is the accuracy.

    Raises:
        ShapeMismatchError: The shapes do not fit, or a label is no class.
        NonFiniteRangeError: NaN or infinity in the scores.
        ConfigError: ``k`` is below 1.
    """
    if k < 1:
        raise ConfigError(f"top-k needs k >= 1, got {k}")
    scores = _scores(scores)
    if labels.shape != scores.shape[:1]:
        raise ShapeMismatchError(f"labels of shape {labels.shape} for scores {scores.shape}")
    outside = (labels < 0) | (labels >= scores.shape[1])
    if outside.any():
        raise ShapeMismatchError(
            f"label {labels[outside][0]} is no class of scores with {scores.shape[1]} classes"
        )
    own = np.take_along_axis(scores, labels[:, None].astype(np.intp), axis=1)
    lower_class = np.arange(scores.shape[1])[None, :] < labels[:, None]
    better = (scores > own) | ((scores == own) & lower_class)
    correct: BoolArray = better.sum(axis=1) < k
    return correct


def same_class(a: NumberArray, b: NumberArray) -> BoolArray:
    """Whether both score the same class highest, per sample; equal scores: the lowest class.

    Args:
        a: Scores (N, classes).
        b: Scores, shaped like ``a``.

    Returns:
        (N,) booleans.

    Raises:
        ShapeMismatchError: The shapes differ, or are not (N, classes).
        NonFiniteRangeError: NaN or infinity in either.
    """
    a, b = _scores(a), _scores(b)
    if a.shape != b.shape:
        raise ShapeMismatchError(f"scores of shapes {a.shape} and {b.shape} cannot be compared")
    same: BoolArray = a.argmax(axis=1) == b.argmax(axis=1)
    return same


def agreement(a: NumberArray, b: NumberArray) -> float:
    """Share of samples, in [0, 1], for which both score the same class highest.

    Raises:
        EmptyDatasetError: There are no samples.
        ShapeMismatchError, NonFiniteRangeError: As :func:`same_class`.
    """
    same = same_class(a, b)
    if same.size == 0:
        raise EmptyDatasetError("the agreement of no samples is not defined")
    return float(same.mean())


def _finite_pair(
    a: NumberArray, b: NumberArray
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if a.shape != b.shape:
        raise ShapeMismatchError(f"shapes {a.shape} and {b.shape} cannot be compared")
    return _finite(a), _finite(b)


def _finite(array: NumberArray) -> npt.NDArray[np.float64]:
    values = np.asarray(array, np.float64)
    if not np.isfinite(values).all():
        bad = "NaN" if np.isnan(values).any() else "infinity"
        raise NonFiniteRangeError(
            f"values of shape {values.shape} hold {bad}; no metric is defined"
        )
    return values


def _scores(scores: NumberArray) -> npt.NDArray[np.float64]:
    if scores.ndim != 2 or scores.shape[1] == 0:
        raise ShapeMismatchError(f"scores must be (samples, classes), got {scores.shape}")
    return _finite(scores)


def _sum_of_squares(x: npt.NDArray[np.float64]) -> float:
    with np.errstate(over="ignore"):
        return float(np.sum(np.square(x)))


def _scaled_to_one(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """``x`` divided by its largest magnitude, so that squares neither overflow nor vanish."""
    peak = np.max(np.abs(x), initial=0.0)
    return x / peak if peak > 0 else x
