"""Tables and sentences for people: a row is one line in a pipe, and if possible on a terminal.

Only a terminal is ever too narrow for a table. There, layers' names give way first: they lose their
beginning; then ops lose their end.
"""

import re
import shutil
import sys
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import zip_longest

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

_UNLIMITED = 10_000
_SEPARATOR = 2
_SHORT_NAME, _NARROWEST_NAME = 30, 20
_NARROWEST_WORD = 8
_CUT = "…"
_NAMES = 5
_SENTENCE = 80


def make_console() -> Console:
    """Standard output: as wide as the terminal, or without limit in a pipe or file."""
    return Console(width=None if sys.stdout.isatty() else _UNLIMITED, highlight=False)


def print_sentence(text: str) -> None:
    """Print a sentence, wrapped at words to the terminal's width; to 80 columns in a pipe."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _SENTENCE
    wrapped = textwrap.fill(
        text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    sys.stdout.write(f"{wrapped}\n")


def make_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    width: int,
    right: Collection[str] = (),
    name: str | None = None,
) -> Text:
    """A table with a line under its heading and no frame; columns without any text are left out.

    Args:
        columns: Their headings; never broken.
        rows: One text per column.
        width: Of the console, in characters.
        right: Headings of the columns that are aligned to the right (numbers); never broken.
        name: Heading of the column whose texts are names, shortened where the table is too wide.
            Other texts of one word are shortened next; texts of several words are wrapped.
    """
    if rows:
        kept = [i for i in range(len(columns)) if any(row[i] for row in rows)]
        columns, rows = [columns[i] for i in kept], [[row[i] for i in kept] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(columns, *rows, strict=True)]
    names: list[str] = []
    place = columns.index(name) if name in columns else None
    texts = [i for i, column in enumerate(columns) if i != place and column not in right]
    words = [i for i in texts if not any(" " in row[i] for row in rows)]

    def narrow(index: int, least: int) -> None:
        missing = sum(widths) + _SEPARATOR * (len(widths) - 1) - width
        least = max(least, cell_len(columns[index]))
        if missing > 0 and widths[index] > least:
            widths[index] = max(widths[index] - missing, least)

    if place is not None:
        narrow(place, _SHORT_NAME)
        for index in words:
            narrow(index, _NARROWEST_WORD)
        narrow(place, _NARROWEST_NAME)
        names = _told_apart([row[place] for row in rows], widths[place])
    for index in texts:
        if index not in words:
            longest = (cell_len(word) for row in rows for word in row[index].split())
            narrow(index, max(longest, default=0))

    table = Text(overflow="fold")
    for number, row in enumerate((columns, *rows)):
        cells: list[list[str]] = []
        for index, text in enumerate(row):
            if index == place and number > 0:
                cells.append([names[number - 1]])
            elif cell_len(text) <= widths[index]:
                cells.append([text])
            elif index in words:
                cells.append([text[: widths[index] - 1] + _CUT])
            else:
                cells.append(textwrap.wrap(text, widths[index], break_on_hyphens=False))
        for line in zip_longest(*cells, fillvalue=""):
            parts = [
                " " * gap + text if column in right else text + " " * gap
                for column, text, full in zip(columns, line, widths, strict=True)
                for gap in (full - cell_len(text),)
            ]
            shown = (" " * _SEPARATOR).join(parts).rstrip()
            # Text: brackets in a node's name are no markup.
            table.append(f"{shown}\n", style="bold" if number == 0 else None)
        if number == 0:
            table.append(_rule() * (sum(widths) + _SEPARATOR * (len(widths) - 1)) + "\n")
    table.right_crop(1)
    return table


def _rule() -> str:
    """What the line under the heading is made of; ASCII where stdout has nothing else."""
    try:
        "─".encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return "-"
    return "─"


def percent_text(percent: float) -> str:
    """A percentage with one decimal; 100.0 only where nothing is missing."""
    return f"{percent if percent >= 100.0 else min(percent, 99.9):.1f}"


def shortened(name: str, width: int) -> str:
    """A layer's name in at most ``width`` characters; a cut is marked by an ellipsis."""
    if len(name) <= width:
        return name
    return _CUT + name[-(width - 1) :]


def _told_apart(names: Sequence[str], width: int) -> list[str]:
    """Names in at most ``width`` characters; what alone tells them apart is kept."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(shortened(name, width), []).append(name)
    texts: dict[str, str] = {}
    for text, group in groups.items():
        # "features.1" and "features.17" differ in a whole word.
        differ = (at for at, chars in enumerate(zip(*group, strict=False)) if len({*chars}) > 1)
        start = len(re.sub(r"\w+$", "", group[0][: next(differ, 0)]))
        for name in group:
            rest = name[start:]
            if len(set(group)) == 1:
                texts[name] = text
            elif len(rest) < width:
                texts[name] = _CUT + rest
            else:
                head = rest[: (width - 2) // 2].partition("/")[0]
                texts[name] = _CUT + head + _CUT + rest[len(head) + 2 - width :]
    return [texts[name] for name in names]


def kept_float_lines(reasons: Mapping[str, str]) -> Iterator[str]:
    """A line per reason why nodes stay float, with the first of their names."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    for reason, found in names.items():
        more = f" and {len(found) - _NAMES} more" if len(found) > _NAMES else ""
        yield f"stays float: {', '.join(found[:_NAMES])}{more}: {reason}"
