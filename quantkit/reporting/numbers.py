"""Every number of a report as text; all forms take it from here, so that it is the same in all.

A unit is not part of it: the heading of the column or the sentence says it. Only sizes have theirs,
which depends on the number. Rounding never claims what was not measured: 100 % and a cosine of 1
are only written where nothing is missing, 0 only where there is nothing.
"""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

Real = TypeVar("Real", int, float)

MISSING = "-"
EXACT = "exact"
POINTS = "points"
_SMALLEST = 0.005


def percent(value: float | None) -> str:
    """A share of per cent, with two decimals; a smaller one with one digit that counts."""
    if value is None:
        return MISSING
    return _hundredths(min(value, 99.99) if value < 100.0 else value)


def decibels(value: float | None) -> str:
    """An SQNR; ``exact`` where it is infinite, because nothing was lost."""
    if value is None:
        return MISSING
    return EXACT if value == math.inf else _fixed(value, 2)


def difference(value: float | None, unit: str = POINTS) -> str:
    """A difference with its sign: of points of per cent or decibels, or of a user's metric."""
    if value is None:
        return MISSING
    text = _hundredths(value) if unit == POINTS else real(value)
    return f"+{text}" if value > 0.0 else text


def magnitude(value: float, unit: str = POINTS) -> str:
    """How large a difference is, where words say the direction."""
    return difference(abs(value), unit).removeprefix("+")


def milliseconds(value: float | None) -> str:
    """A latency."""
    return MISSING if value is None else _hundredths(value)


def size(value: int | None) -> str:
    """Bytes with their unit, in three digits at least."""
    if value is None:
        return MISSING
    return f"{value / 1e6:.2f} MB" if value >= 999_950 else f"{value / 1e3:.1f} kB"


def count(value: int | None) -> str:
    """How many, with commas."""
    return MISSING if value is None else f"{value:,}"


def counted(value: int, noun: str) -> str:
    """How many of what, as "1 sample" and "1,234 samples"."""
    return f"{count(value)} {noun}" if value == 1 else f"{count(value)} {noun}s"


def cosine(value: float | None) -> str:
    """A cosine similarity with five decimals."""
    if value is None:
        return MISSING
    return _fixed(min(value, 0.99999) if value < 1.0 else value, 5)


def probability(value: float | None) -> str:
    """A p-value with two digits that count."""
    return MISSING if value is None else f"{value:.2g}"


def real(value: float | None) -> str:
    """Any other number, in four digits that count: a scale, a range, a metric of the user's."""
    return MISSING if value is None else f"{value:.4g}"


def whole(value: int) -> str:
    """A code, a shift or another whole number that is no count."""
    return f"{value:d}"


def gain(before: float | None, after: float | None) -> str:
    """What was won from one SQNR to another; "-" where neither lost anything."""
    if before is None or after is None or before == after == math.inf:
        return MISSING
    return difference(after - before)


def between(values: Sequence[Real] | None, text: Callable[[Real], str]) -> str:
    """The least and the greatest of some numbers; one number where they are written the same."""
    if not values:
        return MISSING
    low, high = text(min(values)), text(max(values))
    return low if low == high else f"{low} to {high}"


def class_name(number: int | None, names: Sequence[str]) -> str:
    """What a class is called."""
    if number is None:
        return MISSING
    return names[number] if 0 <= number < len(names) else f"class {number}"


def _hundredths(value: float) -> str:
    return f"{value:.1g}" if 0.0 < abs(value) < _SMALLEST else _fixed(value, 2)


def _fixed(value: float, decimals: int) -> str:
    # Behind the point a zero has no sign.
    return f"{round(value, decimals) + 0.0:.{decimals}f}"
