"""Histograms in characters: a line of them, or a chart with axes. Heights are logarithms of counts.

Every glyph set has plain ASCII beside it, for terminals and pipes that cannot encode more.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from quantkit.calibration.histogram import Float64Array
from quantkit.reporting.linear_histogram import linear_counts
from quantkit.reporting.table_rows import TensorRow

# Rounding leaves less than this in parts without values.
_FEWEST = 1e-3
_CHART_ROWS = 8
_GAP = 2


@dataclass(frozen=True, slots=True)
class Glyphs:
    """What charts are drawn with.

    Attributes:
        ramp: Heights of a histogram of one line, the lowest first.
        column: Parts of a cell that a bar fills, the smallest first.
        axis: The vertical axis, the corner, the horizontal axis.
        bar: Left end, middle and right end of a range.
    """

    ramp: str
    column: str
    axis: str
    bar: str


BLOCKS = Glyphs(ramp="▁▂▃▄▅▆▇█", column="▁▂▃▄▅▆▇█", axis="│└─", bar="├─┤")
ASCII = Glyphs(ramp=".:-=+*#@", column=".#", axis="|+-", bar="|-|")


def glyphs_for(encoding: str | None) -> Glyphs:
    """Blocks where the encoding has them, ASCII otherwise."""
    try:
        "".join((BLOCKS.ramp, BLOCKS.axis, BLOCKS.bar)).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return BLOCKS


def sparkline(row: TensorRow, width: int, glyphs: Glyphs) -> str:
    """The histogram from the tensor's minimum to its maximum in one line; a space: no value."""
    if row.width == 0.0:
        return glyphs.ramp[-1]
    heights = log_heights(
        linear_counts(row.statistics, row.statistics.minimum, row.statistics.maximum, width)
    )
    return "".join(_level(height, glyphs.ramp) for height in heights)


def chart(row: TensorRow, width: int, glyphs: Glyphs) -> Iterator[str]:
    """Lines of a histogram with axes, and below it how far the range of each method reaches.

    Args:
        row: The tensor, with the ranges to show.
        width: Characters per line, at least 30.
        glyphs: What to draw with.
    """
    left, right = axis_ends(row)
    margin = max(len(text) for text in (*row.ranges, "count 999.9M"))
    columns = width - margin - _GAP - 1
    counts = linear_counts(row.statistics, left, right, columns)
    heights = log_heights(counts) * _CHART_ROWS
    top = float(counts.max())
    labels = {_CHART_ROWS - 1: f"count {count_text(top)}", 0: "0"}
    labels[_CHART_ROWS // 2] = count_text(np.expm1(np.log1p(top) / 2))
    upright, corner, flat = tuple(glyphs.axis)
    for line in reversed(range(_CHART_ROWS)):
        cells = "".join(_level(height - line, glyphs.column) for height in heights)
        yield f"{labels.get(line, ''):>{margin}} {upright}{cells}".rstrip()
    yield f"{'':{margin}} {corner}{flat * columns}"
    yield f"{'':{margin + _GAP}}{_axis_labels(left, right, columns)}"
    for method, found in row.ranges.items():
        yield f"{method:>{margin}}  {_bar(found.low, found.high, left, right, columns, glyphs)}"


def axis_ends(row: TensorRow) -> tuple[float, float]:
    """What an axis has to show: all values, all ranges, and some room around a single value."""
    left = min(row.statistics.minimum, *(found.low for found in row.ranges.values()))
    right = max(row.statistics.maximum, *(found.high for found in row.ranges.values()))
    if left == right:
        room = abs(left) / 2 or 1.0
        return left - room, right + room
    return left, right


def log_heights(counts: Float64Array) -> Float64Array:
    """``log(1 + count)`` over its largest, 0 to 1; 0 exactly where there is no value."""
    logs = np.log1p(np.where(counts < _FEWEST, 0.0, counts))
    heights: Float64Array = logs / (logs.max() or 1.0)
    return heights


def number_text(value: float) -> str:
    """Four significant digits."""
    return f"{value:.4g}"


def percent_text(percent: float) -> str:
    """Percent with two digits that count; "-" for nothing at all."""
    return "-" if percent == 0.0 else f"{percent:.2g}"


def count_text(count: float) -> str:
    """A count in few characters, as 1.2M."""
    for unit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.1f}".removesuffix(".0") + suffix
    return f"{count:.0f}"


def _level(height: float, levels: str) -> str:
    """The glyph of a height from 0 to 1; everything above 0 shows."""
    if height <= 0.0:
        return " "
    return levels[min(int(np.ceil(height * len(levels))), len(levels)) - 1]


def _axis_labels(left: float, right: float, columns: int) -> str:
    first, last = number_text(left), number_text(right)
    zero = round(-left / (right - left) * (columns - 1))
    line = first + " " * (columns - len(first) - len(last)) + last
    if len(first) < zero - 1 and zero + 1 < columns - len(last):
        line = f"{line[:zero]}0{line[zero + 1 :]}"
    return line


def _bar(low: float, high: float, left: float, right: float, columns: int, glyphs: Glyphs) -> str:
    first, last = (round((end - left) / (right - left) * (columns - 1)) for end in (low, high))
    start, middle, end = tuple(glyphs.bar)
    if first == last:
        return " " * first + start
    return " " * first + start + middle * (last - first - 1) + end
