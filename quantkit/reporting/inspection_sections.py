"""An inspection as sections: text and tables for every form."""

from collections.abc import Iterator

from quantkit.graph.program import Dimension
from quantkit.reporting import numbers
from quantkit.reporting.inspection import Inspection, InspectionTotals, UnknownDimension
from quantkit.reporting.section import Column, Section, Table
from quantkit.reporting.tables import without_empty

# What the passes do to a node, by pass.
_DONE = {
    "batch_norm_to_affine": "BatchNormalization replaced by a depthwise 1x1 Conv",
    "fold_batch_norm": "BatchNormalization folded",
    "fold_constants": "constants evaluated",
    "fold_pad": "Pad folded into Conv",
    "mark_clamps": "Relu or Clip absorbed by the node before it",
    "own_constants": "shared weights copied",
    "raise_opset": "opset raised",
    "remove_identity": "Identity or Dropout removed",
}
# What to do about a reason to stay float, by words of it; the first that fits.
_HINTS = (
    ("excluded by --nodes-to-exclude", "leave the option out"),
    ("not among --op-types-to-quantize", "name the op too"),
    ("which a caller may feed", "export the model without initializers as inputs"),
    ("not float32", "export the model in float32"),
    ("computed, not a constant", "export with fixed shapes and frozen parameters, or simplify it"),
    ("not proved to fit int32", "export with fixed shapes"),
    ("holds a graph of its own", "export without control flow: If, Loop and Scan stay float"),
    ("which stays float", "what holds it back is another node's reason"),
    ("cannot load", "change the attribute in the float model"),
)
_NAMES = 5


def inspection_sections(found: Inspection) -> tuple[Section, ...]:
    """What ``quantkit inspect`` shows; parts with nothing in them are left out.

    Args:
        found: The facts.
    """
    return tuple(_sections(found))


def _sections(found: Inspection) -> Iterator[Section]:
    yield Section("summary", "", tuple(_summary(found)))
    yield Section("layers", "Layers", table=_layers(found))
    if found.separable_blocks:
        yield _separable(found)
    if found.kept_float:
        yield _kept_float(found)
    sentences = tuple(_preparation(found))
    if sentences:
        yield Section("preparation", "Preparation", sentences)


def _summary(found: Inspection) -> Iterator[str]:
    inputs, outputs = (
        ", ".join(f"{value.name} {shape_text(value.shape)}" for value in values)
        for values in (found.inputs, found.outputs)
    )
    yield f"{inputs} -> {outputs}"
    integer = sum(1 for layer in found.layers if layer.int8)
    if found.quantized_by is not None:
        by = f", by {found.quantized_by}" if found.quantized_by else ""
        count = f"{numbers.count(integer)} of its {numbers.count(len(found.layers))} nodes"
        yield f"quantized already{by}: {count} are int8"
    totals = found.totals
    unknown = totals.macs_unknown
    yield (
        f"total: {'at least ' if unknown else ''}{millions(totals.macs)} MACs per sample, "
        f"{numbers.count(totals.parameters)} parameters after folding"
    )
    if totals.macs:
        share = numbers.percent(100.0 * totals.int8_macs / totals.macs)
        yield "int8: unknown share of the MACs" if unknown else f"int8: {share} % of the MACs"
    if unknown:
        more = " ..." if len(unknown) > _NAMES else ""
        yield (
            f"not counted, for want of known shapes: {len(unknown)} of the nodes: "
            f"{', '.join(unknown[:_NAMES])}{more}"
        )
    yield from map(_fix, found.unknown_dimensions)
    yield from _memory(totals, is_float=found.quantized_by is None)


def _fix(dimension: UnknownDimension) -> str:
    what = f"axis {dimension.axis} of input {dimension.input!r} is unknown"
    tool = "python -m onnxruntime.tools.make_dynamic_shape_fixed"
    if dimension.name is None:
        option = f"--input_name {dimension.input} --input_shape SIZES"
        return f"{what}; fix it: {tool} {option} MODEL FIXED"
    option = f"--dim_param {dimension.name} --dim_value SIZE"
    return f"{what} ({dimension.name!r}); fix it: {tool} {option} MODEL FIXED"


def _memory(totals: InspectionTotals, *, is_float: bool) -> Iterator[str]:
    if totals.float_peak_bytes is not None:
        yield (
            "peak activation memory of a sample: "
            f"{numbers.size(totals.float_peak_bytes)} in floats, "
            f"{numbers.size(totals.int8_peak_bytes)} with int8"
        )
    if is_float:
        yield (
            f"file: {numbers.size(totals.file_bytes)}; constants after folding: "
            f"{numbers.size(totals.float_constant_bytes)}, about "
            f"{numbers.size(totals.int8_constant_bytes)} with int8"
        )
    else:
        yield f"file: {numbers.size(totals.file_bytes)}"


