"""The plots of a report."""

from collections.abc import Callable, Mapping, Sequence

from quantkit.reporting.html.embedded_json import Plain
from quantkit.reporting.html.page import Figure
from quantkit.reporting.html.units import (
    decibel_text,
    drop_texts,
    millisecond_text,
    percent_text,
    short_metric,
)
from quantkit.reporting.layer import Layer, TensorRange, WeightRanges
from quantkit.reporting.numbers import real, size
from quantkit.reporting.report import (
    FLOAT_LABEL,
    INT8_LABEL,
    INTEGER_LABEL,
    Drop,
    EngineRow,
    Report,
)

_BAR = 34
_TONES = {FLOAT_LABEL: "first", INT8_LABEL: "second", INTEGER_LABEL: "third"}
_Text = Callable[[float], str]


def drop_figures(report: Report) -> tuple[Figure, ...]:
    """What was lost, with the interval that holds it."""
    drops = (("drop", report.drop), ("metric-drop", report.metric_drop))
    return tuple(_interval(name, drop) for name, drop in drops if drop is not None)


def engine_figures(report: Report) -> tuple[Figure, ...]:
    """Accuracy, time and size, before and after; only what was measured of two or more."""
    quantities: tuple[tuple[str, str, Callable[[EngineRow], float | None], _Text], ...] = (
        ("top1", "Top-1", lambda row: row.top1_percent, percent_text),
        ("top5", "Top-5", lambda row: row.top5_percent, percent_text),
        ("metric", short_metric(report.metric or ""), lambda row: row.metric, real),
        ("latency", "Latency", lambda row: row.latency_ms, millisecond_text),
        ("size", "Size of the file", lambda row: row.size_bytes, lambda value: size(int(value))),
    )
    made = (
        _bars(f"engines-{name}", title, [(row.label, get(row)) for row in report.engines], text)
        for name, title, get, text in quantities
    )
    return tuple(figure for figure in made if figure is not None)


def split_figures(report: Report) -> tuple[Figure, ...]:
    """What weights alone and activations alone lose."""
    outputs = sorted({output for row in report.split for output in row.sqnr_db})
    made = [
        _bars(
            f"split-sqnr-{index}",
            f"SQNR of {output}" if len(outputs) > 1 else "SQNR of the output",
            [(row.label, row.sqnr_db.get(output)) for row in report.split],
            decibel_text,
        )
        for index, output in enumerate(outputs)
    ]
    agreement = [(row.label, row.agreement_percent) for row in report.split]
    top1 = [(row.label, row.top1_percent) for row in report.split]
    made.append(
        _bars("split-agreement", "Same class as the float network", agreement, percent_text)
    )
    made.append(_bars("split-top1", "Top-1", top1, percent_text))
    return tuple(figure for figure in made if figure is not None)


def layer_figure(report: Report) -> Figure | None:
    """SQNR of every layer, in the graph's order."""
    panels: tuple[tuple[str, str, Callable[[Layer], float | None]], ...] = (
        (
            "Network's outputs, this layer alone",
            "second",
            lambda layer: layer.network_sqnr_db,
        ),
        ("Layer's output, this layer alone", "third", lambda layer: layer.isolated_sqnr_db),
        ("Layer's output, all layers so far", "first", lambda layer: layer.accumulated_sqnr_db),
    )
    measured = (
        (title, tone, [get(layer) for layer in report.layers]) for title, tone, get in panels
    )
    series = [
        {
            "title": title,
            "unit": " dB",
            "values": values,
            "texts": ["not measured" if value is None else decibel_text(value) for value in values],
            "tones": [tone] * len(values),
        }
        for title, tone, values in measured
        if any(value is not None for value in values)
    ]
    if not series:
        return None
    return Figure(
        kind="layers",
        name="layers-sqnr",
        title="SQNR per layer: the lower the bar, the more is lost",
        described="Bars of the SQNR of every layer; the table below holds the same numbers.",
        height=70 + 120 * len(series),
        data={
            "names": [layer.node for layer in report.layers],
            "axis": "layer, in the graph's order; a click opens its row",
            "series": series,
            "opens": True,
        },
    )


def opened_figures(layer: Layer, index: int) -> tuple[Figure, ...]:
    """What a layer's row opens."""
    made = []
    if layer.output is not None and layer.output.histogram.counts:
        made.append(_histogram(layer, layer.output, index))
    if layer.weight is not None:
        made.append(_channels(layer, layer.weight, index))
    return tuple(made)


def _histogram(layer: Layer, output: TensorRange, index: int) -> Figure:
    return Figure(
        kind="histogram",
        name=f"histogram-{index}",
        title="Float values, and the range of the codes",
        described=f"Histogram of the output of {layer.node}, with the ends of its codes' range.",
        height=240,
        data={
            "start": output.histogram.start,
            "width": output.histogram.width,
            "counts": output.histogram.counts,
            "low": output.low,
            "high": output.high,
            "low_text": f"lowest code {real(output.low)}",
            "high_text": f"highest code {real(output.high)}",
        },
    )


def _channels(layer: Layer, weight: WeightRanges, index: int) -> Figure:
    lines = (
        ("in the file", "first", weight.source),
        ("after folding", "third", weight.folded),
        ("quantized", "second", weight.quantized),
    )
    return Figure(
        kind="channels",
        name=f"channels-{index}",
        title="Greatest weight of every channel",
        described=f"Lines of the greatest weights per output channel of {layer.node}.",
        height=240,
        data={
            "lines": [
                {"title": title, "tone": tone, "values": values}
                for values, (title, tone) in _distinct(lines).items()
            ]
        },
    )


def _distinct(
    lines: Sequence[tuple[str, str, tuple[float, ...] | None]],
) -> dict[tuple[float, ...], tuple[str, str]]:
    """Values -> title and colour. Equal lines would hide each other: they become one."""
    made: dict[tuple[float, ...], tuple[str, str]] = {}
    for title, tone, values in lines:
        if values:
            # More digits than can be seen would be most of the page.
            drawn = tuple(float(f"{value:.3g}") for value in values)
            before = made.pop(drawn, None)
            made[drawn] = (title if before is None else f"{before[0]}, {title}", tone)
    return made


def _interval(name: str, drop: Drop) -> Figure:
    low, middle, high = drop_texts(drop)
    # Of a user's metric it is not known whether more is better.
    user_metric = drop.p_value is None
    return Figure(
        kind="interval",
        name=name,
        title=f"Drop of {short_metric(drop.metric)}, with its 95 % interval",
        described=f"The drop is {middle}, its interval reaches from {low} to {high}.",
        height=120,
        data={
            "low": drop.low,
            "middle": drop.points,
            "high": drop.high,
            "low_text": low,
            "middle_text": middle,
            "high_text": high,
            "tone": "first" if drop.is_noise else "second" if user_metric else "bad",
            "left": "int8 scores higher" if user_metric else "int8 is better",
            "right": "int8 scores lower" if user_metric else "int8 is worse",
        },
    )


def _bars(
    name: str, title: str, rows: Sequence[tuple[str, float | None]], text: _Text
) -> Figure | None:
    known = [(label, value) for label, value in rows if value is not None]
    if len(known) < 2:
        return None
    said = ", ".join(f"{label} {text(value)}" for label, value in known)
    data: Mapping[str, Plain] = {
        "labels": [label for label, _ in known],
        "values": [value for _, value in known],
        "texts": [text(value) for _, value in known],
        "tones": [_TONES.get(label, "second") for label, _ in known],
    }
    return Figure("bars", name, title, f"Bars: {said}.", 12 + _BAR * len(known), data)
