"""``quantkit inspect``: what a network costs and what would run in integers, before any data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quantkit_cli.console import Quiet, Verbose
from quantkit_cli.section_output import check_form, print_sections, tell_written, write_form

_SUFFIXES = (".html", ".md", ".json", ".csv")


def inspect(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX model.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Also write it: FILE.html, .md, .json or .csv."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Show what every layer costs, and what stays float and why.

    Also what was folded on the way, memory and size before and after, and what depthwise separable
    blocks save against standard convolutions. No data are needed. Of a quantized model: what is in
    integers, and who made it.
    """
    check_form(output, _SUFFIXES, (model,))
    from quantkit.pipeline.inspection import inspect_model
    from quantkit.reporting.inspection_sections import inspection_sections

    found = inspect_model(model)
    sections = inspection_sections(found)

    def html() -> str:
        from quantkit.reporting.html.inspect_page import inspect_page

        blocks = [block.cost() for block in found.separable_blocks]
        return inspect_page(model.name, sections, found.layers, blocks)

    def markdown() -> str:
        from quantkit.reporting.render_markdown import markdown_of

        return markdown_of(model.name, sections)

    def json() -> str:
        return found.model_dump_json(indent=2) + "\n"

    def csv() -> str:
        from quantkit.reporting.inspection_csv import inspection_csv

        return inspection_csv(found)

    write_form(output, {".html": html, ".md": markdown, ".json": json, ".csv": csv})
    if as_json:
        print(json(), end="")
    else:
        print_sections(str(model), sections)
        tell_written(output)
