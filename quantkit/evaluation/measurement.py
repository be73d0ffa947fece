"""One number for each of many variants of a network, on the same samples.

The samples are read and preprocessed once, as far as memory allows, and the float network runs
once.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quantkit.calibration.batches import Batch, batches
from quantkit.calibration.dataset import Dataset
from quantkit.evaluation.accuracy import check_classes, class_scores, without_padding
from quantkit.evaluation.metric import Batches, Labels, Metric, outputs_sqnr_db, right_answers
from quantkit.graph.ort_session import Model, OrtSession, open_session
from quantkit.graph.program import Array
from quantkit.numerics.paired import PairedCounts

_BATCH = 8
_MOST_BYTES = 1 << 29


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one variant of a network is worth.

    Attributes:
        value: Of the metric.
        sqnr_db: Of the outputs, against the float network's.
        counts: Right answers of the float network and of the variant; None unless the metric is
            top1.
    """

    value: float
    sqnr_db: float
    counts: PairedCounts | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """Samples, what the float network makes of them, and how variants are judged.

    Attributes:
        read: The samples in batches, the same at every call.
        count: How many there are.
        reference: The float network's outputs, by batch.
        labels: A class per sample, or None.
        metric: What the variants are judged by.
        float_measurement: What the float network itself is worth.
    """

    read: Callable[[], Iterable[Batch]]
    count: int
    reference: Batches
    labels: Labels | None
    metric: Metric
    float_measurement: Measurement


def open_bench(
    dataset: Dataset, float_model: Model, labels: Labels | None, metric: Metric
) -> Bench:
    """Read the samples and run the float network on them.

    Args:
        dataset: The samples.
        float_model: The reference.
        labels: A class per sample of the dataset, or None.
        metric: What variants will be judged by.

    Raises:
        ConfigError: The metric needs labels, or classes, and there are none.
        CalibrationError: No sample can be read; a label is no class; the user's metric fails.
    """
    read = _kept_if_small(dataset)
    session = open_session(float_model)
    indices: list[int] = []
    names: list[str] = []
    reference: list[Mapping[str, Array]] = []
    for batch in read():
        reference.append(_run(session, batch))
        indices += batch.indices
        names += batch.names
    chosen = None if labels is None else labels[np.asarray(indices, np.intp)]
    if chosen is not None:
        scores = class_scores(next(iter(reference[0].values())))
        if scores is not None:
            check_classes(chosen, scores.shape[1], names)
    found = _measurement(metric, reference, reference, chosen)
    return Bench(read, len(indices), reference, chosen, metric, found)


def measure(bench: Bench, model: Model | Path) -> Measurement:
    """Run a variant of the network, in memory or a file, in onnxruntime and judge it.

    Raises:
        ModelError: onnxruntime cannot load it.
        NonFiniteRangeError: It puts out NaN or infinity.
    """
    session = open_session(model)
    actual = [_run(session, batch) for batch in bench.read()]
    return _measurement(bench.metric, bench.reference, actual, bench.labels)


def _measurement(
    metric: Metric, reference: Batches, actual: Batches, labels: Labels | None
) -> Measurement:
    value = metric.score(reference, actual, labels)
    counts = None
    if metric.name == "top1" and labels is not None:
        counts = PairedCounts.of(right_answers(reference, labels), right_answers(actual, labels))
    return Measurement(value, outputs_sqnr_db(reference, actual), counts)


def _run(session: OrtSession, batch: Batch) -> dict[str, Array]:
    return without_padding(session.run(batch.arrays), batch)


def _kept_if_small(dataset: Dataset) -> Callable[[], Iterable[Batch]]:
    """The batches in memory, or read anew at every call."""
    kept: list[Batch] = []
    size = 0
    for batch in batches(dataset, _BATCH):
        kept.append(batch)
        size += sum(array.nbytes for array in batch.arrays.values())
        if size > _MOST_BYTES:
            return lambda: batches(dataset, _BATCH)
    return lambda: kept
