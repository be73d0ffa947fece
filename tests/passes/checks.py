"""What must hold of every preparation; tolerances are relative to the output's largest value."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from quantkit.graph.model_io import serialize
from quantkit.graph.ort_session import open_session
from quantkit.graph.program import Array, Dimension, TensorSpec
from quantkit.passes.note import PassNote
from quantkit.passes.prepare import Prepared, prepare

Feeds = Mapping[str, Array]


def run_unoptimized(model: ir.Model, feeds: Feeds) -> list[Array]:
    """onnxruntime without optimizations: its own BatchNormalization fold must not hide ours."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        serialize(model), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, dict(feeds)))


def random_feeds(model: ir.Model, *, batch: int = 2, extent: int = 8, seed: int = 0) -> Feeds:
    """Normal inputs: the first open dimension is the batch, the others are ``extent``."""
    rng = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for value in model.graph.inputs:
        if value.is_initializer():
            continue
        assert value.shape is not None
        assert value.dtype is not None
        shape = [
            size if isinstance(size, int) and size >= 0 else batch if axis == 0 else extent
            for axis, size in enumerate(value.shape)
        ]
        feeds[value.name or ""] = rng.standard_normal(shape).astype(value.dtype.numpy())
    return feeds


def assert_outputs_close(
    got: Sequence[Array], expected: Sequence[Array], *, relative: float, absolute: float
) -> None:
    """``|got - expected| <= relative * max |expected| + absolute`` per output; equal shapes."""
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        wide, reference = one.astype(np.float64), other.astype(np.float64)
        assert np.isfinite(reference).all(), "the check needs a finite reference"
        bound = relative * float(np.abs(reference).max(initial=0.0)) + absolute
        worst = float(np.abs(wide - reference).max(initial=0.0))
        assert worst <= bound, f"{worst:.3g} apart, {bound:.3g} allowed"


def assert_same_function(
    source: ir.Model, other: ir.Model, feeds: Feeds, *, relative: float, absolute: float = 0.0
) -> None:
    assert_outputs_close(
        run_unoptimized(other, feeds),
        run_unoptimized(source, feeds),
        relative=relative,
        absolute=absolute,
    )


def assert_prepared(
    source: ir.Model, *, relative: float = 1e-5, absolute: float = 0.0, feeds: Feeds | None = None
) -> Prepared:
    """Prepare; everything that must hold of any model is checked."""
    before = ir.to_proto(source).SerializeToString(deterministic=True)
    prepared = prepare(source)
    assert ir.to_proto(source).SerializeToString(deterministic=True) == before, "source changed"
    onnx.checker.check_model(serialize(prepared.model), full_check=True)
    assert_ends_unchanged(source, prepared.model)
    feeds = random_feeds(source) if feeds is None else feeds
    assert_same_function(source, prepared.model, feeds, relative=relative, absolute=absolute)
    again = prepare(source)
    assert serialize(again.model) == serialize(prepared.model), "not deterministic"
    assert again.digest == prepared.digest
    twice = prepare(prepared.model)
    assert_same_function(prepared.model, twice.model, feeds, relative=relative, absolute=absolute)
    names = [node.name for node in prepared.program.nodes]
    assert len(set(names)) == len(names)
    assert set(prepared.clamps) <= set(names)
    assert set(prepared.clamps.values()) <= set(names)
    return prepared


def assert_ends_unchanged(source: ir.Model, prepared: ir.Model) -> None:
    """Names, dtypes and shapes as onnxruntime sees them; an open dimension may become known."""
    before, after = open_session(source), open_session(prepared)
    assert [_ends(spec) for spec in after.inputs] == [_ends(spec) for spec in before.inputs]
    assert len(after.outputs) == len(before.outputs)
    for old, new in zip(before.outputs, after.outputs, strict=True):
        assert (new.name, new.dtype) == (old.name, old.dtype)
        assert old.shape is not None
        assert new.shape is not None
        assert len(new.shape) == len(old.shape)
        for was, now in zip(old.shape, new.shape, strict=True):
            assert now == was or (not isinstance(was, int) and isinstance(now, int))


def _ends(spec: TensorSpec) -> tuple[str, np.dtype[np.generic], tuple[Dimension, ...] | None]:
    return spec.name, spec.dtype, spec.shape


def op_types(prepared: Prepared) -> list[str]:
    return [node.op_type for node in prepared.program.nodes]


def notes_of(prepared: Prepared, pass_name: str) -> list[PassNote]:
    return [note for note in prepared.notes if note.pass_name == pass_name]


def refusal(prepared: Prepared, pass_name: str) -> str:
    """The reason of the pass's only note, which must be a refusal."""
    (note,) = notes_of(prepared, pass_name)
    assert not note.applied
    return note.message
