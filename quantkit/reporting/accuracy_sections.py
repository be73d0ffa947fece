"""What a report says of the network as a whole: accuracy, its split, cost."""

import math
from collections.abc import Callable, Iterator, Mapping

from quantkit.reporting import numbers
from quantkit.reporting.gate import judged_engine
from quantkit.reporting.report import FLOAT_LABEL, INT8_LABEL, Drop, EngineRow, Report, SplitRow
from quantkit.reporting.section import Column, Section, Table
from quantkit.reporting.tables import number_column, without_empty

# Noise of a third of the signal's magnitude.
_POOR_DB = 10.0
# Sides of the split that differ by less lose about the same.
_ALIKE_DB = 1.0
_SQNR = (
    "Signal to quantization noise ratio: 20 dB is an error a tenth as large as the values (RMS), "
    "40 dB a hundredth; exact: no difference."
)
_TIES = "Samples with several best classes, of which the first one counts."
_COST = (
    "In onnxruntime on this machine. Integer kernels are those of the graph it runs after all its "
    "optimizations."
)
_AGREEMENT = "Samples that get the reference's class, whether it is right or not."


def summary(report: Report) -> Section:
    """The headline in sentences."""
    return Section(name="summary", title="", sentences=tuple(_summary(report)))


def drop_sentence(drop: Drop, samples: int) -> str:
    """A drop in plain words, with its interval.

    Args:
        drop: Of top-1 or of a metric.
        samples: How many it was measured on.
    """
    low, high = (numbers.difference(end, drop.unit) for end in (drop.low, drop.high))
    if drop.points == 0.0:
        change = "nothing is lost"
    else:
        word = "drop" if drop.points > 0.0 else "gain"
        size = f"{numbers.magnitude(drop.points, drop.unit)} {drop.unit}".rstrip()
        change = f"the {word} of {size} is {'within' if drop.is_noise else 'more than'} noise"
    of_drop = "" if drop.points > 0.0 else " of the drop"
    sure = f"95 % interval{of_drop} {low} to {high}"
    if drop.p_value is not None:
        sure += f", p = {numbers.probability(drop.p_value)}"
    if drop.right_to_wrong is None:
        return f"{short_metric(drop.metric)}: {change} ({sure})."
    return (
        f"{numbers.count(drop.right_to_wrong)} of {numbers.counted(samples, 'sample')} changed "
        f"from right to wrong, {numbers.count(drop.wrong_to_right)} from wrong to right: "
        f"{change} ({sure})."
    )


def _summary(report: Report) -> Iterator[str]:
    skipped = f", {numbers.count(report.skipped)} unreadable and skipped" if report.skipped else ""
    yield f"{numbers.counted(report.samples, 'sample')}{skipped}."
    judged = judged_engine(report)
    if report.float_model is None:
        yield (
            "There is no float model: engines are compared with onnxruntime on the quantized "
            "file, layers with the network of its dequantized weights. What quantization cost "
            "cannot be seen so."
        )
    if report.drop is not None:
        yield drop_sentence(report.drop, report.samples)
    elif report.float_model is not None and judged and judged.agreement_percent is not None:
        yield "Accuracy is not measured: no labels (--labels)."
    if report.metric_drop is not None:
        yield drop_sentence(report.metric_drop, report.samples)
    if judged is not None:
        yield from _judged(judged, report)
    if report.drop is not None:
        yield (
            "For scale: int8 with weights per channel usually costs MobileNetV2 0.5 to 1 point of "
            "ImageNet top-1, ResNets less than 0.3; more than 2 points mostly have a cause that "
            "can be mended."
        )


def _judged(row: EngineRow, report: Report) -> Iterator[str]:
    reference = report.engines[0].label
    if row.agreement_percent is not None:
        worst = min(row.sqnr_db.values(), default=None)
        sqnr = "" if worst is None else f"; SQNR of the outputs {_decibels(worst)}"
        yield (
            f"{row.label} gives {numbers.percent(row.agreement_percent)} % of the samples the "
            f"class that {reference} gives them{sqnr}."
        )
    for name, value in row.sqnr_db.items():
        if not value >= _POOR_DB:
            yield (
                f"Output {name!r} of {row.label} is far from that of {reference}: "
                f"{_decibels(value)}."
            )


