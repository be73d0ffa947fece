"""Histograms as a picture: a panel per tensor, drawn with Pillow and the font in it.

In a panel, x is the value and y the logarithm of the count. Below the axis every method has a lane
of its own, from the lowest to the highest value it covers, with its name and numbers beside it, so
that labels never meet however close the methods are. Lines show the same ends in the histogram;
where those of several methods fall together, their colours take turns.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from quantkit.errors import CalibrationError, ConfigError
from quantkit.graph.partial_file import partial_file
from quantkit.reporting.axis_ticks import decades, round_ticks
from quantkit.reporting.histogram_text import (
    axis_ends,
    count_text,
    log_heights,
    number_text,
    percent_text,
)
from quantkit.reporting.linear_histogram import linear_counts
from quantkit.reporting.table_rows import TensorRow

# Formats in whose bytes Pillow writes no date.
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
MOST_PANELS = 48
BACKGROUND, INK, GREY, GRID, BARS = "#ffffff", "#1a1a1a", "#5f6368", "#e3e6ea", "#b8c4d0"
# Told apart with any colour vision: Okabe and Ito, 2008, grey for black and no yellow.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#444444", "#e69f00", "#56b4e9")

_OUTER, _BETWEEN, _HEADER = 28, 36, 92
_LEFT, _PLOT_WIDTH, _RIGHT = 84, 360, 186
_TOP, _PLOT_HEIGHT, _AXIS, _LANE = 34, 170, 46, 20
_PANEL_WIDTH = _LEFT + _PLOT_WIDTH + _RIGHT
_COLUMN = _RIGHT // 3
_PIXELS_PER_BAR = 2
_DASH = 4
_TITLE, _NORMAL, _SMALL = 20, 16, 13


def check_plot(path: Path, panels: int = 1) -> None:
    """Refuse what :func:`plot_histograms` cannot draw.

    Raises:
        ConfigError: The suffix is of no picture, or there are too many tensors.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--plot {str(path)!r}: a picture's name ends in {', '.join(SUFFIXES)}")
    if panels > MOST_PANELS:
        raise ConfigError(
            f"--plot has room for {MOST_PANELS} tensors, not for {panels}; choose with --tensor"
        )


def plot_histograms(rows: Sequence[TensorRow], path: Path, *, title: str) -> None:
    """Write a picture; the same rows always give the same bytes.

    Args:
        rows: One panel each, at least one; all with ranges of the same methods.
        path: Where to; its suffix says in which format.
        title: Above the panels.

    Raises:
        ConfigError: See :func:`check_plot`.
        CalibrationError: The place cannot be written to.
    """
    check_plot(path, len(rows))
    image = draw_histograms(rows, title)
    kind = Image.registered_extensions()[path.suffix.lower()]
    try:
        with partial_file(path) as partial:
            image.save(partial, format=kind, quality=95)
    except OSError as error:
        raise CalibrationError(f"cannot write {str(path)!r}: {error}") from error


