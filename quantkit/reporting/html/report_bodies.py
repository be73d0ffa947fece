"""What the report's page shows in place of tables: tiles, cards, facts of a layer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from markupsafe import Markup

from quantkit.reporting.gate import judged_engine
from quantkit.reporting.html.page import render
from quantkit.reporting.html.units import (
    decibel_text,
    drop_texts,
    millisecond_text,
    percent_text,
    short_metric,
)
from quantkit.reporting.layer import Layer
from quantkit.reporting.numbers import MISSING, class_name, count, real, size
from quantkit.reporting.report import ChangedPrediction, Drop, EngineRow, Report
from quantkit.reporting.section import Table

_Number = TypeVar("_Number", int, float)
_TEMPLATE = "report_parts.html"


@dataclass(frozen=True, slots=True)
class Tile:
    """A number of the headline, and what it is compared with."""

    title: str
    value: str
    note: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Who says what of a sample; ``tone`` is "right", "wrong" or ""."""

    title: str
    text: str
    tone: str = ""


def headline_tiles(report: Report) -> Markup:
    """The numbers most people come for; those that were not measured are left out."""
    before = report.engines[0]
    after = judged_engine(report) or before
    metric = short_metric(report.metric or "")
    made = [
        _compared("Top-1", before, after, lambda row: row.top1_percent, percent_text),
        None if report.drop is None else _drop_tile(report.drop),
        _compared(metric, before, after, lambda row: row.metric, real),
        _alone("Same class", after.agreement_percent, percent_text, f"as {before.label}"),
        *(
            _alone("SQNR", db, decibel_text, f"of {name}")
            for name, db in list(after.sqnr_db.items())[:2]
        ),
        _compared("Latency", before, after, lambda row: row.latency_ms, millisecond_text),
        _compared("Size", before, after, lambda row: row.size_bytes, size),
    ]
    return render(_TEMPLATE, "tiles", [tile for tile in made if tile is not None])


def cause_cards(report: Report) -> Markup:
    """Causes, the worst first, each with what to try."""
    cards = [
        {
            "node": cause.node,
            "title": cause.cause,
            "evidence": cause.evidence,
            "share": cause.noise_percent,
            "share_text": ""
            if cause.noise_percent is None
            else f"{percent_text(cause.noise_percent)} of the outputs' noise",
            "remedy": cause.remedy.text,
        }
        for cause in report.causes
    ]
    return render(_TEMPLATE, "causes", cards)


def picture_cards(report: Report) -> Markup:
    """Samples that changed, with both answers."""
    cards = [
        {
            "name": sample.sample,
            "alt": f"What the networks saw of {sample.sample}",
            "picture": sample.picture,
            "answers": _answers(sample, report.class_names),
        }
        for sample in report.changed
    ]
    return render(_TEMPLATE, "pictures", cards)


def layer_facts(layer: Layer, table: Table, row: Sequence[str]) -> Markup:
    """What a layer's row opens, beside its plots.

    Args:
        layer: The layer.
        table: That of its ranges and sums.
        row: The layer's row in it; empty where it has none.
    """
    facts = [("tensor", layer.value)]
    if layer.kept_float is not None:
        facts.append(("stays float", layer.kept_float))
    facts.extend(
        (column.title, text)
        for column, text in zip(table.columns[1:], row[1:], strict=False)
        if text != MISSING
    )
    if layer.accumulator is not None:
        facts.append(("accumulator bits", count(layer.accumulator.bits)))
    return render(_TEMPLATE, "facts", facts)


def _answers(sample: ChangedPrediction, names: Sequence[str]) -> list[Answer]:
    def answer(title: str, number: int) -> Answer:
        tone = "" if sample.label is None else "right" if number == sample.label else "wrong"
        return Answer(title, class_name(number, names), tone)

    said = [answer("float", sample.float_class), answer("int8", sample.int8_class)]
    if sample.label is not None:
        said.insert(0, Answer("is", class_name(sample.label, names)))
    said.append(Answer("margin", real(sample.float_margin)))
    return said


def _drop_tile(drop: Drop) -> Tile:
    low, points, high = drop_texts(drop)
    return Tile(f"Drop of {drop.metric}", points, f"{drop.unit}, 95 % interval {low} to {high}")


def _compared(
    title: str,
    before: EngineRow,
    after: EngineRow,
    get: Callable[[EngineRow], _Number | None],
    text: Callable[[_Number], str],
) -> Tile | None:
    first, second = get(before), get(after)
    if first is None or second is None:
        return None
    return Tile(title, text(second), f"{before.label} {text(first)}")


def _alone(title: str, value: float | None, text: Callable[[float], str], note: str) -> Tile | None:
    return None if value is None else Tile(title, text(value), note)
