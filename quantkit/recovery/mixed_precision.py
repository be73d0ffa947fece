"""Which layers to keep out of the integers so that a limit is met: a search, and nothing else.

Layers are names, a variant is the set of those that are kept, and a function measures a variant
(greater is better); what "kept" means and how it is measured is the caller's. The search is greedy:

1. Layers are kept in a given order, the first 1, 2, 4, 8 ... of them, until the limit is met.
2. Bisection finds a shorter beginning of the order that meets it, while one layer fewer does not.
3. Each layer, the costliest first, is given back if the limit is still met without it; again and
   again until none can be.

So the result is minimal: no single layer of it can be given back. It need not be the smallest of
all sets, of which there are too many to measure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Kept = frozenset[str]

# A limit is a difference: 0.7 must do for 0.8 - 0.1, which is a little more.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Search:
    """What was found.

    Attributes:
        kept: The layers to keep; where the limit cannot be met, those of the best value.
        is_met: Whether they meet the limit.
        tried: The value of every variant that was measured, in that order.
    """

    kept: Kept
    is_met: bool
    tried: Mapping[Kept, float]


def smallest_set(
    order: Sequence[str],
    cost: Mapping[str, float],
    measure: Callable[[Kept], float],
    limit: float,
) -> Search:
    """Search for the cheapest set of layers to keep.

    Args:
        order: The layers, those that gain most for their cost first.
        cost: What it costs to keep each, 0 or more.
        measure: Gives the value of a variant; asked at most once for each.
        limit: The least value that will do.
    """
    tried: dict[Kept, float] = {}

    def meets(kept: Kept) -> bool:
        if kept not in tried:
            tried[kept] = measure(kept)
        return tried[kept] >= limit - _ROUNDING

    too_few, enough = -1, 0
    while not meets(frozenset(order[:enough])):
        if enough == len(order):
            best = max(tried, key=lambda kept: (tried[kept], -set_cost(kept, cost), -len(kept)))
            return Search(best, False, tried)
        too_few, enough = enough, min(max(1, 2 * enough), len(order))
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if meets(frozenset(order[:middle])):
            enough = middle
        else:
            too_few = middle
    kept = frozenset(order[:enough])
    costliest_first = sorted(order[:enough], key=lambda name: -cost[name])
    is_smaller = True
    while is_smaller:
        before = kept
        for name in costliest_first:
            if name in kept and meets(kept - {name}):
                kept -= {name}
        is_smaller = kept != before
    return Search(kept, True, tried)


def frontier(tried: Mapping[Kept, float], cost: Mapping[str, float]) -> tuple[Kept, ...]:
    """The variants than which none tried is both as cheap and as good; the cheapest first."""
    found: list[Kept] = []
    for kept in sorted(tried, key=lambda kept: (set_cost(kept, cost), len(kept), -tried[kept])):
        if not found or tried[kept] > tried[found[-1]]:
            found.append(kept)
    return tuple(found)


def set_cost(kept: Kept, cost: Mapping[str, float]) -> float:
    """What it costs to keep these layers."""
    return sum(cost[name] for name in sorted(kept))
