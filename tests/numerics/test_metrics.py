"""Metrics against definitions computed the slow way, in Python's exact fractions."""

import math
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from quantkit.errors import ConfigError, EmptyDatasetError, NonFiniteRangeError, ShapeMismatchError
from quantkit.numerics.metrics import (
    SqnrSums,
    agreement,
    cosine_similarity,
    same_class,
    sqnr_db,
    top_k_correct,
)

Float32Array = npt.NDArray[np.float32]

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
PAIRS = hnp.array_shapes(max_dims=3, max_side=6).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.float32, shape, elements=FINITE),
        hnp.arrays(np.float32, shape, elements=FINITE),
    )
)
# Few distinct values, so that ties are common.
SCORES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 8), st.integers(1, 7)),
    elements=st.sampled_from([-2.0, 0.0, 0.5, 3.0]),
)


def exact_log10(ratio: Fraction) -> float:
    return math.log10(ratio.numerator) - math.log10(ratio.denominator)


def test_sqnr_by_hand() -> None:
    # Signal 9 + 16 = 25, noise 0.25: 10 log10(100) = 20 dB.
    assert sqnr_db(np.array([3.0, 4.0]), np.array([3.5, 4.0])) == pytest.approx(20.0, abs=1e-12)
    assert sqnr_db(np.array([1.0, 0.0]), np.array([0.0, 0.0])) == 0.0


def test_sqnr_where_a_sum_is_zero() -> None:
    zero, one = np.zeros(3), np.ones(3)
    assert sqnr_db(one, one) == math.inf
    assert sqnr_db(zero, zero) == math.inf
    assert sqnr_db(zero, one) == -math.inf
    assert sqnr_db(np.zeros((0, 3)), np.zeros((0, 3))) == math.inf


@given(PAIRS)
def test_sqnr_equals_exact_fractions(pair: tuple[Float32Array, Float32Array]) -> None:
    x, y = pair
    signal = sum((Fraction(float(v)) ** 2 for v in x.flat), Fraction())
    noise = sum(
        (
            (Fraction(float(v)) - Fraction(float(w))) ** 2
            for v, w in zip(x.flat, y.flat, strict=True)
        ),
        Fraction(),
    )
    measured = sqnr_db(x, y)
    if noise == 0:
        assert measured == math.inf
    elif signal == 0:
        assert measured == -math.inf
    else:
        assert measured == pytest.approx(10 * exact_log10(signal / noise), abs=1e-9)


@given(PAIRS, st.integers(0, 6))
def test_sqnr_of_batches_is_sqnr_of_all(pair: tuple[Float32Array, Float32Array], cut: int) -> None:
    x, y = pair
    merged = SqnrSums.of(x[:cut], y[:cut]) + SqnrSums.of(x[cut:], y[cut:])
    swapped = SqnrSums.of(x[cut:], y[cut:]) + SqnrSums.of(x[:cut], y[:cut])
    assert merged == swapped
    assert merged.db == pytest.approx(sqnr_db(x, y), abs=1e-9)
    assert SqnrSums() + merged == merged


def test_integers_do_not_wrap_around() -> None:
    # In uint8, 0 - 255 would be 1.
    assert sqnr_db(np.array([255], np.uint8), np.array([0], np.uint8)) == 0.0
    assert sqnr_db(np.array([0, 255], np.uint8), np.array([255, 255], np.uint8)) == 0.0


@pytest.mark.parametrize("metric", [sqnr_db, cosine_similarity])
@pytest.mark.parametrize(("bad", "word"), [(np.nan, "NaN"), (np.inf, "infinity")])
def test_non_finite_input_is_refused(metric: object, bad: float, word: str) -> None:
    assert callable(metric)
    good, damaged = np.ones((2, 3)), np.full((2, 3), bad)
    for pair in ((good, damaged), (damaged, good), (damaged, damaged)):
        with pytest.raises(NonFiniteRangeError, match=rf"\(2, 3\) hold {word}"):
            metric(*pair)


@pytest.mark.parametrize("metric", [sqnr_db, cosine_similarity, agreement])
def test_shapes_are_not_broadcast(metric: object) -> None:
    assert callable(metric)
    with pytest.raises(ShapeMismatchError, match=r"\(4, 3\) and \(1, 3\) cannot be compared"):
        metric(np.ones((4, 3)), np.ones((1, 3)))


