"""The preparation as a whole: from the user's model to the graph that is calibrated."""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx_ir as ir
import onnx_ir.passes.common as common

from quantkit.errors import UnsupportedModelError
from quantkit.graph.model_checks import refuse_non_finite_weights
from quantkit.graph.model_io import (
    PER_CHANNEL_OPSET,
    load_model,
    model_digest,
    program_of,
    raise_opset,
)
from quantkit.graph.program import Program
from quantkit.passes.batch_norm_to_affine import batch_norm_to_affine
from quantkit.passes.drop_unit_dilations import drop_unit_dilations
from quantkit.passes.fold_batch_norm import fold_batch_norm
from quantkit.passes.fold_constants import fold_constants, infer_shapes
from quantkit.passes.fold_pad import fold_pad
from quantkit.passes.lift_constants import lift_constants
from quantkit.passes.mark_clamps import mark_clamps
from quantkit.passes.note import Pass, PassNote
from quantkit.passes.own_constants import own_constants
from quantkit.passes.remove_identity import remove_identity
from quantkit.passes.trained_statistics import TrainedStatistics, trained_statistics

# Raised whenever the prepared graph of an unchanged model changes: a calibration file then no
# longer fits (its tensors may be gone).
PREPARATION_VERSION = 2

PREPARE_PASSES: tuple[Pass, ...] = (
    lift_constants,
    fold_constants,
    remove_identity,
    drop_unit_dilations,
    fold_pad,
    fold_batch_norm,
    batch_norm_to_affine,
    own_constants,
)


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A float graph ready for calibration and quantization.

    Attributes:
        model: The prepared graph; equal to the source as a function.
        program: The same graph as plain data.
        clamps: Name of each absorbed Relu or Clip -> name of the node that absorbs it.
        notes: What the passes did and refused, in order.
        digest: Identifies the source model and the preparation.
        trained: What training left of normalized tensors, by name; they keep their names when
            BatchNormalization is folded.
    """

    model: ir.Model
    program: Program
    clamps: Mapping[str, str]
    notes: tuple[PassNote, ...]
    digest: str
    trained: Mapping[str, TrainedStatistics] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Prepared({len(self.program.nodes)} nodes, digest {self.digest[:12]})"

    def refusals(self) -> tuple[PassNote, ...]:
        """The notes that say why something was not done."""
        return tuple(note for note in self.notes if not note.applied)


@contextmanager
def _no_search_for_garbage() -> Iterator[None]:
    """Graphs are cycles upon cycles, and nearly all stay: looking takes a quarter of the time."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def prepare(source: str | Path | ir.Model) -> Prepared:
    """Prepare a float model; the source is not changed.

    Args:
        source: An ONNX file or a model in memory.

    Raises:
        ModelError: The file cannot be read (see ``graph.model_io.load_model``).
        UnsupportedModelError: The model is quantized already, or its opset cannot be raised.
        NonFiniteRangeError: A weight holds NaN or infinity.
    """
    with _no_search_for_garbage():
        return _prepare(source)


def _prepare(source: str | Path | ir.Model) -> Prepared:
    if isinstance(source, ir.Model):
        model = ir.external_data.load_to_model(source.clone())
        refuse_non_finite_weights(model)
    else:
        model = load_model(source)
    _refuse_quantized(model, "the model" if isinstance(source, ir.Model) else repr(str(source)))
    digest = f"{model_digest(model)}:{PREPARATION_VERSION}"
    notes: list[PassNote] = []
    opset = model.opset_imports.get("", 1)
    if opset < PER_CHANNEL_OPSET:
        model = raise_opset(model, PER_CHANNEL_OPSET)
        message = f"opset {opset} -> {PER_CHANNEL_OPSET}: per-channel DequantizeLinear needs it"
        notes.append(PassNote("raise_opset", "", "", True, message))
    trained = trained_statistics(model)
    for run in PREPARE_PASSES:
        notes += run(model)
    return replace(finish(model, notes, digest), trained=trained)


def finish(model: ir.Model, notes: list[PassNote], digest: str) -> Prepared:
    """Clean up an edited graph, infer shapes, find the clamps."""
    common.RemoveUnusedNodesPass()(model)
    common.TopologicalSortPass()(model)
    infer_shapes(model)
    clamps, clamp_notes = mark_clamps(model)
    return Prepared(model, program_of(model), clamps, (*notes, *clamp_notes), digest)


def _refuse_quantized(model: ir.Model, name: str) -> None:
    quantized = [
        node
        for node in model.graph
        if node.op_type in ("QuantizeLinear", "DequantizeLinear", "ConvInteger", "MatMulInteger")
        or node.op_type.startswith(("QLinear", "QGemm"))
    ]
    if quantized:
        first = quantized[0]
        raise UnsupportedModelError(
            f"{name} is already quantized ({len(quantized)} quantized nodes, the first is "
            f"{first.name or first.op_type!r}); give the float model, or use `quantkit export` "
            "and `quantkit verify`, which read quantized models"
        )
