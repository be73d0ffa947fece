"""A report as tables for people, worst layers first.

On a terminal, sentences and long names are wrapped to its width. In a pipe or file a row is one
line and a sentence is one line, however long.
"""

import math
from collections.abc import Callable, Iterator

from rich.console import RenderableType
from rich.text import Text

from quantkit.reporting.report import INT8_LABEL, Drop, EngineRow, Report, worst_first
from quantkit.reporting.terminal_table import (
    kept_float_lines,
    make_console,
    make_table,
    size_text,
)

_CAUSES = 5
# Noise of a third of the signal's magnitude.
_POOR_DB = 10.0


def print_report(report: Report, *, rows: int = 12) -> None:
    """Print a report to standard output.

    Args:
        report: What to show.
        rows: How many layers.
    """
    console = make_console()
    for part in render(report, rows=rows, width=console.width):
        console.print(part)


def render(report: Report, *, rows: int, width: int) -> Iterator[RenderableType]:
    """Headline, accuracy, layers (worst first), causes and what stays float, in this order."""
    skipped = f", {report.skipped} unreadable and skipped" if report.skipped else ""
    yield Text(f"{report.quantized_model} against {report.float_model}", style="bold")
    yield Text(f"{report.samples} samples{skipped}\n")
    yield _headline(report, width)
    yield Text("")
    yield from _sentences(report)
    yield Text("")
    yield from _layers(report, rows, width)
    yield from _causes(report)
    yield from _left_out(report)


def drop_sentence(drop: Drop, samples: int) -> str:
    """The drop in plain words, with its interval."""
    if drop.points == 0.0:
        change = "Top-1 does not change"
    elif drop.points > 0.0:
        change = f"Top-1 falls by {drop.points:.2f} points"
    else:
        change = f"Top-1 rises by {-drop.points:.2f} points"
    if drop.points != 0.0:
        change += ", within noise" if drop.is_noise else ", more than noise"
    return (
        f"{change} (95 % interval of the drop {drop.low:+.2f} to {drop.high:+.2f} "
        f"points, p = {drop.p_value:.2g}): {drop.right_to_wrong} of {samples} samples changed "
        f"from right to wrong, {drop.wrong_to_right} from wrong to right."
    )


def _sentences(report: Report) -> Iterator[Text]:
    if report.drop is not None:
        yield Text(drop_sentence(report.drop, report.samples))
    elif any(row.agreement_percent is not None for row in report.engines):
        yield Text("Accuracy is not measured: no labels (--labels).")
    for row in report.engines:
        if row.tied and report.drop is not None:
            yield Text(
                f"{row.label}: several best classes on {row.tied} of {report.samples} samples; "
                "the first one counts."
            )
    int8 = report.engine(INT8_LABEL)
    for name, value in int8.sqnr_db.items():
        if value < _POOR_DB:
            yield Text(
                f"Output {name!r} is far from the float network's: {_number(value)} dB in "
                f"{int8.label}."
            )
    if len(int8.sqnr_db) > 1:
        for name in int8.sqnr_db:
            values = [f"{row.label} {_number(row.sqnr_db[name])}" for row in report.engines[1:]]
            yield Text(f"SQNR of output {name!r} in dB: {', '.join(values)}")
    if report.int8_mac_percent is not None:
        yield Text(
            f"{report.int8_mac_percent:.1f} % of multiply-accumulates are in onnxruntime's integer "
            "kernels."
        )


def _headline(report: Report, width: int) -> Text:
    several = any(len(row.sqnr_db) > 1 for row in report.engines)
    cells: dict[str, Callable[[EngineRow], str]] = {
        "top-1 %": lambda row: _number(row.top1_percent),
        "top-5 %": lambda row: _number(row.top5_percent),
        "agree %": lambda row: _number(row.agreement_percent),
        # With several outputs each has a line of its own below.
        "SQNR dB": lambda row: "-" if several else _number(*row.sqnr_db.values()),
        "latency ms": lambda row: _number(row.latency_ms),
        "size": lambda row: "-" if row.size_bytes is None else size_text(row.size_bytes),
    }
    shown = {
        title: [cell(row) for row in report.engines]
        for title, cell in cells.items()
        if any(cell(row) != "-" for row in report.engines)
    }
    rows = [
        [row.label, *(column[index] for column in shown.values())]
        for index, row in enumerate(report.engines)
    ]
    return make_table(["", *shown], rows, width=width, right=shown)


def _layers(report: Report, rows: int, width: int) -> Iterator[RenderableType]:
    judged = worst_first(report.layers)
    if not judged:
        yield Text("No layer could be judged.")
        return
    yield Text(f"Layers, worst first ({min(rows, len(judged))} of {len(judged)})", style="bold")
    yield Text(
        "SQNR in dB: alone = only this layer in integers; so far = the network up to it. "
        "Saturated: codes at an end of their range, where values may be cut off.\n"
    )
    numbers = ("alone", "so far", "saturated %")
    cells = [
        [
            layer.node,
            layer.op_type,
            _number(layer.isolated_sqnr_db),
            _number(layer.accumulated_sqnr_db),
            _number(layer.saturated_percent),
        ]
        for layer in judged[:rows]
    ]
    yield make_table(["layer", "op", *numbers], cells, width=width, right=numbers, name="layer")
    yield Text("")
    if not report.causes:
        yield Text("No layer stands out.")


def _causes(report: Report) -> Iterator[Text]:
    if not report.causes:
        return
    yield Text("Causes, the worst first", style="bold")
    for cause in report.causes[:_CAUSES]:
        yield Text(f"{cause.node}: {cause.cause}: {cause.evidence}; try {cause.remedy}")
    if len(report.causes) > _CAUSES:
        yield Text(f"and {len(report.causes) - _CAUSES} more")


def _left_out(report: Report) -> Iterator[Text]:
    if report.layers_without_reference:
        yield Text(
            f"{report.layers_without_reference} integer layers are not judged: the float network "
            "has no tensors of their names."
        )
    for line in kept_float_lines(report.kept_float):
        yield Text(line)


def _number(value: float | None = None) -> str:
    if value is None:
        return "-"
    return "exact" if math.isinf(value) and value > 0 else f"{value:.2f}"
