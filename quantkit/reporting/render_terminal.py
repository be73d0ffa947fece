"""A report as tables for people, worst layers first."""

import math

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from quantkit.reporting.report import INT8_LABEL, Drop, Report, worst_first


def render_terminal(report: Report, *, rows: int = 12) -> RenderableType:
    """Headline, layers (worst first) and causes.

    Args:
        report: What to show.
        rows: How many layers.
    """
    parts: list[RenderableType] = [
        Text(f"{report.quantized_model} against {report.float_model}", style="bold"),
        Text(f"{report.samples} samples"),
        _headline(report),
    ]
    if report.drop is not None:
        parts.append(Text(drop_sentence(report.drop, report.samples)))
    if report.int8_mac_percent is not None:
        parts.append(
            Text(f"{report.int8_mac_percent:.1f} % of multiply-accumulates are in integer kernels")
        )
    parts += [Text(""), _layers(report, rows)]
    if report.causes:
        parts.append(Text("\nCauses", style="bold"))
        for cause in report.causes[:5]:
            parts.append(Text(f"- {cause.node}: {cause.cause}: {cause.evidence}"))
            parts.append(Text(f"  try {cause.remedy}"))
        if len(report.causes) > 5:
            parts.append(Text(f"  and {len(report.causes) - 5} more"))
    else:
        parts.append(Text("\nNo layer stands out."))
    return Group(*parts)


def drop_sentence(drop: Drop, samples: int) -> str:
    """The drop in plain words, with its interval."""
    flips = (
        f"{drop.right_to_wrong} of {samples} samples changed from right to wrong, "
        f"{drop.wrong_to_right} from wrong to right"
    )
    interval = f"95 % interval {drop.low:+.2f} to {drop.high:+.2f} points, p = {drop.p_value:.2g}"
    verdict = "is within noise" if drop.is_noise else "is real"
    return f"{flips}: the drop of {drop.points:+.2f} points {verdict} ({interval})."


def print_report(report: Report, console: Console | None = None) -> None:
    """Print to a console (standard output where none is given)."""
    (console or Console()).print(render_terminal(report))


def _headline(report: Report) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for title in ("top-1 %", "top-5 %", "agreement %", "SQNR dB", "latency ms", "size MB"):
        table.add_column(title, justify="right")
    for engine in report.engines:
        sqnr = ", ".join(_number(value) for value in engine.sqnr_db.values())
        table.add_row(
            engine.label,
            _number(engine.top1_percent),
            _number(engine.top5_percent),
            _number(engine.agreement_percent),
            sqnr or "-",
            _number(engine.latency_ms),
            _number(None if engine.size_bytes is None else engine.size_bytes / 1e6),
        )
    return table


def _layers(report: Report, rows: int) -> Table:
    layers = worst_first(report.layers)
    shown = layers[:rows]
    title = f"Layers, worst first ({len(shown)} of {len(layers)})"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    table.add_column("layer", overflow="fold")
    table.add_column("op")
    for column in ("alone dB", "so far dB", "saturated %"):
        table.add_column(column, justify="right")
    for layer in shown:
        table.add_row(
            layer.node,
            layer.op_type,
            _number(layer.isolated_sqnr_db),
            _number(layer.accumulated_sqnr_db),
            _number(layer.saturated_percent),
        )
    return table


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return "exact" if math.isinf(value) and value > 0 else f"{value:.2f}"


__all__ = ["INT8_LABEL", "drop_sentence", "print_report", "render_terminal"]
