"""The search for the cheapest set of layers to keep, on functions that are known."""

import math

from hypothesis import given
from hypothesis import strategies as st

from quantkit.recovery.mixed_precision import Kept, frontier, set_cost, smallest_set

ORDER = tuple("abcdefgh")
COST = dict(zip(ORDER, (1, 8, 2, 7, 3, 6, 4, 5), strict=True))
NOTHING: Kept = frozenset()


def lost_by(noise: dict[str, float]) -> "Counted":
    return Counted(noise)


class Counted:
    """A value that falls by the noise of every layer not kept; counts how often it is asked."""

    def __init__(self, noise: dict[str, float]) -> None:
        self.noise = noise
        self.asked: list[Kept] = []

    def __call__(self, kept: Kept) -> float:
        self.asked.append(kept)
        return -math.fsum(noise for name, noise in self.noise.items() if name not in kept)


def test_nothing_is_kept_where_all_layers_meet_the_limit() -> None:
    measure = lost_by({"a": 1.0})
    found = smallest_set(ORDER, COST, measure, -1.0)
    assert (found.kept, found.is_met) == (NOTHING, True)
    assert measure.asked == [NOTHING]


def test_the_one_ruinous_layer_is_found_wherever_it_stands() -> None:
    for name in ORDER:
        noise = {**dict.fromkeys(ORDER, 0.01), name: 9.0}
        found = smallest_set(ORDER, COST, lost_by(noise), -1.0)
        assert found.kept == {name}
        assert found.is_met


def test_the_costliest_layers_are_given_back_first() -> None:
    """Either b (8) or c (2) must be kept beside a: c is cheaper."""
    found = smallest_set(
        ("a", "b", "c"), COST, lambda kept: float("a" in kept and ("b" in kept or "c" in kept)), 1.0
    )
    # a and b are enough of the order; c was never needed.
    assert found.kept == {"a", "b"}
    found = smallest_set(
        ("b", "c", "a"), COST, lambda kept: float("a" in kept and ("b" in kept or "c" in kept)), 1.0
    )
    assert found.kept == {"a", "c"}


def test_a_limit_that_cannot_be_met_gives_the_best_set() -> None:
    found = smallest_set(ORDER, COST, lambda kept: -abs(len(kept) - 2.0), 1.0)
    assert not found.is_met
    assert found.kept == {"a", "b"}
    # Equal values: the cheapest.
    found = smallest_set(ORDER, COST, lambda kept: 0.0, 1.0)
    assert (found.is_met, found.kept) == (False, NOTHING)


def test_a_limit_is_met_in_spite_of_rounding() -> None:
    assert 0.8 - 0.1 > 0.7
    assert smallest_set(ORDER, COST, lambda kept: 0.7, 0.8 - 0.1).kept == NOTHING


def test_without_layers() -> None:
    assert smallest_set((), {}, lambda kept: 1.0, 1.0).is_met
    assert not smallest_set((), {}, lambda kept: 0.0, 1.0).is_met


@given(
    noise=st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0, 4.0]), min_size=8, max_size=8),
    limit=st.floats(-10.0, 0.0),
)
def test_what_is_found_meets_the_limit_and_is_minimal(noise: list[float], limit: float) -> None:
    measure = lost_by(dict(zip(ORDER, noise, strict=True)))
    found = smallest_set(ORDER, COST, measure, limit)
    assert found.is_met
    assert measure(found.kept) >= limit - 1e-9
    for name in found.kept:
        assert measure(found.kept - {name}) < limit
    asked = measure.asked[: len(found.tried)]
    assert len(set(asked)) == len(asked) == len(found.tried)


@given(values=st.dictionaries(st.frozensets(st.sampled_from(ORDER)), st.integers(0, 5), min_size=1))
def test_nothing_tried_is_better_than_the_frontier(values: dict[Kept, float]) -> None:
    points = frontier(values, COST)
    for kept, value in values.items():
        assert any(
            set_cost(point, COST) <= set_cost(kept, COST) and values[point] >= value
            for point in points
        )
    found = [values[point] for point in points]
    assert found == sorted(set(found))
