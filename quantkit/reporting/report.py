"""The report as plain data, and the function that makes one."""

import logging
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from quantkit.calibration.batches import batches
from quantkit.calibration.dataset import Dataset
from quantkit.calibration.table import tool_version
from quantkit.evaluation.accuracy import EngineScores, evaluate
from quantkit.evaluation.engines import Engine, integer_engine, onnxruntime_engine
from quantkit.evaluation.file_boundaries import file_inputs
from quantkit.evaluation.integer_share import measured_mac_percent
from quantkit.evaluation.samples import evenly_spaced
from quantkit.graph.ort_session import median_latencies_ms, onnxruntime_version
from quantkit.numerics.paired import (
    PairedCounts,
    chance_of_at_least,
    mcnemar_p_value,
    paired_difference_interval,
)
from quantkit.passes.prepare import Prepared
from quantkit.quantized_model.model import QuantizedModel
from quantkit.reporting.compare import LayerError, check_same_network, compare_layers
from quantkit.reporting.diagnose import Cause, diagnose

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with the section, what is done of it and what there is in all."""

FLOAT_LABEL = "float"
INT8_LABEL = "int8 in onnxruntime"
INTEGER_LABEL = "int8 integer session"
# Layer errors hardly differ between pictures: these many, evenly spaced, are enough.
LAYER_SAMPLES = 16
# With fewer samples even a good network may look like chance.
_FEWEST_GUESSES = 20
_SURELY_BETTER = 0.01


class _Frozen(BaseModel):
    # SQNR is infinite where nothing was lost; JSON has no infinity but as a string.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class EngineRow(_Frozen):
    """One way to run the network: percentages of samples, SQNR in dB against float.

    ``tied`` counts samples with several best classes, of which the first is taken.
    """

    label: str
    top1_percent: float | None
    top5_percent: float | None
    agreement_percent: float | None
    tied: int | None
    sqnr_db: dict[str, float]
    latency_ms: float | None
    size_bytes: int | None


class Drop(_Frozen):
    """Top-1 of float minus int8, in percentage points, on the same samples.

    ``low`` and ``high`` are Newcombe's 95 % interval for paired proportions, ``p_value`` is exact
    McNemar.
    """

    points: float
    low: float
    high: float
    p_value: float
    right_to_wrong: int
    wrong_to_right: int

    @property
    def is_noise(self) -> bool:
        """Whether the interval contains no change."""
        return self.low <= 0.0 <= self.high


class Report(_Frozen):
    """What was lost, where and why. Round-trips through JSON; nothing is rendered here.

    ``samples`` were read, ``skipped`` could not be; ``drop`` is None without labels or classes.
    ``int8_mac_percent`` is counted in the graph onnxruntime writes after optimizing; None where
    shapes are unknown. ``layers_without_reference`` are integer layers for which the float
    network has no tensor of the same name, so that nothing can be said of them.
    """

    schema_version: Literal[1] = 1
    float_model: str
    quantized_model: str
    samples: int
    skipped: int
    engines: tuple[EngineRow, ...]
    drop: Drop | None
    int8_mac_percent: float | None
    kept_float: dict[str, str]
    layers_without_reference: int
    layers: tuple[LayerError, ...]
    causes: tuple[Cause, ...]
    provenance: dict[str, str]

    def engine(self, label: str) -> EngineRow:
        """The row of an engine."""
        return next(row for row in self.engines if row.label == label)


def make_report(
    float_path: Path,
    quantized_path: Path,
    reference: Prepared,
    model: QuantizedModel,
    dataset: Dataset,
    labels: npt.NDArray[np.int64] | None,
    *,
    batch_size: int = 8,
    with_integer_session: bool = True,
    progress: Progress | None = None,
) -> Report:
    """Measure everything a report says.

    Args:
        float_path: The float file.
        quantized_path: The quantized file.
        reference: The float file, prepared.
        model: The quantized file, as read.
        dataset: Samples to judge on.
        labels: A class per sample, or None.
        batch_size: Samples per run.
        with_integer_session: Also run every sample through the integer session.
        progress: Told how far each section is.

    Raises:
        QuantkitError: See ``errors``.
    """
    check_same_network(reference, model)
    made_from = model.metadata.get("model_digest")
    if made_from not in (None, reference.digest):
        logger.warning(
            "%s was quantized from another float model than %s, or its weights have changed",
            quantized_path,
            float_path,
        )
    engines: list[Engine] = [
        onnxruntime_engine(FLOAT_LABEL, float_path),
        onnxruntime_engine(INT8_LABEL, quantized_path, model=model),
    ]
    if with_integer_session:
        engines.append(integer_engine(INTEGER_LABEL, model))
    evaluation = evaluate(
        engines, dataset, labels, batch_size=batch_size, progress=_section(progress, "accuracy")
    )
    first, second = evaluation.engines[:2]
    if labels is not None and first.top1 is None:
        logger.warning("labels are not used: the first output holds no score per class")
    few = evenly_spaced(dataset, LAYER_SAMPLES)
    errors = compare_layers(reference, model, few, _section(progress, "layers"))
    feeds = next(iter(batches(few, 1))).arrays
    latencies = median_latencies_ms(
        {FLOAT_LABEL: float_path, INT8_LABEL: quantized_path},
        {FLOAT_LABEL: feeds, INT8_LABEL: file_inputs(model, feeds)},
    )
    sizes = {FLOAT_LABEL: model_bytes(float_path), INT8_LABEL: model_bytes(quantized_path)}
    return Report(
        float_model=float_path.name,
        quantized_model=quantized_path.name,
        samples=len(evaluation.sample_names),
        skipped=len(dataset) - len(evaluation.sample_names),
        engines=tuple(
            _row(scores, latencies.get(scores.label), sizes.get(scores.label))
            for scores in evaluation.engines
        ),
        drop=_drop(first, second),
        int8_mac_percent=measured_mac_percent(quantized_path, model.prepared.program),
        kept_float=dict(model.plan.kept_float),
        layers_without_reference=_without_reference(model, errors),
        layers=errors,
        causes=(*_guessing(first, labels), *diagnose(reference, model, errors)),
        provenance={
            "quantkit": tool_version(),
            "onnxruntime": onnxruntime_version(),
            "numpy": np.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            **{f"model.{key}": value for key, value in sorted(model.metadata.items())},
        },
    )


def _section(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(name, done, total)


def model_bytes(path: Path) -> int:
    """Size of a model, with the weights that lie beside it in ``NAME.data``."""
    external = path.with_name(f"{path.name}.data")
    return path.stat().st_size + (external.stat().st_size if external.exists() else 0)


def _percent(flags: npt.NDArray[np.bool_] | None) -> float | None:
    return None if flags is None else 100.0 * float(np.mean(flags))


def _row(scores: EngineScores, latency_ms: float | None, size_bytes: int | None) -> EngineRow:
    is_reference = scores.label == FLOAT_LABEL
    return EngineRow(
        label=scores.label,
        top1_percent=_percent(scores.top1),
        top5_percent=_percent(scores.top5),
        agreement_percent=None if is_reference else _percent(scores.agrees),
        tied=None if scores.tied is None else int(np.sum(scores.tied)),
        sqnr_db={} if is_reference else dict(scores.sqnr_db),
        latency_ms=latency_ms,
        size_bytes=size_bytes,
    )


def _drop(reference: EngineScores, actual: EngineScores) -> Drop | None:
    if reference.top1 is None or actual.top1 is None:
        return None
    return paired_drop(PairedCounts.of(reference.top1, actual.top1))


def paired_drop(counts: PairedCounts) -> Drop:
    """The drop of top-1 from the first to the second of a pair."""
    low, high = paired_difference_interval(counts)
    return Drop(
        points=100.0 * counts.difference,
        low=100.0 * low,
        high=100.0 * high,
        p_value=mcnemar_p_value(counts),
        right_to_wrong=counts.first_only,
        wrong_to_right=counts.second_only,
    )


def _without_reference(model: QuantizedModel, errors: Sequence[LayerError]) -> int:
    judged = {error.node for error in errors if error.isolated_sqnr_db is not None}
    return sum(
        node.name not in judged
        for node in model.prepared.program.nodes
        if node.name not in model.plan.kept_float and node.name not in model.prepared.clamps
    )


def _guessing(reference: EngineScores, labels: npt.NDArray[np.int64] | None) -> tuple[Cause, ...]:
    """A float network that is no better than chance: its inputs or labels are wrong."""
    if labels is None or reference.top1 is None or not labels.size:
        return ()
    classes, right, count = int(labels.max()) + 1, int(reference.top1.sum()), reference.top1.size
    if classes < 2 or count < _FEWEST_GUESSES:
        return ()
    if chance_of_at_least(right, count, 1 / classes) < _SURELY_BETTER:
        return ()
    evidence = f"{right} of {count} samples are right, of {classes} classes"
    remedy = "another --preset or --channel-order, and check that --labels fit the model"
    return (Cause("the float network", "no better than guessing", evidence, remedy),)


def worst_first(layers: Sequence[LayerError]) -> list[LayerError]:
    """Integer layers by isolated SQNR, the worst first."""
    judged = [layer for layer in layers if layer.isolated_sqnr_db is not None]
    return sorted(judged, key=lambda layer: layer.isolated_sqnr_db or 0.0)
