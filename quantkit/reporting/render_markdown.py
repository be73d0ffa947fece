"""A report as GitHub's Markdown, for comments on changes and summaries of jobs."""

import re
from collections.abc import Iterable, Iterator, Sequence

from quantkit.reporting.report import Report
from quantkit.reporting.section import Column, Section, Table
from quantkit.reporting.sections import sections, title

# Punctuation that Markdown gives a meaning; a backslash takes it away, in cells of tables too.
_MARKS = re.compile(r"([\\`*_{}\[\]<>|~&$#])")


def render_markdown(report: Report) -> str:
    """The whole report; rows beyond the first ones of a long table are folded away."""
    return markdown_of(title(report), sections(report))


def markdown_of(heading: str, shown: Iterable[Section]) -> str:
    """Any sections below a heading."""
    return "".join(f"{block}\n\n" for block in _blocks(heading, shown)).rstrip("\n") + "\n"


def escaped(text: str) -> str:
    """Text that shows as it is, in one line."""
    return _MARKS.sub(r"\\\1", " ".join(text.split()))


def _blocks(heading: str, shown: Iterable[Section]) -> Iterator[str]:
    yield f"# {escaped(heading)}"
    for section in shown:
        if section.title:
            yield f"## {escaped(section.title)}"
        yield from map(escaped, section.sentences)
        if section.table is not None:
            yield from _tables(section, section.table)


def _tables(section: Section, table: Table) -> Iterator[str]:
    few = len(table.rows) if section.few is None else section.few
    if table.rows[:few]:
        yield _table(table.columns, table.rows[:few])
    if table.rows[few:]:
        which = "all" if few == 0 else f"the other {len(table.rows) - few}"
        yield f"<details><summary>{which}</summary>"
        yield _table(table.columns, table.rows[few:])
        yield "</details>"
    explained = [column for column in table.columns if column.explained]
    if explained:
        yield "<details><summary>what the columns mean</summary>"
        yield "\n".join(f"- {escaped(one.title)}: {escaped(one.explained)}" for one in explained)
        yield "</details>"


def _table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    lines = [
        [escaped(column.title) for column in columns],
        ["---:" if column.is_number else "---" for column in columns],
        *([escaped(cell) for cell in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
