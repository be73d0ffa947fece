"""``quantkit diff``: what differs between two quantized models or two reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quantkit_cli.console import Quiet, Verbose
from quantkit_cli.data_options import AsJson
from quantkit_cli.section_output import check_form, print_sections, tell_written, write_form

_SUFFIXES = (".md", ".html", ".json")
_DIFFERENT = 1


def diff(
    first: Annotated[
        Path, typer.Argument(metavar="A", help="A quantized ONNX model, or a report as JSON.")
    ],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another of the same kind.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Also write all of it: FILE.md, .html or .json."),
    ] = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 1 if anything differs.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Compare two quantized models of any tools, or two reports.

    Models: nodes, what stays float, scales, zero points, weight codes, biases, recipe. Reports:
    accuracy, layers, causes, provenance; latencies are shown, but are no difference.
    """
    check_form(output, _SUFFIXES, (first, second))
    from quantkit.pipeline.differences import diff as compare
    from quantkit.reporting.difference_sections import difference_sections

    found = compare(first, second)
    sections = difference_sections(found)
    heading = f"{first.name} against {second.name}"

    def markdown() -> str:
        from quantkit.reporting.render_markdown import markdown_of

        return markdown_of(heading, sections)

    def html() -> str:
        from quantkit.reporting.html.page import Part, page

        return page("Differences", heading, "first against second", [Part(s) for s in sections])

    def json() -> str:
        return found.model_dump_json(indent=2) + "\n"

    write_form(output, {".md": markdown, ".html": html, ".json": json})
    if as_json:
        print(json(), end="")
    else:
        print_sections(heading, sections)
        tell_written(output)
    if exit_code and not found.is_same:
        raise typer.Exit(_DIFFERENT)
