"""A report as tables for people, worst layers first.

On a terminal, sentences and long names are wrapped to its width, and columns that do not fit are
left out, the last ones first. In a pipe or file a row is one line and a sentence is one line,
however long.
"""

from collections.abc import Iterable, Iterator

from rich.cells import cell_len
from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from quantkit.reporting.numbers import MISSING, count
from quantkit.reporting.report import Report
from quantkit.reporting.section import Column, Section, Table
from quantkit.reporting.sections import sections, title
from quantkit.reporting.terminal_table import make_console, make_table

# What ``make_table`` shortens names and words to, and what it puts between columns.
_NARROWEST_NAME, _NARROWEST_WORD, _SEPARATOR = 20, 8, 2
# Longer texts are prose: side by side with others they become columns of single words.
_PROSE = 40
_INDENT = 2


def print_report(report: Report) -> None:
    """Print a report to standard output."""
    console = make_console()
    for part in render(report, width=console.width):
        console.print(part)


def render(report: Report, *, width: int) -> Iterator[RenderableType]:
    """The sections that have rows or sentences for a terminal.

    Args:
        report: What to show.
        width: Of the console, in characters.
    """
    yield from render_sections(title(report), sections(report), width=width)


def render_sections(
    heading: str, shown: Iterable[Section], *, width: int
) -> Iterator[RenderableType]:
    """Any sections below a heading; see :func:`render`."""
    yield Text(heading, style="bold")
    for section in shown:
        if section.few != 0:
            yield from _section(section, width)


def _section(section: Section, width: int) -> Iterator[RenderableType]:
    if section.title:
        yield Text(f"\n{section.title}", style="bold")
    for sentence in section.sentences:
        yield Text(sentence)
    if section.table is None:
        return
    if section.sentences:
        yield Text("")
    shown = section.table.rows[: section.few]
    yield from _table(Table(section.table.columns, shown), width)
    if len(shown) < len(section.table.rows):
        rows = count(len(section.table.rows))
        yield Text(f"{count(len(shown))} of {rows}; a file (--output) has all.")


def _table(table: Table, width: int) -> Iterator[RenderableType]:
    least = [_least_width(table, index) for index in range(len(table.columns))]
    if _has_prose(table) and _total(least) > width:
        yield from _stacked(table)
        return
    kept = len(least)
    while kept > 2 and _total(least[:kept]) > width:
        kept -= 1
    columns = table.columns[:kept]
    yield make_table(
        [column.title for column in columns],
        [row[:kept] for row in table.rows],
        width=width,
        right=[column.title for column in columns if column.is_number],
        name=next((column.title for column in columns if column.is_name), None),
    )
    if kept < len(table.columns):
        left_out = ", ".join(column.title for column in table.columns[kept:])
        yield Text(f"Too narrow for: {left_out}.")


def _stacked(table: Table) -> Iterator[RenderableType]:
    """A row as a paragraph: the first cell, then a line for each other one that says something."""
    for row in table.rows:
        yield Text(row[0])
        for column, cell in zip(table.columns[1:], row[1:], strict=True):
            if cell != MISSING:
                yield Padding(Text(f"{column.title}: {cell}"), (0, 0, 0, _INDENT), expand=False)


def _least_width(table: Table, index: int) -> int:
    """What a column needs: numbers and prose all they have, names and ops what is kept of them."""
    column: Column = table.columns[index]
    texts = [row[index] for row in table.rows]
    longest = max(map(cell_len, texts), default=0)
    if column.is_name:
        longest = min(longest, _NARROWEST_NAME)
    elif not column.is_number and not any(" " in text for text in texts):
        longest = min(longest, _NARROWEST_WORD)
    return max(cell_len(column.title), longest)


def _has_prose(table: Table) -> bool:
    return any(" " in cell and cell_len(cell) > _PROSE for row in table.rows for cell in row)


def _total(widths: list[int]) -> int:
    return sum(widths) + _SEPARATOR * (len(widths) - 1)
