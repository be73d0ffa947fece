"""A calibration table for people: what it is of, a row per tensor, or a chart of a few."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from rich.console import RenderableType
from rich.text import Text

from quantkit.calibration.preprocessing import PRESETS, Preprocessing
from quantkit.calibration.table import CalibrationTable
from quantkit.reporting.histogram_text import (
    Glyphs,
    chart,
    glyphs_for,
    number_text,
    percent_text,
    sparkline,
)
from quantkit.reporting.table_rows import TensorRow
from quantkit.reporting.terminal_table import make_console, make_table

CHARTED = 4
"""Up to this many tensors are shown as charts."""
_DIGEST_DIGITS = 12
_WIDEST_CHART, _NARROWEST_CHART = 100, 30
_WIDEST_LINE, _NARROWEST_LINE = 24, 10
_SEPARATOR = 2
_NAME, _HISTOGRAM, _REASON = "tensor", "histogram", "why"
# Names may be cut to this; reasons may be broken into lines of this.
_SHORTEST_NAME, _SHORTEST_REASON = 20, 16
# What gives way on a narrow terminal, the first one first.
_DISPENSABLE = (_REASON, "channels", "scale", _HISTOGRAM, "low", "high", "cut %")


def print_table(
    table: CalibrationTable, source: str, rows: Sequence[TensorRow], method: str
) -> None:
    """Print a header and a line per tensor to standard output.

    Args:
        table: Where the rows are from.
        source: Its file.
        rows: What to show, with the ranges of ``method``.
        method: A range estimator's name.
    """
    console = make_console()
    glyphs = glyphs_for(console.encoding)
    for part in render_table(table, source, rows, method, width=console.width, glyphs=glyphs):
        console.print(part)


def print_charts(table: CalibrationTable, source: str, rows: Sequence[TensorRow]) -> None:
    """Print a header and a chart per tensor to standard output.

    Args:
        table: Where the rows are from.
        source: Its file.
        rows: What to show, with the ranges of all methods to compare.
    """
    console = make_console()
    glyphs = glyphs_for(console.encoding)
    for part in render_charts(table, source, rows, width=console.width, glyphs=glyphs):
        console.print(part)


def render_table(
    table: CalibrationTable,
    source: str,
    rows: Sequence[TensorRow],
    method: str,
    *,
    width: int,
    glyphs: Glyphs,
) -> Iterator[RenderableType]:
    """Header, a line per tensor, and what a narrow terminal left out."""
    yield from _header(table, source)
    yield Text(f"ranges by {method}; histograms from min to max, heights are logarithms\n")
    line = min(max(width // 8, _NARROWEST_LINE), _WIDEST_LINE)
    columns = _columns(rows, method, line, glyphs)
    shown = _fitting(columns, width, {_NAME: max(width // 3, _SHORTEST_NAME)})
    yield make_table(
        list(shown),
        list(zip(*shown.values(), strict=True)),
        width=width,
        right=[name for name in shown if name not in (_NAME, _HISTOGRAM, _REASON)],
        name=_NAME,
    )
    left_out = [name for name in columns if name not in shown]
    if left_out:
        yield Text(f"\nno room for: {', '.join(left_out)}")


def render_charts(
    table: CalibrationTable,
    source: str,
    rows: Sequence[TensorRow],
    *,
    width: int,
    glyphs: Glyphs,
) -> Iterator[RenderableType]:
    """Header, and of each tensor its histogram and the range of every method."""
    yield from _header(table, source)
    for row in rows:
        yield Text(f"\n{row.name}", style="bold")
        yield Text(_sentence(row))
        for line in chart(row, min(max(width, _NARROWEST_CHART), _WIDEST_CHART), glyphs):
            yield Text(line, no_wrap=True, overflow="crop")
        yield Text("")
        yield _methods(row, width)


def preprocessing_words(preprocessing: Preprocessing | None) -> str:
    """How samples were made, in one line."""
    if preprocessing is None:
        return "arrays, fed as they are"
    facts = preprocessing.to_json()
    mean, std = preprocessing.mean, preprocessing.std
    presets = [
        name
        for name, preset in PRESETS.items()
        # A preset has three channels, a grey network one.
        if (mean, std) in ((preset.mean, preset.std), (preset.mean[:1], preset.std[:1]))
    ]
    del facts["mean"], facts["std"]
    normalized = f"(x - {_numbers(mean)}) / {_numbers(std)}"
    words = [f"preset {presets[0]}" if presets else normalized]
    words += [
        f"{name.replace('_', ' ')} {'x'.join(map(str, value)) if name == 'size' else value}"
        for name, value in facts.items()
        if value is not None
    ]
    return f"pictures: {', '.join(words)}"


def _header(table: CalibrationTable, source: str) -> Iterator[Text]:
    name = table.model_name or "a model without a name"
    yield Text(
        f"{source}: {name} (digest {table.model_digest[:_DIGEST_DIGITS]}), "
        f"{len(table.statistics)} tensors over {table.sample_count} samples "
        f"(digest {table.data_digest[:_DIGEST_DIGITS]})"
    )
    yield Text(preprocessing_words(table.preprocessing))
    counted = "every value" if table.exact else "a sample and the far tails of large tensors"
    yield Text(f"calibrated by quantkit {table.tool_version}, {counted} counted")


def _columns(
    rows: Sequence[TensorRow], method: str, line: int, glyphs: Glyphs
) -> dict[str, list[str]]:
    cells: dict[str, Callable[[TensorRow], str]] = {
        _NAME: lambda row: row.name,
        "min": lambda row: number_text(row.statistics.minimum),
        _HISTOGRAM: lambda row: sparkline(row, line, glyphs),
        "max": lambda row: number_text(row.statistics.maximum),
        "low": lambda row: number_text(row.ranges[method].low),
        "high": lambda row: number_text(row.ranges[method].high),
        "cut %": lambda row: percent_text(row.ranges[method].cut_percent),
        "scale": lambda row: number_text(row.ranges[method].scale),
        "channels": lambda row: _ratio(row.channel_ratio),
        _REASON: lambda row: row.ranges[method].reason,
    }
    texts = {name: [cell(row) for row in rows] for name, cell in cells.items()}
    return {name: column for name, column in texts.items() if any(column)}


def _fitting(
    columns: Mapping[str, Sequence[str]], width: int, shortest: Mapping[str, int]
) -> dict[str, Sequence[str]]:
    """The columns for which there is room, some of them shortened to so many characters."""
    shown = dict(columns)
    for name in _DISPENSABLE:
        widths = {title: max(map(len, (title, *cells))) for title, cells in shown.items()}
        least = [min(found, shortest.get(title, found)) for title, found in widths.items()]
        if sum(least) + _SEPARATOR * (len(shown) - 1) <= width:
            break
        shown.pop(name, None)
    return shown


def _methods(row: TensorRow, width: int) -> Text:
    found = row.ranges.values()
    columns = {
        "method": list(row.ranges),
        "low": [number_text(one.low) for one in found],
        "high": [number_text(one.high) for one in found],
        "cut %": [percent_text(one.cut_percent) for one in found],
        "scale": [number_text(one.scale) for one in found],
        _REASON: [one.reason for one in found],
    }
    if not any(columns[_REASON]):
        del columns[_REASON]
    shown = _fitting(columns, width, {_REASON: _SHORTEST_REASON})
    right = [name for name in shown if name not in ("method", _REASON)]
    return make_table(
        list(shown), list(zip(*shown.values(), strict=True)), width=width, right=right
    )


def _sentence(row: TensorRow) -> str:
    statistics = row.statistics
    words = [f"{statistics.count:,} values of {statistics.sample_count} samples"]
    if statistics.channels is not None:
        words.append(f"{statistics.channels.channels} channels")
    if row.channel_ratio is not None:
        words.append(f"the widest reaches {_ratio(row.channel_ratio)} times as far as the median")
    tail = f"{row.tail:.1f}" if math.isfinite(row.tail) else "infinitely many"
    words.append(f"all values span {tail} times the central 99.9 %")
    return ", ".join(words)


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.1f}"


def _numbers(values: Sequence[float]) -> str:
    texts = [f"{value:g}" for value in values]
    return texts[0] if len(set(texts)) == 1 else f"[{', '.join(texts)}]"
