"""Data inside a page: JSON that no text in it can end, and that keeps infinities."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from markupsafe import Markup

Plain: TypeAlias = "str | int | float | bool | Sequence[Plain] | Mapping[str, Plain] | None"

# What ends or opens an element, and the two line ends that JSON allows but old scripts do not.
_ESCAPED = {
    ord("<"): "\\u003c",
    ord(">"): "\\u003e",
    ord("&"): "\\u0026",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}


def embedded_json(data: Plain, digits: int = 6) -> Markup:
    """JSON to be put between ``<script type="application/json">`` and its end.

    Args:
        data: Numbers, texts, sequences and mappings.
        digits: Significant digits that floats keep: a plot shows less.

    Returns:
        JSON without ``<``, ``>`` and ``&``. Infinities and NaN, which JSON has not, are the strings
        "Infinity", "-Infinity" and "NaN": JavaScript's ``Number`` reads them back.
    """
    text = json.dumps(_plain(data, digits), ensure_ascii=False, separators=(",", ":"))
    return Markup(text.translate(_ESCAPED))


def _plain(data: Plain, digits: int) -> Plain:
    if isinstance(data, bool | int | str) or data is None:
        return data
    if isinstance(data, float):
        return _number(data, digits)
    if isinstance(data, Mapping):
        return {key: _plain(value, digits) for key, value in data.items()}
    return [_plain(value, digits) for value in data]


def _number(value: float, digits: int) -> Plain:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 2**53 else rounded
