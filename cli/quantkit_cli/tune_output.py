"""What ``quantkit tune`` says: the layers, the frontier and the choice, for people and as JSON."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantkit_cli.console import print_table

if TYPE_CHECKING:
    from quantkit.pipeline import Tuning
    from quantkit.pipeline.tuning_result import Point

_LAYERS = 10
_SHOWN = 5
_KEPT = {"float": "float", "16bit": "16 bits"}


def print_tuning(found: Tuning, model: Path, output: Path, state: Path) -> None:
    """Print the most sensitive layers, the frontier, and what was chosen."""
    from quantkit.reporting.accuracy_sections import drop_sentence
    from quantkit.reporting.terminal_table import print_sentence

    _print_layers(found)
    _print_frontier(found)
    samples = f"these {found.samples} samples"
    chosen = found.chosen
    if found.only_float_meets:
        print_sentence(f"Only the float network meets {limit_text(found)} on {samples}.")
    elif not found.is_met:
        print_sentence(f"No set of layers found meets {limit_text(found)} on {samples}.")
    elif not chosen.kept:
        print_sentence(
            f"All layers in int8 meet {limit_text(found)} on {samples}: "
            f"{_value(chosen.value, found.unit)}. Nothing is kept in {_KEPT[found.keep]}."
        )
    else:
        print_sentence(
            f"Kept in {_KEPT[found.keep]}, {_names(chosen.kept)}: meets {limit_text(found)} on "
            f"{samples}: {_value(chosen.value, found.unit)}."
        )
    if found.drop is not None:
        print_sentence(drop_sentence(found.drop, found.samples))
    print_sentence("Other samples may say otherwise: judge the model with `quantkit report`.")
    known = f", {found.known_measurements} known" if found.known_measurements else ""
    print(f"{_counted(found.measurements, 'measurement')} made{known}, all are in {state}")
    print(f"wrote {output}: quantkit quantize {model} DATA --recipe {output}")


def tuning_facts(found: Tuning, output: Path, state: Path) -> dict[str, Any]:
    """All that was found, as JSON types; an infinite SQNR is null."""
    macs = _mac_shares(found)
    return {
        "output": str(output),
        "state": str(state),
        "metric": found.metric,
        "unit": found.unit,
        "float_value": _finite(found.float_value),
        "limit": found.limit,
        "is_met": found.is_met,
        "keep": found.keep,
        "samples": found.samples,
        "ranking_samples": found.ranking_samples,
        "measurements": found.measurements,
        "known_measurements": found.known_measurements,
        "layers": [
            {
                "name": each.layer.name,
                "op_type": each.layer.op_type,
                "nodes": list(each.layer.nodes),
                "macs": each.layer.macs,
                "mac_percent": macs[each.layer.name],
                "alone_sqnr_db": _finite(each.alone_db),
                "without_sqnr_db": _finite(each.without_db),
            }
            for each in found.ranking
        ],
        "float_latency_ms": found.float_latency_ms,
        "frontier": [_point_facts(point) for point in found.frontier],
        "chosen": _point_facts(found.chosen),
        "drop": None if found.drop is None else found.drop.model_dump(),
        "config": found.config.model_dump(),
    }


def limit_text(found: Tuning) -> str:
    """The limit in words."""
    limit = _value(found.limit, found.unit)
    if found.metric == "sqnr":
        return f"an SQNR of at least {limit}"
    return f"{found.metric} of at least {limit} (float: {_value(found.float_value, found.unit)})"


def recipe_comments(found: Tuning, model: Path) -> list[str]:
    """What the recipe says of itself."""
    verb = "meets" if found.is_met else "misses"
    value = _value(found.chosen.value, found.unit)
    sqnr = "" if found.metric == "sqnr" else f", SQNR {_db(found.chosen.sqnr_db)} dB"
    return [
        f"quantkit tune {model.name}: {verb} {limit_text(found)}",
        f"on {found.samples} samples: {value}{sqnr}",
    ]


def _print_layers(found: Tuning) -> None:
    macs = _mac_shares(found)
    rows = [
        (
            each.layer.name,
            each.layer.op_type,
            _percent(macs[each.layer.name]),
            _db(each.alone_db),
            _db(each.without_db),
        )
        for each in found.ranking[:_LAYERS]
    ]
    more = len(found.ranking) - len(rows)
    most = f", the {len(rows)} most sensitive" if more > 0 else ""
    columns = ("layer", "op", "MACs %", "only it dB", "all but it dB")
    print_table(
        columns,
        rows,
        right=columns[2:],
        name="layer",
        title=f"{_counted(len(found.ranking), 'layer')}{most}: SQNR of the outputs on "
        f"{found.ranking_samples} samples with only this layer in int8, and with all but it",
    )


def _print_frontier(found: Tuning) -> None:
    value = f"{found.metric} {found.unit}".strip()
    kept = f"in {_KEPT[found.keep]}"
    rows = [
        (
            str(len(point.kept)),
            "" if found.metric == "sqnr" else _number(point.value),
            _db(point.sqnr_db),
            _percent(point.int8_mac_percent),
            f"{point.latency_ms:.2f}",
            "chosen" if point is found.chosen else "",
        )
        for point in found.frontier
    ]
    reference = "" if found.metric == "sqnr" else _number(found.float_value)
    rows.append(
        ("all (float)", reference, _db(math.inf), "0.0", f"{found.float_latency_ms:.2f}", "")
    )
    columns = (kept, value, "SQNR dB", "MACs in int8 %", "latency ms", "")
    print_table(
        columns,
        rows,
        right=columns[1:5],
        title=f"Frontier on {found.samples} samples (latency in onnxruntime, one sample)",
    )


def _point_facts(point: Point) -> dict[str, Any]:
    return {
        "kept": list(point.kept),
        "value": _finite(point.value),
        "sqnr_db": _finite(point.sqnr_db),
        "int8_mac_percent": point.int8_mac_percent,
        "latency_ms": point.latency_ms,
    }


def _mac_shares(found: Tuning) -> dict[str, float | None]:
    known = [layer.macs for layer in found.layers if layer.macs is not None]
    total = sum(known) if len(known) == len(found.layers) else 0
    return {
        layer.name: 100.0 * (layer.macs or 0) / total if total else None for layer in found.layers
    }


def _names(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{_counted(len(names), 'layer')} ({', '.join(names[:_SHOWN])}{more})"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _value(value: float, unit: str) -> str:
    return "exact" if value == math.inf else f"{_number(value)} {unit}".strip()


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 1.0 or value == 0.0 else f"{value:.4g}"


def _db(value: float) -> str:
    return "exact" if value == math.inf else f"{round(value, 2) + 0.0:.2f}"  # not -0.00


def _percent(value: float | None) -> str:
    return "?" if value is None else f"{value:.1f}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
