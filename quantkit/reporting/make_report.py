"""Measure everything a report says."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from quantkit.calibration.dataset import Dataset
from quantkit.evaluation.accuracy import EngineScores, Evaluation, IntArray, evaluate
from quantkit.evaluation.drop_split import drop_split
from quantkit.evaluation.engines import Engine, integer_engine, onnxruntime_engine
from quantkit.evaluation.metric import Metric
from quantkit.evaluation.samples import evenly_spaced
from quantkit.exporters.partial_graphs import activations_only, dequantized_network, weights_only
from quantkit.graph.model_io import load_model, program_of
from quantkit.quantized_model.model import QuantizedModel
from quantkit.recovery.channel_changes import METADATA_KEY, from_text
from quantkit.reporting.causes.findings import Findings
from quantkit.reporting.changed_predictions import (
    changed_predictions,
    changed_samples,
    class_flips,
)
from quantkit.reporting.compare import check_same_network, compare_layers
from quantkit.reporting.diagnose import diagnose
from quantkit.reporting.drops import metric_drop, top1_drop
from quantkit.reporting.layer import Layer
from quantkit.reporting.network_cost import latencies_ms, model_bytes, network_cost
from quantkit.reporting.provenance import provenance
from quantkit.reporting.report import (
    FLOAT_LABEL,
    INT8_LABEL,
    INTEGER_LABEL,
    EngineRow,
    Report,
    SplitRow,
)
from quantkit.reporting.subject import Subject

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with the section, what is done of it and what there is in all."""

# Layer errors hardly differ between pictures: these many, evenly spaced, are enough.
LAYER_SAMPLES = 16


def make_report(
    subject: Subject,
    dataset: Dataset,
    labels: IntArray | None,
    *,
    metric: Metric | None = None,
    class_names: Sequence[str] = (),
    batch_size: int = 8,
    with_integer_session: bool = True,
    command: str = "",
    progress: Progress | None = None,
) -> Report:
    """Measure everything a report says but what remedies would bring.

    Args:
        subject: The models.
        dataset: Samples to judge on.
        labels: A class per sample, or None.
        metric: A function of the user's, or None.
        class_names: By class number; empty: unknown.
        batch_size: Samples per run.
        with_integer_session: Also run every sample through the integer session.
        command: The command line, to be told.
        progress: Told how far each section is.

    Raises:
        QuantkitError: See ``errors``.
    """
    model, files = subject.model, subject.files()
    _check_origin(subject)
    engines = [
        onnxruntime_engine(label, path, model=model if label == INT8_LABEL else None)
        for label, path in files.items()
    ]
    if with_integer_session:
        engines.append(integer_engine(INTEGER_LABEL, model))
    evaluation = evaluate(
        engines,
        dataset,
        labels,
        batch_size=batch_size,
        keep_outputs=metric is not None,
        progress=_section(progress, "accuracy"),
    )
    scores = {score.label: score for score in evaluation.engines}
    floating, int8 = scores.get(FLOAT_LABEL), scores[INT8_LABEL]
    samples = len(evaluation.sample_names)
    if labels is not None and int8.top1 is None:
        logger.warning("labels are not used: the first output holds no score per class")
    chosen = None if labels is None else labels[np.asarray(evaluation.indices, np.intp)]
    lost = None
    if metric is not None and floating is not None:
        told = _section(progress, "metric")
        lost = metric_drop(metric, floating, int8, chosen, samples, told)
    split = _split(subject, evaluation, engines[0], dataset, labels, batch_size, progress)
    few = evenly_spaced(dataset, LAYER_SAMPLES)
    source, reference, compared = subject.float_path, subject.reference, model
    if reference is None:
        reference, compared = dequantized_network(model), _without_changes(model)
    comparison = compare_layers(
        reference,
        compared,
        few,
        _section(progress, "layers"),
        source=None if source is None else program_of(load_model(source)),
    )
    findings = Findings(
        reference,
        compared,
        comparison.layers,
        comparison.statistics,
        has_float_model=floating is not None,
        dataset=dataset,
        labels=labels,
        float_right=None if floating is None else floating.top1,
    )
    latencies = latencies_ms(subject, few)
    changed = None if floating is None else changed_samples(floating, int8)
    report = Report(
        float_model=None if source is None else source.name,
        quantized_model=subject.quantized_path.name,
        samples=samples,
        skipped=len(dataset) - samples,
        metric=None if metric is None else metric.name,
        class_names=tuple(class_names),
        engines=tuple(
            _row(
                score,
                is_reference=score is evaluation.engines[0],
                metric=None if metric is None else metric.score((), score.outputs, chosen),
                latency_ms=latencies.get(score.label),
                size_bytes=model_bytes(files[score.label]) if score.label in files else None,
            )
            for score in evaluation.engines
        ),
        drop=None if floating is None else top1_drop(floating, int8),
        metric_drop=lost,
        cost=network_cost(subject),
        split=split,
        kept_float=dict(model.plan.kept_float),
        layers_without_reference=_without_reference(model, comparison.layers),
        layer_samples=len(few),
        layers=comparison.layers,
        causes=diagnose(findings),
        changed_count=None if changed is None else len(changed),
        provenance=provenance(source, subject.quantized_path, model, dataset, evaluation, command),
    )
    if floating is None:
        return report
    shown = changed_predictions(evaluation, floating, int8, dataset, labels)
    return report.model_copy(update={"changed": shown, "flips": class_flips(floating, int8)})


