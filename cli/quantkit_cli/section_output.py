"""Sections on the terminal and in a file, whose suffix tells the form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from quantkit_cli.outputs import check_output

if TYPE_CHECKING:
    from quantkit.reporting.section import Section

Forms = Mapping[str, Callable[[], str]]
"""Suffix of a file -> its text."""


def print_sections(heading: str, sections: Iterable[Section]) -> None:
    """Print sections to stdout, fitted to the terminal."""
    from quantkit.reporting.render_terminal import render_sections
    from quantkit.reporting.terminal_table import make_console

    console = make_console()
    for part in render_sections(heading, sections, width=console.width):
        console.print(part)


def check_form(path: Path | None, suffixes: Iterable[str], inputs: Iterable[Path]) -> None:
    """Refuse a file that no form is written to, before the work is done.

    Raises:
        ConfigError: Another suffix, or a place that cannot be written to.
    """
    from quantkit.errors import ConfigError

    if path is None:
        return
    known = ", ".join(suffixes)
    if path.suffix.lower() not in suffixes:
        raise ConfigError(f"--output {str(path)!r}: the suffix tells the form; use one of {known}")
    check_output(path, inputs=inputs)


def tell_written(path: Path | None) -> None:
    """A last line on stdout that names the file, if one was written."""
    if path is not None:
        print(f"\nwrote {path}")


def write_form(path: Path | None, forms: Forms) -> None:
    """Write the form of the file's suffix, whole or not at all."""
    from quantkit.graph.partial_file import partial_file

    if path is not None:
        text = forms[path.suffix.lower()]()
        with partial_file(path) as part:
            part.write_text(text, encoding="utf-8")