def engines(report: Report) -> Section:
    """Every way to run the network, side by side."""
    cells: Mapping[Column, Callable[[EngineRow], str]] = {
        number_column("top-1 %"): lambda row: numbers.percent(row.top1_percent),
        number_column("top-5 %"): lambda row: numbers.percent(row.top5_percent),
        number_column(short_metric(report.metric or ""), report.metric or ""): lambda row: (
            numbers.real(row.metric)
        ),
        number_column("agree %", _AGREEMENT): lambda row: numbers.percent(row.agreement_percent),
        number_column("SQNR dB", f"Of the outputs; of several the worst. {_SQNR}"): lambda row: (
            numbers.decibels(min(row.sqnr_db.values(), default=None))
        ),
        number_column("ties", _TIES): lambda row: numbers.count(row.tied),
    }
    rows = [(row.label, *(cell(row) for cell in cells.values())) for row in report.engines]
    return Section(
        name="engines",
        title="Before and after",
        table=without_empty(Table((Column("engine"), *cells), tuple(rows))),
    )


def outputs(report: Report) -> Section | None:
    """SQNR by output, where there are several."""
    names = tuple(dict.fromkeys(name for row in report.engines for name in row.sqnr_db))
    if len(names) < 2:
        return None
    judged = [row for row in report.engines if row.sqnr_db]
    return Section(
        name="outputs",
        title="SQNR of every output",
        table=Table(
            columns=(
                Column("output", is_name=True),
                *(number_column(f"{row.label}, dB", _SQNR) for row in judged),
            ),
            rows=tuple(
                (name, *(numbers.decibels(row.sqnr_db.get(name)) for row in judged))
                for name in names
            ),
        ),
    )


def cost(report: Report) -> Section | None:
    """What the network needs, before and after."""
    found = report.cost
    rows = {row.label: row for row in report.engines}
    sizes, latencies = (
        [
            cell(rows[label]) if label in rows else numbers.MISSING
            for label in (FLOAT_LABEL, INT8_LABEL)
        ]
        for cell in (_file, _latency)
    )
    of_float = None if report.float_model is None else found.macs
    told = (
        ("file", *sizes),
        ("latency of one sample, ms", *latencies),
        ("multiply-accumulates", numbers.count(of_float), numbers.count(found.macs)),
        (
            "of them in integer kernels, %",
            numbers.MISSING,
            numbers.percent(found.int8_mac_percent),
        ),
        (
            "most activations held at a time",
            numbers.size(found.float_peak_bytes),
            numbers.size(found.int8_peak_bytes),
        ),
    )
    known = tuple(row for row in told if set(row[1:]) != {numbers.MISSING})
    if not known:
        return None
    columns = (Column("cost"), number_column("float"), number_column("int8"))
    return Section(
        name="cost",
        title="Cost",
        sentences=(_COST,),
        table=without_empty(Table(columns, known)),
    )


def split(report: Report) -> Section | None:
    """Weights only, activations only, both."""
    if not report.split:
        return None
    names = tuple(dict.fromkeys(name for row in report.split for name in row.sqnr_db))
    columns = (
        Column("quantized"),
        *(number_column("SQNR dB" if len(names) == 1 else f"{name}, dB", _SQNR) for name in names),
        number_column("agree %", _AGREEMENT),
        number_column("top-1 %"),
    )
    rows = tuple(
        (
            row.label,
            *(numbers.decibels(row.sqnr_db.get(name)) for name in names),
            numbers.percent(row.agreement_percent),
            numbers.percent(row.top1_percent),
        )
        for row in report.split
    )
    return Section(
        name="split",
        title="Weights or activations",
        sentences=tuple(_split_sentence(report)),
        table=without_empty(Table(columns, rows)),
    )


def _split_sentence(report: Report) -> Iterator[str]:
    by_label = {row.label: row for row in report.split}
    weights, activations = by_label.get("weights only"), by_label.get("activations only")
    if weights is None or activations is None:
        return
    of_weights, of_activations = _worst(weights), _worst(activations)
    if of_weights is None or of_activations is None:
        return
    texts = _decibels(of_weights), _decibels(of_activations)
    # Both may be infinite; their difference is then no number.
    if of_weights == of_activations or abs(of_weights - of_activations) < _ALIKE_DB:
        yield f"Weights and activations lose about the same: {texts[0]} and {texts[1]} left."
    elif of_weights < of_activations:
        yield f"Weights lose more than activations: {texts[0]} against {texts[1]} left."
    else:
        yield f"Activations lose more than weights: {texts[1]} against {texts[0]} left."


def short_metric(metric: str) -> str:
    """A user's metric without its module."""
    return metric.rpartition(":")[2]


def _file(row: EngineRow) -> str:
    return numbers.size(row.size_bytes)


def _latency(row: EngineRow) -> str:
    return numbers.milliseconds(row.latency_ms)


def _decibels(value: float) -> str:
    text = numbers.decibels(value)
    return text if value == math.inf else f"{text} dB"


def _worst(row: SplitRow) -> float | None:
    return min(row.sqnr_db.values(), default=None)
