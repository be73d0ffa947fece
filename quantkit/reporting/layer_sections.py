"""What a report says of layers: causes, tried fixes, what each loses, ranges, what stays float."""

from collections.abc import Callable, Sequence

from quantkit.reporting import numbers
from quantkit.reporting.layer import Accumulator, Layer, TensorRange, WeightRanges, worst_first
from quantkit.reporting.report import Report
from quantkit.reporting.section import Column, Section, Table
from quantkit.reporting.tables import number_column, without_empty
from quantkit.reporting.terminal_table import kept_float_lines

_FEW_CAUSES, _FEW_LAYERS = 5, 12
_SO_FAR = (
    "SQNR of the layer's output with the whole network up to it in integers. It may be low where a "
    "range cuts off rare large values on purpose, which later layers hardly use: what counts is "
    "the outputs."
)
_SATURATED = (
    "Codes of the output at an end of their range, where values may have been cut off; an end that "
    "is exactly 0, as behind a ReLU, is not counted."
)

_CONTROL = (
    "Each was applied to the model and measured on the same samples. The control is calibrated "
    "anew with nothing changed: a fix is worth what it gains beyond that."
)
_SQNRS = (
    "SQNR in dB: outputs = of the network's outputs, only this layer in integers; alone = of its "
    "own output, only this layer in integers; so far = of its own output, the network up to it in "
    "integers."
)

_Cell = Callable[[Layer], str]


def causes(report: Report) -> Section:
    """What is wrong, and what to try against it."""
    if not report.causes:
        return Section(name="causes", title="Causes", sentences=(_no_cause(report),))
    columns = (
        Column("layer", is_name=True),
        Column("cause"),
        Column("evidence"),
        Column("try"),
        Column(
            "noise %",
            is_number=True,
            explained="Share of the outputs' noise that the cause is held responsible for.",
        ),
    )
    rows = tuple(
        (
            cause.node or "network",
            cause.cause,
            cause.evidence,
            cause.remedy.text,
            numbers.percent(cause.noise_percent),
        )
        for cause in report.causes
    )
    keys = tuple(cause.node for cause in report.causes)
    return Section(
        name="causes",
        title="Causes, the worst first",
        table=without_empty(Table(columns, rows, keys)),
        few=_FEW_CAUSES,
    )


def _no_cause(report: Report) -> str:
    judged = len(worst_first(report.layers))
    if not judged:
        return "No cause was looked for: no layer could be judged."
    return (
        f"No cause found: nothing stands out in the {numbers.counted(judged, 'layer')} judged. "
        "What is lost is what the codes cost; `quantkit tune` finds layers worth keeping in floats."
    )


def fixes(report: Report) -> Section | None:
    """What the remedies brought."""
    if not report.fixes:
        return None
    columns = (
        Column("tried"),
        Column("against"),
        number_column("before dB", "SQNR of all outputs together, of the model as it is."),
        number_column("after dB", "The same, with the remedy."),
        number_column(
            "gain dB", "After minus before; the control's is what calibrating anew does."
        ),
        number_column("agree before %"),
        number_column("agree after %"),
        Column("not done"),
    )
    rows = []
    for fix in report.fixes:
        before, after = fix.sqnr_db or (None, None)
        agreed, agrees = fix.agreement_percent or (None, None)
        rows.append(
            (
                fix.text,
                fix.cause or "control",
                numbers.decibels(before),
                numbers.decibels(after),
                numbers.gain(before, after),
                numbers.percent(agreed),
                numbers.percent(agrees),
                fix.error or numbers.MISSING,
            )
        )
    return Section(
        name="fixes",
        title="Tried fixes",
        sentences=(_CONTROL,),
        table=without_empty(Table(columns, tuple(rows))),
    )


