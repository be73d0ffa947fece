"""Tables for people: a row is one line in a pipe, and as far as possible on a terminal.

Only a terminal is ever too narrow. There, layers' names give way first: they lose their beginning.
"""

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_UNLIMITED = 10_000
_SEPARATOR = 2
_NARROWEST_NAME = 20
_CUT = "…"
_NAMES = 5


def make_console() -> Console:
    """Standard output: as wide as the terminal, or without limit in a pipe or file."""
    return Console(width=None if sys.stdout.isatty() else _UNLIMITED, highlight=False)


def make_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    width: int,
    right: Collection[str] = (),
    name: str | None = None,
) -> Table:
    """A table with a line under its heading and no frame.

    Args:
        columns: Their headings.
        rows: One text per column.
        width: Of the console, in characters.
        right: Headings of the columns that are aligned to the right (numbers); never broken.
        name: Heading of the column whose texts are names, shortened where the table is too wide.
    """
    widths = [
        max(len(column), *(len(row[index]) for row in rows)) if rows else len(column)
        for index, column in enumerate(columns)
    ]
    missing = sum(widths) + _SEPARATOR * (len(columns) - 1) - width
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, show_edge=False)
    place = columns.index(name) if name is not None and missing > 0 else None
    for index, column in enumerate(columns):
        is_number = column in right
        table.add_column(
            Text(column),
            justify="right" if is_number else "left",
            overflow="fold",
            no_wrap=is_number or index == place,
        )
    for row in rows:
        cells = list(row)
        if place is not None:
            cells[place] = shortened(row[place], max(widths[place] - missing, _NARROWEST_NAME))
        # Text: brackets in a node's name are no markup.
        table.add_row(*(Text(cell) for cell in cells))
    return table


def shortened(name: str, width: int) -> str:
    """A layer's name in at most ``width`` characters; a cut is marked by an ellipsis."""
    if len(name) <= width:
        return name
    return _CUT + name[-(width - 1) :]


def kept_float_lines(reasons: Mapping[str, str]) -> Iterator[str]:
    """A line per reason why nodes stay float, with the first of their names."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    for reason, found in names.items():
        more = f" and {len(found) - _NAMES} more" if len(found) > _NAMES else ""
        yield f"stays float: {', '.join(found[:_NAMES])}{more}: {reason}"


def size_text(count: int) -> str:
    """Bytes for people, with three digits at least."""
    return f"{count / 1e6:.2f} MB" if count >= 1_000_000 else f"{count / 1e3:.1f} kB"