def _check_origin(subject: Subject) -> None:
    if subject.reference is None:
        return
    check_same_network(subject.reference, subject.model)
    made_from = subject.model.metadata.get("model_digest")
    if made_from not in (None, subject.reference.digest):
        logger.warning(
            "%s was quantized from another float model than %s, or its weights have changed",
            subject.quantized_path,
            subject.float_path,
        )


def _without_changes(model: QuantizedModel) -> QuantizedModel:
    """For a reference whose channels are those of the quantized network already."""
    metadata = {key: text for key, text in model.metadata.items() if key != METADATA_KEY}
    return replace(model, metadata=metadata)


def _section(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    return None if progress is None else partial(progress, name)


def _percent(flags: npt.NDArray[np.bool_] | None) -> float | None:
    return None if flags is None else 100.0 * float(np.mean(flags))


def _row(
    scores: EngineScores,
    *,
    is_reference: bool,
    metric: float | None,
    latency_ms: float | None,
    size_bytes: int | None,
) -> EngineRow:
    return EngineRow(
        label=scores.label,
        top1_percent=_percent(scores.top1),
        top5_percent=_percent(scores.top5),
        metric=metric,
        agreement_percent=None if is_reference else _percent(scores.agrees),
        tied=None if scores.tied is None else int(np.sum(scores.tied)),
        sqnr_db={} if is_reference else dict(scores.sqnr_db),
        latency_ms=latency_ms,
        size_bytes=size_bytes,
    )


def _split(
    subject: Subject,
    evaluation: Evaluation,
    engine: Engine,
    dataset: Dataset,
    labels: IntArray | None,
    batch_size: int,
    progress: Progress | None,
) -> tuple[SplitRow, ...]:
    """Weights only, activations only, both; without what cannot be measured."""
    reference, model = subject.reference, subject.model
    if reference is None:
        return ()
    changes = {
        name: (change.factors, change.shifts)
        for name, change in from_text(model.metadata.get(METADATA_KEY, "{}")).items()
    }
    graphs = {
        "weights only": weights_only(reference, model, changes),
        "activations only": activations_only(reference, model, changes),
    }
    both = evaluation.engines[1]
    parts = drop_split(
        engine,
        {label: graph for label, graph in graphs.items() if graph is not None},
        both,
        dataset,
        labels,
        batch_size=batch_size,
        progress=_section(progress, "weights and activations"),
    )
    if not parts:
        return ()
    return tuple(
        SplitRow(
            label=label,
            sqnr_db=dict(scores.sqnr_db),
            agreement_percent=_percent(scores.agrees),
            top1_percent=_percent(scores.top1),
        )
        for label, scores in (*((part.label, part) for part in parts), ("both", both))
    )


def _without_reference(model: QuantizedModel, layers: Sequence[Layer]) -> int:
    judged = {layer.node for layer in layers if layer.isolated_sqnr_db is not None}
    return sum(
        node.name not in judged
        for node in model.prepared.program.nodes
        if node.name not in model.plan.kept_float and node.name not in model.prepared.clamps
    )
