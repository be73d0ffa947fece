"""Differences of two models or two reports as sections: text and tables for every form."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from quantkit.reporting import numbers
from quantkit.reporting.model_differences import (
    ActivationDifference,
    ConstantDifference,
    FieldDifference,
    ModelDifferences,
    TensorParams,
)
from quantkit.reporting.report import Cause
from quantkit.reporting.report_differences import (
    NumberPair,
    ReportDifferences,
    Unit,
)
from quantkit.reporting.section import Column, Section, Table
from quantkit.reporting.tables import without_empty

FEW = 20
_LONGEST_VALUE = 60


def difference_sections(found: ModelDifferences | ReportDifferences) -> tuple[Section, ...]:
    """What to show of a comparison; parts without a difference are left out.

    Args:
        found: What ``diff`` returns.
    """
    if isinstance(found, ModelDifferences):
        return tuple(_models(found))
    return tuple(_reports(found))


def _models(found: ModelDifferences) -> Iterator[Section]:
    yield Section("summary", "", tuple(_model_sentences(found)))
    yield from _fields("boundaries", "Inputs and outputs", "boundary", found.boundaries)
    yield from _nodes(found)
    if found.arithmetic:
        yield Section(
            "arithmetic",
            "Quantized in one, float in the other",
            table=Table(
                (Column("node", is_name=True), Column("op"), Column("int8 in"), Column("why not")),
                tuple((a.node, a.op_type, a.quantized_in, a.reason) for a in found.arithmetic),
            ),
            few=FEW,
        )
    if found.activations:
        yield _activations(found.activations)
    if found.constants:
        yield _constants(found.constants)
    yield from _fields("nodes", "Attributes and float constants", "node: field", found.nodes)
    yield from _fields("file-operators", "Nodes in the files by op", "op", found.file_ops)
    yield from _fields("metadata", "Recipe and metadata", "field", found.metadata)


def _model_sentences(found: ModelDifferences) -> Iterator[str]:
    totals = found.totals
    yield f"first: {found.first}; second: {found.second}"
    if found.is_same:
        yield "No difference."
    elif found.are_integers_same:
        yield "The integers are the same: every code, scale and zero point."
    for changed, count, what in (
        (totals.changed_weight_codes, totals.weight_codes, "weight codes"),
        (totals.changed_biases, totals.biases, "biases"),
        (totals.changed_operands, totals.operands, "codes of other constants"),
        (totals.changed_activations, totals.activations, "activations' scales or zero points"),
    ):
        if count:
            yield f"{changed:,} of {count:,} {what} differ."
    alone = len(found.only_first), len(found.only_second)
    if any(alone):
        both = f"Nodes in both: {totals.nodes:,}"
        yield f"{both}; only in the first: {alone[0]:,}; only in the second: {alone[1]:,}."


def _nodes(found: ModelDifferences) -> Iterator[Section]:
    rows = [
        (node.node, node.op_type, where)
        for where, nodes in (("first", found.only_first), ("second", found.only_second))
        for node in nodes
    ]
    if rows:
        columns = (Column("node", is_name=True), Column("op"), Column("only in"))
        yield Section(
            "only-in-one", "Nodes of one alone", table=Table(columns, tuple(rows)), few=FEW
        )


def _activations(found: Sequence[ActivationDifference]) -> Section:
    columns = (
        Column("tensor", is_name=True),
        Column("dtype"),
        Column("scale", is_number=True, explained="Of the first model."),
        Column("new scale", is_number=True),
        Column("ratio", is_number=True, explained="New by old scale."),
        Column("zero point", is_number=True),
        Column("new zero point", is_number=True),
    )
    rows = tuple(
        (
            change.value,
            _dtypes(change.first, change.second),
            numbers.real(change.first.scale if change.first else None),
            numbers.real(change.second.scale if change.second else None),
            numbers.real(change.scale_ratio),
            numbers.count(change.first.zero_point if change.first else None),
            numbers.count(change.second.zero_point if change.second else None),
        )
        for change in found
    )
    return Section("activations", "Activations", table=without_empty(Table(columns, rows)), few=FEW)


def _dtypes(first: TensorParams | None, second: TensorParams | None) -> str:
    return _pair(*("float" if params is None else params.dtype for params in (first, second)))


def _pair(first: str, second: str) -> str:
    return first if first == second else f"{first} -> {second}"


def _constants(found: Sequence[ConstantDifference]) -> Section:
    columns = (
        Column("node", is_name=True),
        Column("constant"),
        Column("dtype"),
        Column("codes", is_number=True),
        Column("differ", is_number=True, explained="Codes that differ, less their zero points."),
        Column("largest", is_number=True, explained="Largest difference of a code."),
        Column("scales", is_number=True),
        Column("scales differ", is_number=True),
        Column("ratio", is_number=True, explained="The scale farthest from the old: new by old."),
    )
    rows = tuple(
        (
            change.node,
            change.role,
            _pair(*change.dtypes),
            numbers.count(change.codes)
            if change.shapes[0] == change.shapes[1]
            else " -> ".join("x".join(map(str, shape)) for shape in change.shapes),
            numbers.count(change.changed_codes),
            numbers.count(change.largest_code_change),
            numbers.count(change.scales),
            numbers.count(change.changed_scales),
            numbers.real(change.largest_scale_ratio),
        )
        for change in found
    )
    return Section(
        "constants",
        "Weights, biases, constants",
        table=without_empty(Table(columns, rows)),
        few=FEW,
    )


def _fields(
    name: str, title: str, field: str, found: Sequence[FieldDifference]
) -> Iterator[Section]:
    if found:
        columns = (Column(field, is_name=True), Column("first"), Column("second"))
        rows = tuple((f.name, _value(f.first), _value(f.second)) for f in found)
        yield Section(name, title, table=without_empty(Table(columns, rows)), few=FEW)


def _value(text: str | None) -> str:
    """A field's value; long ones are told apart by their digest."""
    if text is None:
        return numbers.MISSING
    if len(text) <= _LONGEST_VALUE:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{text[:24]}... ({len(text):,} characters, sha256 {digest})"


