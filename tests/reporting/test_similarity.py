"""Sums over samples give the numbers of all samples together."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp

from quantkit.graph.program import Array
from quantkit.numerics.metrics import cosine_similarity, sqnr_db
from quantkit.reporting.similarity import Similarity

VALUES = stnp.arrays(
    np.float32, (3, 4), elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False)
)


@given(VALUES, VALUES)
def test_samples_add_up(a: Array, b: Array) -> None:
    found = sum((Similarity.of(x, y) for x, y in zip(a, b, strict=True)), Similarity())
    assert found.cosine == pytest.approx(cosine_similarity(a, b), abs=1e-9)
    expected = sqnr_db(a, b)
    assert found.db == (pytest.approx(expected) if math.isfinite(expected) else expected)
    assert -1.0 <= found.cosine <= 1.0


@given(VALUES, st.floats(1e-3, 1e3))
def test_a_scaled_tensor_points_the_same_way(a: Array, factor: float) -> None:
    scaled = a.astype(np.float64) * factor
    expected = 1.0 if a.any() else pytest.approx(1.0)
    assert Similarity.of(a, scaled).cosine == pytest.approx(expected, abs=1e-12)
    assert Similarity.of(a, a).cosine == 1.0
    opposite = Similarity.of(a, -a).cosine
    assert opposite == (-1.0 if a.any() else 1.0)


def test_what_is_all_zero() -> None:
    zero, one = np.zeros(3, np.float32), np.ones(3, np.float32)
    assert Similarity.of(zero, zero).cosine == 1.0
    assert Similarity.of(zero, one).cosine == Similarity.of(one, zero).cosine == 0.0
