"""Where the marks of an axis are and what they say."""

import math
from collections.abc import Callable, Sequence

_MOST_TICKS = 6
_MOST_DECADES = 6
# Of an end that is itself a multiple of the step.
_ROUNDING = 1e-9
# Plain numbers from here to there, powers of ten outside.
_SMALLEST_PLAIN, _LARGEST_PLAIN = 1e-4, 1e6


def round_ticks(
    low: float, high: float, *, fits: Callable[[Sequence[str]], bool]
) -> list[tuple[float, str]]:
    """Multiples of 1, 2 or 5 times a power of ten in [low, high], with their labels.

    Args:
        low: Left end.
        high: Right end, above ``low``.
        fits: Whether there is room for these labels.

    Returns:
        At most 7 of them; none where there is no room for one.
    """
    for count in range(_MOST_TICKS, 0, -1):
        step = _round_step((high - low) / count)
        first, last = math.ceil(low / step - _ROUNDING), math.floor(high / step + _ROUNDING)
        values = [index * step for index in range(first, last + 1)]
        labels = [_label(value, step) for value in values]
        if fits(labels):
            return list(zip(values, labels, strict=True))
    return []


def decades(largest: float) -> list[float]:
    """Powers of ten from 1 to ``largest``, every one or every second or third ..."""
    exponents = range(max(math.floor(math.log10(largest)), 0) + 1 if largest >= 1 else 0)
    return [10.0**exponent for exponent in exponents[:: 1 + len(exponents) // (_MOST_DECADES + 1)]]


def _round_step(at_least: float) -> float:
    power = 10.0 ** math.floor(math.log10(at_least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= at_least)


def _label(value: float, step: float) -> str:
    """As many digits as tell neighbours apart."""
    if value == 0.0:
        return "0"
    exponent = math.floor(math.log10(step))
    if step >= _SMALLEST_PLAIN and abs(value) < _LARGEST_PLAIN:
        return f"{value:.{max(-exponent, 0)}f}"
    return f"{value:.{max(math.floor(math.log10(abs(value))) - exponent, 0)}e}"
