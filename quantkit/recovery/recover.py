"""All recovery steps in their order: from a float network and its table to a quantized model.

1. On the float network: equalization, absorption of biases. Its function stays.
2. On the plan: ranges of activations.
3. On the constants: weight scales, rounding, block reconstruction.

Each step is switched by a field of the configuration. Biases are corrected from the table
after every step that changes what they depend on. With data, every step is judged by the network's
output, and undone where that became clearly worse.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from quantkit.calibration.collector import Progress
from quantkit.calibration.dataset import Dataset
from quantkit.calibration.table import CalibrationTable
from quantkit.config import QuantConfig
from quantkit.errors import NonFiniteRangeError
from quantkit.evaluation.measurement import Bench, measure, open_bench
from quantkit.evaluation.metric import metric_of
from quantkit.evaluation.samples import evenly_spaced
from quantkit.exporters.qdq import qdq_graph
from quantkit.passes.note import PassNote
from quantkit.passes.prepare import Prepared
from quantkit.plan import QuantPlan, make_plan
from quantkit.quantized_model.model import QuantizedModel, quantize_model
from quantkit.recovery.activation_range_search import search_activation_ranges
from quantkit.recovery.bias_correction import correct_biases
from quantkit.recovery.block_reconstruction import reconstruct_blocks
from quantkit.recovery.channel_changes import METADATA_KEY as CHANNEL_CHANGES_KEY
from quantkit.recovery.channel_changes import Float64Array, to_text
from quantkit.recovery.cross_layer_equalization import equalize_layers
from quantkit.recovery.draft import Draft
from quantkit.recovery.empirical_bias_correction import correct_biases_empirically
from quantkit.recovery.high_bias_absorption import absorb_high_biases
from quantkit.recovery.learned_rounding import learn_rounding
from quantkit.recovery.linear_edge_equalization import equalize_linear_edges
from quantkit.recovery.weight_scale_search import search_weight_scales

StepProgress = Callable[[str, int, int], None]
"""Called with the step's name, how much of it is done, and how much there is."""

METADATA_KEY = "undone_steps"
"""Metadata of a model: the steps, as a JSON list, that its configuration has but it has not."""

_FLOAT_STEPS = {
    "cross_layer_equalization": equalize_layers,
    "linear_edge_equalization": equalize_linear_edges,
    "high_bias_absorption": absorb_high_biases,
}


class _StepOnConstants(Protocol):
    """A step that only changes codes and scales, and runs the model for that."""

    def __call__(
        self, model: QuantizedModel, dataset: Dataset, /, *, progress: Progress | None
    ) -> QuantizedModel:
        """The model with other codes; the same object where nothing was to be done."""


_STEPS_ON_CONSTANTS: Mapping[str, _StepOnConstants] = {
    "learned_rounding": learn_rounding,
    "empirical_bias_correction": correct_biases_empirically,
    "block_reconstruction": reconstruct_blocks,
}
_MEASURED_SAMPLES = 64
# Errors of weights and activations partly cancel by chance, and any step undoes that: a step is
# only undone where the loss is beyond chance.
_CHANCE_DB = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """The network after a step.

    Attributes:
        draft: The float network.
        plan: Of its activations.
        scales: Of weights, by name, where they were searched.
        model: The quantized network.
    """

    draft: Draft
    plan: QuantPlan
    scales: Mapping[str, Float64Array]
    model: QuantizedModel


_Step = Callable[[_State], tuple[_State, PassNote | None]]


def quantize_with_recovery(
    prepared: Prepared,
    table: CalibrationTable,
    config: QuantConfig,
    dataset: Dataset | None = None,
    progress: StepProgress | None = None,
) -> QuantizedModel:
    """Plan, quantize, and run the steps that the configuration switches on.

    With data every step says what it gained: the SQNR of the outputs in onnxruntime, on at most 64
    of the samples that it also chose by.

    Args:
        prepared: The prepared float graph.
        table: Its calibration table.
        config: The user's choices.
        dataset: The calibration samples; needed by the steps of ``config.steps_with_data()``.
        progress: Told how far each step is.

    Raises:
        QuantkitError: See ``make_plan``, ``quantize_model`` and the steps.
    """
    bench = None
    if dataset is not None and config.steps_with_data():
        bench = _bench(prepared, dataset)
    plan = make_plan(prepared, table, config)
    model = quantize_model(prepared, plan, config)
    state = _State(Draft(prepared, table), plan, {}, model)
    sqnr_db = _sqnr_db(bench, state)
    notes: list[PassNote] = []
    undone: list[str] = []
    for name, step in _steps(config, dataset, progress):
        found, note = step(state)
        if note is None:
            continue
        found_db = _sqnr_db(bench, found)
        if found_db is not None and sqnr_db is not None:
            gain = f"SQNR of the outputs {sqnr_db:.2f} -> {found_db:.2f} dB"
            if found_db < sqnr_db - _CHANCE_DB:
                notes.append(PassNote(name, "", "", False, f"undone: {gain}"))
                undone.append(name)
                continue
            note = replace(note, message=f"{note.message}; {gain}")
        notes.append(note)
        state, sqnr_db = found, found_db
    metadata = {}
    if state.draft.changes:
        metadata[CHANNEL_CHANGES_KEY] = to_text(state.draft.changes)
    if undone:
        metadata[METADATA_KEY] = json.dumps(undone)
    return replace(
        state.model,
        notes=(*notes, *(note for note in state.model.notes if note.node)),
        metadata=metadata,
    )