def _reports(found: ReportDifferences) -> Iterator[Section]:
    sentences = [f"first: {found.first}; second: {found.second}"]
    if found.is_same:
        sentences.append("No difference; latencies are not counted as one.")
    columns = (
        Column("number"),
        Column("first", is_number=True),
        Column("second", is_number=True),
        Column("difference", is_number=True),
    )
    rows = tuple(_number_row(pair) for pair in found.numbers if _is_known(pair))
    yield Section("summary", "", tuple(sentences), Table(columns, rows))
    layers = f"{len(found.layers):,} layers differ; {found.compared_layers:,} are in both reports."
    if found.layers:
        yield Section("layers", "Layers whose SQNR (dB) changed", (layers,), _layers(found), FEW)
    for name, title, causes in (
        ("appeared", "Causes that appeared", found.appeared),
        ("disappeared", "Causes that disappeared", found.disappeared),
    ):
        yield from _causes(name, title, causes)
    yield from _fields("provenance", "Provenance and float nodes", "field", found.fields)
    shown = (found.layers, found.appeared, found.disappeared, found.fields)
    if not found.is_same and not any(shown) and not any(p.difference for p in found.numbers):
        yield Section("other", "", ("Only details differ that are not compared here.",))


def _is_known(pair: NumberPair) -> bool:
    return pair.first is not None or pair.second is not None


def _number_row(pair: NumberPair) -> tuple[str, str, str, str]:
    text, unit = _TEXTS[pair.unit]
    name = f"{pair.name} ({unit})" if unit else pair.name
    difference = pair.difference
    if difference is None:
        change = numbers.MISSING
    elif pair.unit in ("percent", "decibels", "milliseconds"):
        change = numbers.difference(difference)
    else:
        change = (
            f"{'-' if difference < 0 else '+' if difference > 0 else ''}{text(abs(difference))}"
        )
    return name, _text(text, pair.first), _text(text, pair.second), change


def _text(text: Callable[[float], str], value: float | None) -> str:
    return numbers.MISSING if value is None else text(value)


_TEXTS: dict[Unit, tuple[Callable[[float], str], str]] = {
    "percent": (numbers.percent, "%"),
    "decibels": (numbers.decibels, "dB"),
    "milliseconds": (numbers.milliseconds, "ms"),
    "bytes": (lambda value: numbers.size(round(value)), ""),
    "count": (lambda value: numbers.count(round(value)), ""),
    "real": (numbers.real, ""),
}


def _layers(found: ReportDifferences) -> Table:
    columns = (
        Column("layer", is_name=True),
        Column("op"),
        Column("alone", is_number=True, explained="With only this layer in integers."),
        Column("new", is_number=True),
        Column("change", is_number=True),
        Column("so far", is_number=True, explained="With the network up to here in integers."),
        Column("new so far", is_number=True),
        Column("change so far", is_number=True),
    )
    return Table(
        columns,
        tuple(
            (
                layer.node,
                layer.op_type,
                *_decibels(layer.first, layer.second),
                *_decibels(layer.first_accumulated, layer.second_accumulated),
            )
            for layer in found.layers
        ),
    )


def _decibels(first: float | None, second: float | None) -> tuple[str, str, str]:
    change = None
    if first is not None and second is not None and first != second:
        change = second - first
    return numbers.decibels(first), numbers.decibels(second), numbers.difference(change)


def _causes(name: str, title: str, causes: Iterable[Cause]) -> Iterator[Section]:
    rows = tuple((c.node or "(network)", c.cause, c.evidence, c.remedy.text) for c in causes)
    if rows:
        columns = (
            Column("node", is_name=True),
            Column("cause"),
            Column("evidence"),
            Column("try"),
        )
        yield Section(name, title, table=Table(columns, rows))
