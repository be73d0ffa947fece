"""One HTML file that holds everything: text, tables, plots, the program that draws them.

It makes no network request, and a content security policy forbids any: the browser runs the scripts
whose digests stand in it and nothing else, so that no name of a node or a class can become one.
"""

import base64
import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from quantkit.reporting.html.embedded_json import Plain, embedded_json
from quantkit.reporting.html.sort_value import javascript_sort_value
from quantkit.reporting.section import Section

_FOLDER = Path(__file__).parent
_STYLES = ("page.css", "tables.css", "parts.css", "print.css")
# Before anything is shown: what only scripts can open is closed, so that nothing moves later.
_FIRST = "document.documentElement.classList.add('scripted')"
# In the order of use; together they are one module.
_SCRIPTS = ("figures.js", "plots.js", "tables.js")


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """A plot that ``figures.js`` draws.

    Attributes:
        kind: Which of its functions draws it.
        name: Of the element; one of a kind in the page.
        title: Above it.
        described: What is to be seen, for those who do not see it.
        height: In pixels; kept free before the plot is drawn, so that nothing moves.
        data: What that function takes.
        legend: Name of a colour -> what it stands for.
    """

    kind: str
    name: str
    title: str
    described: str
    height: int
    data: Mapping[str, Plain]
    legend: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A section and what this form alone has.

    Attributes:
        section: Text and table.
        lead: Markup before the text; None: none.
        figures: Before the table.
        body: Markup in place of the table; None: the table.
        opened: Key of a row -> what opens below it.
        opened_figures: Key of a row -> the plots there, drawn when it is opened.
    """

    section: Section
    lead: Markup | None = None
    figures: tuple[Figure, ...] = ()
    body: Markup | None = None
    opened: Mapping[str, Markup] = field(default_factory=dict)
    opened_figures: Mapping[str, tuple[Figure, ...]] = field(default_factory=dict)


def page(kind: str, title: str, subtitle: str, parts: Sequence[Part]) -> str:
    """A page.

    Args:
        kind: What the page is, in a word or two.
        title: What it is about: the model's name.
        subtitle: A line below it.
        parts: The first is the summary and needs no title.

    Returns:
        HTML: one file, complete.
    """
    figures = [
        figure
        for part in parts
        for figure in (*part.figures, *(f for row in part.opened_figures.values() for f in row))
    ]
    data: Plain = {figure.name: {"kind": figure.kind, **figure.data} for figure in figures}
    scripts = (_FIRST, get_plotlyjs(), _joined(_SCRIPTS))
    return (
        environment()
        .get_template("page.html")
        .render(
            kind=kind,
            title=title,
            subtitle=subtitle,
            parts=parts,
            style=Markup(_joined(_STYLES)),
            scripts=[Markup(script) for script in scripts],
            digests=[_digest(script) for script in scripts],
            data=embedded_json(data),
        )
    )


@functools.cache
def environment() -> jinja2.Environment:
    """The templates. Everything they are given is escaped."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["sort_value"] = javascript_sort_value
    templates.filters["breakable"] = _breakable
    return templates


def render(template: str, macro: str, *arguments: object) -> Markup:
    """What a macro of a template makes of its arguments."""
    return Markup(getattr(environment().get_template(template).module, macro)(*arguments))


def _breakable(name: str) -> Markup:
    """A path may be broken behind its slashes: names of layers are long and have no spaces."""
    return Markup("/<wbr>").join(name.split("/"))


def _joined(names: Sequence[str]) -> str:
    return "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in names)


def _digest(script: str) -> str:
    # As the browser computes it: of the element's text, which ``page.html`` writes unchanged.
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
