"""Rendered reports read back: sentences and cells as a reader sees them."""

import html.parser
import io
import re
from dataclasses import dataclass, field
from itertools import pairwise

from markdown_it import MarkdownIt
from rich.console import Console

from quantkit.reporting.html.report_page import report_page
from quantkit.reporting.render_markdown import render_markdown
from quantkit.reporting.render_terminal import render
from quantkit.reporting.report import Report
from quantkit.reporting.sections import sections

Rows = list[dict[str, str]]
PIPE = 10_000


@dataclass(slots=True, eq=False)
class Parsed:
    """A form of a report.

    Attributes:
        text: All that can be read, in one line.
        tables: Name of a section -> its rows, by heading of the column.
        numbered: Texts that hold numbers outside of tables and sentences.
    """

    text: str = ""
    tables: dict[str, Rows] = field(default_factory=dict)
    numbered: list[str] = field(default_factory=list)


def in_one_line(text: str) -> str:
    return " ".join(text.split())


def terminal(report: Report, width: int = PIPE) -> str:
    """What a console of that width shows."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for part in render(report, width=width):
        console.print(part)
    file = console.file
    assert isinstance(file, io.StringIO)
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def parsed_terminal(report: Report) -> Parsed:
    text = terminal(report)
    names = {section.title: section.name for section in sections(report) if section.title}
    parsed = Parsed(text=in_one_line(text))
    name, lines = "", text.splitlines()
    for number, line in enumerate(lines):
        name = names.get(line, name)
        if line and set(line) <= {"─", "-"}:
            titles = re.split(r" {2,}", lines[number - 1].strip())
            rows = parsed.tables.setdefault(name, [])
            for row in lines[number + 1 :]:
                cells = re.split(r" {2,}", row.strip())
                if len(cells) != len(titles):
                    break
                rows.append(dict(zip(titles, cells, strict=True)))
    return parsed


def parsed_markdown(report: Report) -> Parsed:
    names = {section.title: section.name for section in sections(report)}
    parsed = Parsed()
    name, titles, cells, texts = "", list[str](), list[str](), list[str]()
    tokens = MarkdownIt("commonmark").enable("table").parse(render_markdown(report))
    for before, token in pairwise(tokens):
        if token.type == "inline":
            shown = "".join(
                " " if child.type == "softbreak" else child.content
                for child in token.children or ()
            )
            texts.append(shown)
            if before.type == "heading_open":
                name = names.get(shown, "summary")
            if before.type in ("th_open", "td_open"):
                cells.append(shown)
        elif token.type == "tr_open":
            cells = []
        elif token.type == "thead_close":
            titles = cells
        elif token.type == "tr_close" and cells is not titles and before.type == "td_close":
            parsed.tables.setdefault(name, []).append(dict(zip(titles, cells, strict=True)))
    parsed.text = in_one_line(" ".join(texts))
    return parsed


def parsed_html(report: Report) -> Parsed:
    reader = _PageReader()
    reader.feed(report_page(report))
    reader.parsed.text = in_one_line("".join(reader.texts))
    return reader.parsed


class _PageReader(html.parser.HTMLParser):
    """Tables of sections, but for what their rows open; tiles and facts by themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.parsed = Parsed()
        self.texts: list[str] = []
        self._section = ""
        self._titles: list[str] = []
        self._cells: list[str] | None = None
        self._numbered = False
        self._is_code = False
        self._in_head = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        classes = (given.get("class") or "").split()
        if tag == "section":
            self._section = given.get("id") or ""
        elif tag in ("script", "style"):
            self._is_code = True
        elif tag == "thead":
            self._in_head, self._titles = True, []
        elif tag == "tr":
            self._cells = None if self._in_head or "row" not in classes else []
        elif tag in ("th", "td"):
            if self._in_head:
                self._titles.append("")
            elif self._cells is not None:
                self._cells.append("")
        self._numbered = tag in ("dd", "p") and (
            "value" in classes or "note" in classes or tag == "dd"
        )
        if self._numbered:
            self.parsed.numbered.append("")

    def handle_endtag(self, tag: str) -> None:
        self.texts.append("" if tag == "span" else " ")
        if tag in ("script", "style"):
            self._is_code = False
        elif tag == "thead":
            self._in_head = False
        elif tag == "tr" and self._cells is not None:
            texts = [in_one_line(cell) for cell in self._cells]
            titles = [in_one_line(title) for title in self._titles]
            rows = self.parsed.tables.setdefault(self._section, [])
            rows.append(dict(zip(titles, texts, strict=True)))
            self._cells = None
        elif tag in ("dd", "p"):
            self._numbered = False

    def handle_data(self, data: str) -> None:
        if self._is_code:
            return
        self.texts.append(data)
        if self._in_head and self._titles:
            self._titles[-1] += data
        elif self._cells:
            self._cells[-1] += data
        if self._numbered:
            self.parsed.numbered[-1] += data
