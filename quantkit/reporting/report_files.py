"""A report as a file, in the form that its suffix names."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from quantkit.errors import ConfigError, UnknownNameError
from quantkit.graph.partial_file import partial_file
from quantkit.reporting.gate import NO_LIMITS, Limits
from quantkit.reporting.render_csv import render_csv
from quantkit.reporting.render_junit import render_junit
from quantkit.reporting.render_markdown import render_markdown
from quantkit.reporting.report import Report

Form = Callable[[Report, Limits], str]


def _html(report: Report, limits: Limits) -> str:
    # The templates and the plotting program take a moment to read.
    from quantkit.reporting.html.report_page import report_page

    return report_page(report)


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        ".html": _html,
        ".md": lambda report, limits: render_markdown(report),
        ".json": lambda report, limits: f"{report.model_dump_json(indent=2)}\n",
        ".csv": lambda report, limits: render_csv(report),
        ".xml": render_junit,
    }
)
"""Suffix -> how the file is written: HTML page, Markdown, JSON, CSV of the layers, JUnit XML."""


def form_of(path: Path) -> Form:
    """How a file is written.

    Raises:
        UnknownNameError: Its suffix names no form.
    """
    form = FORMS.get(path.suffix.lower())
    if form is None:
        raise UnknownNameError(
            f"{str(path)!r}: a report has no form {path.suffix!r}; known: {', '.join(FORMS)}"
        )
    return form


def write_report(report: Report, path: Path, limits: Limits = NO_LIMITS) -> None:
    """Write a report; a file of that name is replaced once the new one is whole.

    Args:
        report: What was measured.
        path: Its suffix names the form, see :data:`FORMS`.
        limits: What JUnit XML judges.

    Raises:
        UnknownNameError: The suffix names no form.
        ConfigError: The file cannot be written.
    """
    # Names of samples may hold bytes that are no text.
    data = form_of(path)(report, limits).encode("utf-8", errors="replace")
    try:
        with partial_file(path) as partial:
            partial.write_bytes(data)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"{str(path)!r} cannot be written: {reason}") from error