def _layers(found: Inspection) -> Table:
    columns = (
        Column("layer", is_name=True),
        Column("op"),
        Column("output"),
        Column("MACs", is_number=True, explained="Multiply-accumulates of one sample."),
        Column("%", is_number=True, explained="Share of all MACs."),
        Column("params", is_number=True),
        Column("out bytes", is_number=True, explained="Of the layer's output, in floats."),
        Column("runs as"),
    )
    rows = tuple(
        (
            layer.name,
            layer.op,
            shape_text(layer.output_shape),
            _count(layer.macs),
            numbers.percent(layer.mac_percent) if layer.macs else numbers.MISSING,
            _count(layer.parameters),
            numbers.count(layer.output_bytes),
            layer.runs_as,
        )
        for layer in found.layers
    )
    keys = tuple(layer.name for layer in found.layers)
    return without_empty(Table(columns, rows, keys))


def _separable(found: Inspection) -> Section:
    blocks, totals = found.separable_blocks, found.totals
    saved = numbers.percent(100.0 * totals.saved_macs / totals.standard_macs)
    counted = f"{len(blocks)} blocks, each with the pointwise conv behind it"
    formula = "ratio to a standard conv: 1/N + 1/D_K^2"
    share = f"{millions(totals.saved_macs)} of {millions(totals.standard_macs)} MACs ({saved} %)"
    columns = (
        Column("depthwise", is_name=True),
        Column("N", is_number=True, explained="Output channels."),
        Column("D_K", explained="Kernel of the depthwise convolution."),
        Column("MACs", is_number=True, explained="Of both convolutions."),
        Column("standard conv", is_number=True, explained="MACs of the one they stand for."),
        Column("saved", is_number=True, explained="Standard convolution's MACs less the block's."),
        Column("ratio", is_number=True, explained="Block by standard convolution."),
    )
    rows = tuple(
        (
            block.depthwise,
            str(block.output_channels),
            "x".join(map(str, block.kernel)),
            _count(block.macs),
            _count(block.standard_macs),
            numbers.count(block.standard_macs - block.macs),
            f"{block.ratio:.4f}",
        )
        for block in blocks
    )
    return Section(
        "separable",
        "Depthwise separable blocks",
        (f"{counted}; {formula}", f"saved against standard convolutions: {share}"),
        Table(columns, rows, tuple(block.depthwise for block in blocks)),
    )


def _kept_float(found: Inspection) -> Section:
    names: dict[str, list[str]] = {}
    for node, reason in found.kept_float.items():
        names.setdefault(reason, []).append(node)
    rows = tuple(
        (_first(nodes), numbers.count(len(nodes)), reason, _hint(reason))
        for reason, nodes in sorted(names.items(), key=lambda item: -len(item[1]))
    )
    columns = (
        Column("stays float", is_name=True),
        Column("nodes", is_number=True),
        Column("why"),
        Column("what may help"),
    )
    table = without_empty(Table(columns, rows))
    return Section("float", "What stays float, and why", table=table)


def _first(nodes: list[str]) -> str:
    more = f" and {len(nodes) - _NAMES} more" if len(nodes) > _NAMES else ""
    return f"{', '.join(nodes[:_NAMES])}{more}"


def _hint(reason: str) -> str:
    return next((hint for words, hint in _HINTS if words in reason), numbers.MISSING)


def _preparation(found: Inspection) -> Iterator[str]:
    applied: dict[str, int] = {}
    for note in found.preparation:
        if note.applied:
            applied[note.pass_name] = applied.get(note.pass_name, 0) + 1
    for name, count in sorted(applied.items(), key=lambda item: item[0] != "fold_batch_norm"):
        yield f"{_DONE.get(name, name)}: {count}"
    for note in found.preparation:
        if not note.applied:
            what = _DONE.get(note.pass_name, note.pass_name)
            yield f"not {what}: {note.node} ({note.op}): {note.message}"


def shape_text(shape: tuple[Dimension, ...] | None) -> str:
    """A shape: "Nx3x224x224"; "?" where it is unknown."""
    if shape is None:
        return "?"
    # Some exporters write -1 for a dynamic dimension.
    return "x".join("?" if size in (None, -1) else str(size) for size in shape) or "scalar"


def millions(count: int) -> str:
    """A large number for people."""
    return f"{count / 1e6:,.1f} M" if count >= 1_000_000 else f"{count:,}"


def _count(count: int | None) -> str:
    return "?" if count is None else f"{count:,}" if count else numbers.MISSING