def draw_histograms(rows: Sequence[TensorRow], title: str) -> Image.Image:
    """The picture: panels in reading order, in one column, two or three."""
    columns = 1 if len(rows) == 1 else 2 if len(rows) <= 4 else 3
    height = _TOP + _PLOT_HEIGHT + _AXIS + _LANE * len(rows[0].ranges) + _BETWEEN
    lines = -(-len(rows) // columns)
    size = (
        2 * _OUTER + columns * _PANEL_WIDTH + (columns - 1) * _BETWEEN,
        2 * _OUTER + _HEADER + lines * height - _BETWEEN,
    )
    image = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(image)
    _header(draw, title, tuple(rows[0].ranges), size[0] - 2 * _OUTER)
    for index, row in enumerate(rows):
        line, column = divmod(index, columns)
        x = _OUTER + column * (_PANEL_WIDTH + _BETWEEN)
        _panel(draw, row, x, _OUTER + _HEADER + line * height)
    return image


def _header(draw: ImageDraw.ImageDraw, title: str, methods: Sequence[str], width: int) -> None:
    _text(draw, (_OUTER, _OUTER), title, size=_TITLE, width=width)
    y = _OUTER + 42
    x = _OUTER
    for colour, method in zip(_colours(len(methods)), methods, strict=True):
        draw.rectangle((x, y - 6, x + 11, y + 5), fill=colour)
        _text(draw, (x + 18, y), method, anchor="lm")
        x += 18 + round(_font(_NORMAL).getlength(method)) + 24
    note = "lines: where a method's range ends; bars: counts, on a logarithmic axis"
    if x + _font(_SMALL).getlength(note) < _OUTER + width:
        _text(draw, (x, y), note, colour=GREY, size=_SMALL, anchor="lm")


def _panel(draw: ImageDraw.ImageDraw, row: TensorRow, x: int, y: int) -> None:
    _text(draw, (x, y), row.name, width=_PANEL_WIDTH)
    left, top = x + _LEFT, y + _TOP
    bottom = top + _PLOT_HEIGHT
    ends = axis_ends(row)
    _bars(draw, row, ends, left, bottom)
    _value_axis(draw, ends, left, bottom)
    _facts(draw, row, left + _PLOT_WIDTH, top)
    edge = left + _PLOT_WIDTH + _COLUMN
    for index, heading in enumerate(("low", "high", "cut %")):
        where = (edge + index * _COLUMN, bottom + _AXIS - _LANE // 2)
        _text(draw, where, heading, colour=GREY, size=_SMALL, anchor="rm")
    lines: dict[int, list[str]] = {}
    for index, (colour, (method, found)) in enumerate(
        zip(_colours(len(row.ranges)), row.ranges.items(), strict=True)
    ):
        lane = bottom + _AXIS + index * _LANE + _LANE // 2
        _text(draw, (left - 10, lane), method, colour=colour, size=_SMALL, anchor="rm")
        first, last = (left + _pixel(value, ends) for value in (found.low, found.high))
        draw.rectangle((first, lane - 1, last, lane + 1), fill=colour)
        for pixel in (first, last):
            draw.line((pixel, lane - 6, pixel, lane + 6), fill=colour)
            lines.setdefault(pixel, []).append(colour)
        texts = number_text(found.low), number_text(found.high), percent_text(found.cut_percent)
        for place, text in enumerate(texts):
            _text(draw, (edge + place * _COLUMN, lane), text, size=_SMALL, anchor="rm")
    for pixel, colours in lines.items():
        _line(draw, pixel, top, bottom, colours)


def _bars(
    draw: ImageDraw.ImageDraw, row: TensorRow, ends: tuple[float, float], left: int, bottom: int
) -> None:
    counts = linear_counts(row.statistics, *ends, _PLOT_WIDTH // _PIXELS_PER_BAR)
    top = float(np.log1p(counts.max()))
    for count in decades(counts.max()):
        y = bottom - round(float(np.log1p(count)) / top * _PLOT_HEIGHT)
        draw.line((left, y, left + _PLOT_WIDTH, y), fill=GRID)
        _text(draw, (left - 10, y), count_text(count), colour=GREY, size=_SMALL, anchor="rm")
    for index, height in enumerate(log_heights(counts)):
        if height > 0.0:
            x = left + index * _PIXELS_PER_BAR
            y = bottom - max(round(height * _PLOT_HEIGHT), 1)
            draw.rectangle((x, y, x + _PIXELS_PER_BAR - 1, bottom), fill=BARS)
    draw.line((left, bottom, left + _PLOT_WIDTH, bottom), fill=INK)


def _value_axis(
    draw: ImageDraw.ImageDraw, ends: tuple[float, float], left: int, bottom: int
) -> None:
    def spacing(labels: Sequence[str]) -> float:
        return sum(_font(_SMALL).getlength(label) + 16 for label in labels)

    for value, label in round_ticks(*ends, fits=lambda labels: spacing(labels) <= _PLOT_WIDTH):
        x = left + _pixel(value, ends)
        draw.line((x, bottom, x, bottom + 5), fill=INK)
        _text(draw, (x, bottom + 8), label, size=_SMALL, anchor="ma")


def _facts(draw: ImageDraw.ImageDraw, row: TensorRow, left: int, top: int) -> None:
    statistics = row.statistics
    facts = {
        "min": number_text(statistics.minimum),
        "max": number_text(statistics.maximum),
        "values": count_text(statistics.count),
    }
    if statistics.channels is not None:
        facts["channels"] = str(statistics.channels.channels)
    for index, (name, text) in enumerate(facts.items()):
        y = top + index * _LANE
        _text(draw, (left + 24, y), name, colour=GREY, size=_SMALL)
        _text(draw, (left + _RIGHT, y), text, size=_SMALL, anchor="ra")


def _line(draw: ImageDraw.ImageDraw, x: int, top: int, bottom: int, colours: Sequence[str]) -> None:
    """A vertical line, in dashes of all colours in turn."""
    for index, y in enumerate(range(top, bottom, _DASH)):
        end = min(y + _DASH, bottom) - 1
        draw.line((x, y, x, end), fill=colours[index % len(colours)])


def _pixel(value: float, ends: tuple[float, float]) -> int:
    return round((value - ends[0]) / (ends[1] - ends[0]) * _PLOT_WIDTH)


def _colours(count: int) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _text(
    draw: ImageDraw.ImageDraw,
    where: tuple[int, int],
    text: str,
    *,
    colour: str = INK,
    size: int = _NORMAL,
    anchor: str = "la",
    width: int | None = None,
) -> None:
    """Write a line; with a width, a longer one loses its beginning."""
    font = _font(size)
    if width is not None and font.getlength(text) > width:
        while text and font.getlength(f"…{text}") > width:
            text = text[1:]
        text = f"…{text}"
    draw.text(where, text, fill=colour, font=font, anchor=anchor)
