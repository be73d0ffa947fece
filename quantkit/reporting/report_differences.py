"""What differs between two reports, as plain data; nothing is rendered here."""

import codecs
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from quantkit.errors import ConfigError
from quantkit.reporting.layer import Layer
from quantkit.reporting.model_differences import FieldDifference, field_differences
from quantkit.reporting.plain_data import Frozen
from quantkit.reporting.report import Cause, EngineRow, Report

Unit = Literal["percent", "decibels", "milliseconds", "bytes", "count", "real"]


class NumberPair(Frozen):
    """A headline number of both reports.

    Attributes:
        name: What it is.
        unit: What it is measured in; ``top-1`` of a network is in per cent.
        first: None where the first report has no such number.
        second: None where the second has not.
    """

    name: str
    unit: Unit
    first: float | None
    second: float | None

    @property
    def difference(self) -> float | None:
        """Second minus first; None where one is missing or both are infinite."""
        if self.first is None or self.second is None:
            return None
        difference = self.second - self.first
        return None if math.isnan(difference) else difference


class LayerDifference(Frozen):
    """A layer that loses more or less, or that one report alone has.

    Attributes:
        node: The layer's name.
        op_type: Its op.
        first: Its isolated SQNR in dB; None where it is float, or not in the report.
        second: That of the second report.
        first_accumulated: SQNR in dB of the same tensor with the network up to here in integers;
            None where the report has no such layer.
        second_accumulated: That of the second report.
    """

    node: str
    op_type: str
    first: float | None
    second: float | None
    first_accumulated: float | None
    second_accumulated: float | None

    @property
    def change(self) -> float:
        """How many dB the larger of both changes is; infinite where a number is missing."""
        pairs = ((self.first, self.second), (self.first_accumulated, self.second_accumulated))
        return max(_distance(*pair) for pair in pairs)


class ReportDifferences(Frozen):
    """Two reports, compared.

    Attributes:
        kind: Tells this JSON from that of two models.
        first: File name.
        second: File name.
        numbers: The headline, those that are the same too.
        layers: Those whose SQNR changed, the most first.
        compared_layers: How many layers both reports have.
        appeared: Causes of the second report alone.
        disappeared: Causes of the first alone.
        fields: What was measured, which layers stay float and why, provenance: what differs.
        is_same: Whether nothing differs but latencies: a clock reads otherwise at every run.
    """

    kind: Literal["reports"] = "reports"
    first: str
    second: str
    numbers: tuple[NumberPair, ...]
    layers: tuple[LayerDifference, ...]
    compared_layers: int
    appeared: tuple[Cause, ...]
    disappeared: tuple[Cause, ...]
    fields: tuple[FieldDifference, ...]
    is_same: bool


def read_report(path: Path) -> Report:
    """Read what ``quantkit report`` wrote as JSON.

    Raises:
        ConfigError: The file is no such report; the first thing that is wrong is named.
    """
    try:
        return Report.model_validate_json(path.read_bytes().removeprefix(codecs.BOM_UTF8))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{str(path)!r} is JSON, but no report of this version of quantkit: "
            f"{f'{where}: ' if where else ''}{first['msg']}; write it with `quantkit report`"
        ) from error


def compare_reports(names: tuple[str, str], first: Report, second: Report) -> ReportDifferences:
    """Compare two reports.

    Args:
        names: Their file names.
        first: A report.
        second: Another.
    """
    old, new = ({(c.node, c.cause): c for c in report.causes} for report in (first, second))
    return ReportDifferences(
        first=names[0],
        second=names[1],
        numbers=tuple(_numbers(first, second)),
        layers=_layers(first, second),
        compared_layers=len({_.node for _ in first.layers} & {_.node for _ in second.layers}),
        appeared=tuple(cause for key, cause in new.items() if key not in old),
        disappeared=tuple(cause for key, cause in old.items() if key not in new),
        fields=field_differences(_fields(first), _fields(second)),
        is_same=_without_latencies(first) == _without_latencies(second),
    )


def _without_latencies(report: Report) -> Report:
    engines = tuple(row.model_copy(update={"latency_ms": None}) for row in report.engines)
    return report.model_copy(update={"engines": engines})


def _fields(report: Report) -> dict[str, str]:
    return {
        "float model": report.float_model or "none",
        "quantized model": report.quantized_model,
        "samples": str(report.samples),
        "layer samples": str(report.layer_samples),
        "metric": report.metric or "none",
        **{f"stays float: {node}": reason for node, reason in report.kept_float.items()},
        **report.provenance,
    }


def _numbers(first: Report, second: Report) -> Iterator[NumberPair]:
    old, new = dict(_headline(first)), dict(_headline(second))
    for name, unit in dict.fromkeys((*old, *new)):
        key = (name, unit)
        yield NumberPair(name=name, unit=unit, first=old.get(key), second=new.get(key))


def _headline(report: Report) -> Iterator[tuple[tuple[str, Unit], float | None]]:
    for row in report.engines:
        for key, value in _engine_numbers(row, report.metric or "metric"):
            if value is not None:
                yield key, value
    for drop in filter(None, (report.drop, report.metric_drop)):
        unit: Unit = "percent" if drop.unit == "points" else "real"
        yield (f"drop of {drop.metric}", unit), drop.points
    yield ("changed predictions", "count"), report.changed_count
    cost = report.cost
    yield ("MACs", "count"), cost.macs
    yield ("MACs in int8", "percent"), cost.int8_mac_percent
    yield ("peak activation memory, float", "bytes"), cost.float_peak_bytes
    yield ("peak activation memory, int8", "bytes"), cost.int8_peak_bytes


def _engine_numbers(row: EngineRow, metric: str) -> Iterator[tuple[tuple[str, Unit], float | None]]:
    yield (f"top-1, {row.label}", "percent"), row.top1_percent
    yield (f"top-5, {row.label}", "percent"), row.top5_percent
    yield (f"{metric}, {row.label}", "real"), row.metric
    yield (f"agreement, {row.label}", "percent"), row.agreement_percent
    for output, value in row.sqnr_db.items():
        yield (f"SQNR of {output}, {row.label}", "decibels"), value
    yield (f"latency, {row.label}", "milliseconds"), row.latency_ms
    yield (f"size, {row.label}", "bytes"), row.size_bytes


def _layers(first: Report, second: Report) -> tuple[LayerDifference, ...]:
    old, new = ({layer.node: layer for layer in report.layers} for report in (first, second))
    found = [_layer(name, old.get(name), new.get(name)) for name in dict.fromkeys((*old, *new))]
    return tuple(
        sorted((layer for layer in found if layer.change), key=lambda layer: -layer.change)
    )


def _layer(node: str, first: Layer | None, second: Layer | None) -> LayerDifference:
    known = first or second
    assert known is not None
    return LayerDifference(
        node=node,
        op_type=known.op_type,
        first=None if first is None else first.isolated_sqnr_db,
        second=None if second is None else second.isolated_sqnr_db,
        first_accumulated=None if first is None else first.accumulated_sqnr_db,
        second_accumulated=None if second is None else second.accumulated_sqnr_db,
    )


def _distance(first: float | None, second: float | None) -> float:
    if first == second:
        return 0.0
    return math.inf if first is None or second is None else abs(second - first)