def undone_steps(model: QuantizedModel) -> tuple[str, ...]:
    """Names of the steps that were undone, as the metadata of a model say; none if unreadable."""
    try:
        found = json.loads(model.metadata.get(METADATA_KEY, "[]"))
    except ValueError:
        return ()
    return tuple(map(str, found)) if isinstance(found, list) else ()


def _bench(prepared: Prepared, dataset: Dataset) -> Bench | None:
    """None where the float network puts out NaN or infinity: nothing is judged by that."""
    samples = evenly_spaced(dataset, _MEASURED_SAMPLES)
    try:
        return open_bench(samples, prepared.model, None, metric_of("sqnr"))
    except NonFiniteRangeError:
        return None


def _sqnr_db(bench: Bench | None, state: _State) -> float | None:
    if bench is None:
        return None
    try:
        return measure(bench, qdq_graph(state.model)).sqnr_db
    except NonFiniteRangeError:
        return -math.inf


def _steps(
    config: QuantConfig, dataset: Dataset | None, progress: StepProgress | None
) -> Iterator[tuple[str, _Step]]:
    """The steps that are switched on, in their order."""
    if config.bias_correction:
        yield "bias_correction", lambda state: _corrected(state, config)
    for name in _FLOAT_STEPS:
        if getattr(config, name):
            yield name, _float_step(name, config)
    if config.activation_range_search and dataset is not None:
        yield "activation_range_search", _range_step(config, dataset, progress)
    if config.weight_scale_search:
        yield "weight_scale_search", lambda state: _with_searched_scales(state, config)
    for name in _STEPS_ON_CONSTANTS:
        if getattr(config, name) and dataset is not None:
            yield name, _constants_step(name, dataset, progress)


def _quantized(
    draft: Draft, plan: QuantPlan, scales: Mapping[str, Float64Array], config: QuantConfig
) -> _State:
    model = quantize_model(draft.prepared, plan, config, weight_scales=scales)
    if config.bias_correction:
        model = correct_biases(model, draft.table)
    return _State(draft, plan, scales, model)


def _corrected(state: _State, config: QuantConfig) -> tuple[_State, PassNote | None]:
    found = _quantized(state.draft, state.plan, state.scales, config)
    return found, _last_note(found.model, "bias_correction")


def _float_step(name: str, config: QuantConfig) -> _Step:
    def step(state: _State) -> tuple[_State, PassNote | None]:
        draft = _FLOAT_STEPS[name](state.draft, config)
        if draft is state.draft:
            return state, None
        plan = make_plan(draft.prepared, draft.table, config, ranges=draft.ranges)
        return _quantized(draft, plan, state.scales, config), draft.notes[-1]

    return step


def _range_step(config: QuantConfig, dataset: Dataset, progress: StepProgress | None) -> _Step:
    def step(state: _State) -> tuple[_State, PassNote | None]:
        draft = state.draft
        advance = _told(progress, "activation_range_search")
        plan, note = search_activation_ranges(
            draft.prepared, state.plan, draft.table, dataset, progress=advance
        )
        return _quantized(draft, plan, state.scales, config), note

    return step


def _with_searched_scales(state: _State, config: QuantConfig) -> tuple[_State, PassNote | None]:
    scales = search_weight_scales(state.draft.prepared, state.plan, config)
    if not scales:
        return state, None
    layers = "1 layer" if len(scales) == 1 else f"{len(scales)} layers"
    message = f"weight scales of {layers} chosen by the squared error of the weights"
    note = PassNote("weight_scale_search", "", "", True, message)
    return _quantized(state.draft, state.plan, scales, config), note


def _constants_step(name: str, dataset: Dataset, progress: StepProgress | None) -> _Step:
    def step(state: _State) -> tuple[_State, PassNote | None]:
        model = _STEPS_ON_CONSTANTS[name](state.model, dataset, progress=_told(progress, name))
        if model is state.model:
            return state, None
        return replace(state, model=model, plan=model.plan), _last_note(model, name)

    return step


def _told(progress: StepProgress | None, name: str) -> Progress:
    return lambda done, total: None if progress is None else progress(name, done, total)


def _last_note(model: QuantizedModel, name: str) -> PassNote | None:
    """What a step said of the whole network."""
    return next(
        (note for note in reversed(model.notes) if note.pass_name == name and not note.node), None
    )