def layers(report: Report) -> Section | None:
    """What each layer loses, integer layers worst first, then those in floats."""
    ordered = _ordered(report)
    if not ordered:
        return None
    cells: dict[Column, _Cell] = {
        Column("op"): lambda layer: layer.op_type,
        number_column(
            "outputs dB",
            "SQNR of the network's outputs with this layer's weights and output alone in integers.",
        ): lambda layer: numbers.decibels(layer.network_sqnr_db),
        number_column("alone dB", "SQNR of the layer's output, this layer alone in integers."): (
            lambda layer: numbers.decibels(layer.isolated_sqnr_db)
        ),
        number_column("so far dB", _SO_FAR): lambda layer: numbers.decibels(
            layer.accumulated_sqnr_db
        ),
        number_column("saturated %", _SATURATED): lambda layer: numbers.percent(
            layer.saturated_percent
        ),
        number_column("clipped %", "Float values outside of what the codes can hold."): _of_output(
            lambda output: numbers.percent(output.clipped_percent)
        ),
        number_column("cosine alone", "Cosine similarity with the float output, alone."): (
            lambda layer: numbers.cosine(layer.isolated_cosine)
        ),
        number_column("cosine so far", "The same with the network up to it in integers."): (
            lambda layer: numbers.cosine(layer.accumulated_cosine)
        ),
        number_column("MACs", "Multiply-accumulates of one sample."): (
            lambda layer: numbers.count(layer.macs)
        ),
        number_column("sum bits", "Of a signed integer that holds any sum of the layer."): (
            _of_sums(lambda sums: numbers.whole(sums.bits))
        ),
        Column("in float because"): lambda layer: layer.kept_float or numbers.MISSING,
    }
    sentences = [f"Judged on {numbers.counted(report.layer_samples, 'sample')}. {_SQNRS}"]
    if report.layers_without_reference:
        sentences.append(
            f"Not judged: {numbers.counted(report.layers_without_reference, 'integer layer')}, "
            "for which the float network has no tensor of the same name."
        )
    return Section(
        name="layers",
        title="Layers, worst first",
        sentences=tuple(sentences),
        table=_table(ordered, cells),
        few=_FEW_LAYERS,
    )


def ranges(report: Report) -> Section | None:
    """What codes can hold, what they have to, and how sums become codes."""
    told = [layer for layer in report.layers if layer.output or layer.weight or layer.accumulator]
    if not told:
        return None
    cells: dict[Column, _Cell] = {
        Column("codes"): _of_output(lambda output: output.dtype),
        number_column("scale"): _of_output(lambda output: numbers.real(output.scale)),
        number_column("zero point"): _of_output(lambda output: numbers.whole(output.zero_point)),
        number_column("codes hold", "The real values of the lowest and of the highest code."): (
            _of_output(lambda output: numbers.between((output.low, output.high), numbers.real))
        ),
        number_column("values seen", "Of the float network on the layers' samples."): _of_output(
            lambda output: numbers.between((output.minimum, output.maximum), numbers.real)
        ),
        number_column(
            "weights in the file",
            "Greatest magnitude of the channels, least to greatest, as the float file has them.",
        ): _of_weight(lambda weight: weight.source),
        number_column("weights folded", "The same behind folded BatchNormalization."): _of_weight(
            lambda weight: weight.folded
        ),
        number_column(
            "weights quantized", "The same in the quantized model, equalized where it was."
        ): _of_weight(lambda weight: weight.quantized),
        number_column("weight scales"): _of_weight(lambda weight: weight.scales),
        number_column("largest sum", "That any input can produce."): _of_sums(
            lambda sums: numbers.count(sums.bound)
        ),
        number_column("multiplier", "From a sum to a code, least to greatest of the channels."): (
            _of_sums(lambda sums: numbers.between(sums.multiplier, numbers.real))
        ),
        number_column("mantissa", "The same as an int32, by which a sum is multiplied first ..."): (
            _of_sums(lambda sums: numbers.between(sums.mantissa, numbers.whole))
        ),
        number_column("shift", "... and by which the product is then shifted right."): (
            _of_sums(lambda sums: numbers.between(sums.shift, numbers.whole))
        ),
    }
    return Section(
        name="ranges",
        title="Ranges and sums",
        sentences=("In the graph's order.",),
        table=_table(told, cells),
        few=0,
    )


def kept_float(report: Report) -> Section | None:
    """What stays float, by reason."""
    if not report.kept_float:
        return None
    return Section(
        name="float",
        title="What stays float",
        sentences=tuple(kept_float_lines(report.kept_float)),
    )


def _ordered(report: Report) -> list[Layer]:
    judged = worst_first(report.layers)
    return judged + [layer for layer in report.layers if layer.isolated_sqnr_db is None]


def _table(layers: Sequence[Layer], cells: dict[Column, _Cell]) -> Table:
    rows = tuple((layer.node, *(cell(layer) for cell in cells.values())) for layer in layers)
    keys = tuple(layer.node for layer in layers)
    return without_empty(Table((Column("layer", is_name=True), *cells), rows, keys))


def _of_output(cell: Callable[[TensorRange], str]) -> _Cell:
    return lambda layer: numbers.MISSING if layer.output is None else cell(layer.output)


def _of_weight(magnitudes: Callable[[WeightRanges], Sequence[float] | None]) -> _Cell:
    return lambda layer: (
        numbers.MISSING
        if layer.weight is None
        else numbers.between(magnitudes(layer.weight), numbers.real)
    )


def _of_sums(cell: Callable[[Accumulator], str]) -> _Cell:
    return lambda layer: numbers.MISSING if layer.accumulator is None else cell(layer.accumulator)
