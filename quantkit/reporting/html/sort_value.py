"""What a cell of text is worth when a table is sorted."""

import math
import re

from quantkit.reporting.numbers import EXACT

_NUMBER = re.compile(
    r"^\s*([-+−]?)\s*(\d[\d,\u00a0\u202f]*(?:\.\d+)?(?:e[+-]?\d+)?)\s*([^\d\s]*)", re.I
)
_INFINITE = re.compile(r"^\s*([-+−]?)\s*(?:inf|infinity|infinite|∞)\b|^\s*([-+−]?)\s*∞", re.I)
# Sizes are written with the unit that suits them.
_UNITS = {
    "k": 1e3, "kb": 1e3, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9,
    "kib": 2**10, "mib": 2**20, "gib": 2**30,
}  # fmt: skip


def javascript_sort_value(text: str) -> str | None:
    """As ``sort_value``, in JavaScript's words."""
    value = sort_value(text)
    if value is not None and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return None if value is None else repr(value)


def sort_value(text: str) -> float | None:
    """The number a cell starts with, in units of one; None where it starts with none.

    ``"1,234"`` is 1234, ``"3.66 MB"`` 3660000, ``"exact"`` and ``"inf"`` infinite,
    ``"-"`` None.
    """
    if text == EXACT:
        return math.inf
    infinite = _INFINITE.match(text)
    if infinite:
        return -math.inf if text.strip()[0] in "-−" else math.inf
    match = _NUMBER.match(text)
    if match is None:
        return None
    sign, digits, unit = match.groups()
    value = float(re.sub(r"[,\u00a0\u202f]", "", digits)) * _UNITS.get(unit.lower(), 1.0)
    return -value if sign in {"-", "−"} else value
