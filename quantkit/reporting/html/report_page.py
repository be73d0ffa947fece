"""A report as one HTML file."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from quantkit.reporting.html.page import Part, page
from quantkit.reporting.html.report_bodies import (
    cause_cards,
    headline_tiles,
    layer_facts,
    picture_cards,
)
from quantkit.reporting.html.report_figures import (
    drop_figures,
    engine_figures,
    layer_figure,
    opened_figures,
    split_figures,
)
from quantkit.reporting.layer_sections import ranges
from quantkit.reporting.numbers import count
from quantkit.reporting.report import Report
from quantkit.reporting.section import Table
from quantkit.reporting.sections import sections


def report_page(report: Report) -> str:
    """The page of a report.

    Returns:
        HTML that needs nothing else, and no network.
    """
    parts = []
    for section in sections(report):
        illustrate = _ILLUSTRATED.get(section.name)
        part = Part(section)
        parts.append(part if illustrate is None else illustrate(part, report))
    reference = f"against {report.float_model}" if report.float_model else "without a float model"
    subtitle = f"{reference}, {count(report.samples)} samples"
    return page("Accuracy report", report.quantized_model, subtitle, parts)


def _summary(part: Part, report: Report) -> Part:
    return replace(part, lead=headline_tiles(report), figures=drop_figures(report))


def _engines(part: Part, report: Report) -> Part:
    return replace(part, figures=engine_figures(report))


def _split(part: Part, report: Report) -> Part:
    return replace(part, figures=split_figures(report))


def _layers(part: Part, report: Report) -> Part:
    """Rows open to what the section of ranges says of the layer, and to its plots."""
    told = ranges(report)
    table = (told and told.table) or Table((), ())
    rows = dict(zip(table.keys, table.rows, strict=True))
    plot = layer_figure(report)
    return replace(
        part,
        figures=() if plot is None else (plot,),
        opened={
            layer.node: layer_facts(layer, table, rows.get(layer.node, ()))
            for layer in report.layers
        },
        opened_figures={
            layer.node: opened_figures(layer, index) for index, layer in enumerate(report.layers)
        },
    )


def _causes(part: Part, report: Report) -> Part:
    return replace(part, body=cause_cards(report)) if report.causes else part


def _changed(part: Part, report: Report) -> Part:
    pictured = any(sample.picture for sample in report.changed)
    return replace(part, body=picture_cards(report)) if pictured else part


# By the names that ``sections`` gives.
_ILLUSTRATED: Mapping[str, Callable[[Part, Report], Part]] = {
    "summary": _summary,
    "engines": _engines,
    "split": _split,
    "layers": _layers,
    "causes": _causes,
    "changed": _changed,
}