def test_sums_that_overflow_are_refused() -> None:
    with pytest.raises(NonFiniteRangeError, match="overflows float64"):
        sqnr_db(np.array([1e200]), np.array([0.0]))


def test_cosine_similarity_by_hand() -> None:
    x = np.array([[3.0, 4.0]])
    assert cosine_similarity(x, 2 * x) == 1.0
    assert cosine_similarity(x, -x) == -1.0
    assert cosine_similarity(x, np.array([[4.0, -3.0]])) == 0.0
    assert cosine_similarity(x, np.array([[1.0, 0.0]])) == pytest.approx(0.6, abs=1e-15)
    assert cosine_similarity(x, np.zeros((1, 2))) == 0.0
    assert cosine_similarity(np.zeros(2), np.zeros(2)) == 1.0
    assert cosine_similarity(np.array([1e-200]), np.array([1e200])) == 1.0


@given(PAIRS)
def test_cosine_similarity_equals_exact_fractions(pair: tuple[Float32Array, Float32Array]) -> None:
    x, y = ([Fraction(float(v)) for v in array.flat] for array in pair)
    product = sum((v * w for v, w in zip(x, y, strict=True)), Fraction())
    squares = sum((v * v for v in x), Fraction()) * sum((w * w for w in y), Fraction())
    measured = cosine_similarity(*pair)
    assert -1.0 <= measured <= 1.0
    assert measured == cosine_similarity(pair[1], pair[0])
    if squares:
        magnitude = math.sqrt(product * product / squares)
        assert measured == pytest.approx(math.copysign(magnitude, product), abs=1e-9)


@given(SCORES, st.integers(1, 8))
def test_top_k_equals_a_stable_sort(scores: Float32Array, k: int) -> None:
    n, classes = scores.shape
    labels = np.arange(n) * 3 % classes
    # sorted() is stable: equal scores stay in the order of their classes.
    rankings = [sorted(range(classes), key=(-row).__getitem__) for row in scores]
    expected = [label in ranking[:k] for label, ranking in zip(labels, rankings, strict=True)]
    np.testing.assert_array_equal(top_k_correct(scores, labels, k), expected)


@given(SCORES)
def test_top_1_is_argmax_and_all_classes_are_always_right(scores: Float32Array) -> None:
    labels = scores.argmax(axis=1)
    assert top_k_correct(scores, labels, 1).all()
    assert top_k_correct(scores, np.zeros_like(labels), scores.shape[1]).all()


def test_top_k_refuses_what_does_not_fit() -> None:
    scores = np.zeros((2, 3))
    with pytest.raises(ConfigError, match="k >= 1, got 0"):
        top_k_correct(scores, np.array([0, 1]), 0)
    with pytest.raises(ShapeMismatchError, match=r"labels of shape \(3,\) for scores \(2, 3\)"):
        top_k_correct(scores, np.array([0, 1, 2]), 1)
    with pytest.raises(ShapeMismatchError, match="label 3 is no class of scores with 3 classes"):
        top_k_correct(scores, np.array([0, 3]), 1)
    with pytest.raises(ShapeMismatchError, match="label -1 is no class"):
        top_k_correct(scores, np.array([-1, 0]), 1)
    with pytest.raises(ShapeMismatchError, match=r"must be \(samples, classes\), got \(6,\)"):
        top_k_correct(np.zeros(6), np.array([0]), 1)
    with pytest.raises(NonFiniteRangeError, match="NaN"):
        top_k_correct(np.full((2, 3), np.nan), np.array([0, 1]), 1)


def test_agreement() -> None:
    a = np.array([[1.0, 2.0], [5.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    b = np.array([[0.0, 9.0], [0.0, 1.0], [2.0, 1.0], [0.0, 2.0]])
    np.testing.assert_array_equal(same_class(a, b), [True, False, True, True])
    assert agreement(a, b) == 0.75
    with pytest.raises(EmptyDatasetError, match="no samples"):
        agreement(np.zeros((0, 3)), np.zeros((0, 3)))
    with pytest.raises(NonFiniteRangeError, match="infinity"):
        agreement(a, np.full_like(b, np.inf))
