"""Top-1, top-5, agreement and SQNR of several engines over the same samples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantkit.calibration.batches import Batch, batches
from quantkit.calibration.collector import sample_digest
from quantkit.calibration.dataset import Dataset
from quantkit.calibration.table import format_digest
from quantkit.errors import CalibrationError, ModelError, NonFiniteRangeError
from quantkit.evaluation.engines import Engine
from quantkit.graph.program import Array
from quantkit.numerics.metrics import SqnrSums, same_class, top_k_correct

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class EngineScores:
    """What one engine did on every sample; the first engine is the reference of the others.

    Attributes:
        label: The engine's.
        top1: Whether the answer is the label, per sample; None without labels or classes.
        top5: Whether the label is among the five best; None also with five classes or fewer.
        agrees: Whether the answer is the reference's; None without classes.
        tied: Whether several classes share the best score, the first of which is the answer.
        sqnr_db: Per output, against the reference.
        answers: The class scored highest, per sample; None without classes.
        margins: By how much the reference scores its own answer above this engine's, per sample;
            None without classes.
        outputs: By batch, where they were to be kept.
    """

    label: str
    top1: BoolArray | None
    top5: BoolArray | None
    agrees: BoolArray | None
    tied: BoolArray | None
    sqnr_db: Mapping[str, float]
    answers: IntArray | None = None
    margins: npt.NDArray[np.float64] | None = None
    outputs: tuple[Mapping[str, Array], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Several engines on the same samples.

    Attributes:
        sample_names: The samples that could be read.
        engines: Scores in the order of the engines; the first is the reference.
        indices: Of these samples in the dataset.
        data_digest: Sum modulo 2^256 of the SHA-256 of every sample as it was fed (hexadecimal).
    """

    sample_names: tuple[str, ...]
    engines: tuple[EngineScores, ...]
    indices: tuple[int, ...] = ()
    data_digest: str = ""


def evaluate(
    engines: Sequence[Engine],
    dataset: Dataset,
    labels: IntArray | None = None,
    *,
    batch_size: int = 8,
    keep_outputs: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Run every engine over every sample, one batch at a time.

    The first output holds classes' scores where it is (N, C), C > 1, and there are labels, or no
    other output and no input of the same shape: several outputs without labels may be landmarks or
    boxes, and an output shaped like the input is that of an autoencoder.

    Args:
        engines: The first is the reference of agreement and SQNR.
        dataset: The samples.
        labels: A class per sample of the dataset, or None.
        batch_size: Samples per run.
        keep_outputs: Whether the outputs of all samples are wanted; otherwise memory is bounded.
        progress: Told after every batch.

    Raises:
        ModelError: An engine lacks an output of the reference.
        NonFiniteRangeError: An engine puts out NaN or infinity; it and the output are named.
        CalibrationError: A label is no class of the network.
        UnreadableSampleError: No sample can be read, or an engine refuses one.
    """
    names: list[str] = []
    indices: list[int] = []
    digest = 0
    scores = [_Scores(engine.label, keep_outputs) for engine in engines]
    for batch in batches(dataset, batch_size):
        wanted = None if labels is None else labels[np.asarray(batch.indices)]
        reference: dict[str, Array] = {}
        for engine, score in zip(engines, scores, strict=True):
            outputs = without_padding(engine.run(batch.arrays), batch)
            reference = reference or outputs
            missing = sorted(set(reference) - set(outputs))
            if missing:
                raise ModelError(
                    f"{engine.label} has no output {missing[0]!r}; it has "
                    f"{', '.join(sorted(outputs))}: are both the same network?"
                )
            score.add_sqnr(reference, outputs, batch.names)
            if has_classes(reference, batch, wanted):
                score.add_classes(reference, outputs, wanted, batch.names)
        names += batch.names
        indices += batch.indices
        for row in range(len(batch.names)):
            digest += sample_digest({name: array[row] for name, array in batch.arrays.items()})
        if progress is not None:
            progress(batch.indices[-1] + 1, len(dataset))
    results = tuple(score.result() for score in scores)
    return Evaluation(tuple(names), results, tuple(indices), format_digest(digest))


def has_classes(outputs: Mapping[str, Array], batch: Batch, labels: IntArray | None) -> bool:
    """Whether the first output is taken for classes' scores; see :func:`evaluate`.

    Args:
        outputs: Of a batch, without padding.
        batch: What the network was fed.
        labels: A class per sample, or None.
    """
    scores = next(iter(outputs.values()))
    if class_scores(scores) is None:
        return False
    if labels is not None:
        return True
    return len(outputs) == 1 and all(
        array.shape[1:] != scores.shape[1:] for array in batch.arrays.values()
    )


class _Scores:
    """Scores of one engine while batches come in."""

    def __init__(self, label: str, keep_outputs: bool) -> None:
        self._label = label
        self._keep_outputs = keep_outputs
        self._outputs: list[Mapping[str, Array]] = []
        self._sums: dict[str, SqnrSums] = {}
        self._answers: list[IntArray] = []
        self._margins: list[npt.NDArray[np.float64]] = []
        self._flags: dict[str, list[BoolArray]] = {
            "top1": [],
            "top5": [],
            "agrees": [],
            "tied": [],
        }

    def add_sqnr(
        self, reference: Mapping[str, Array], outputs: Mapping[str, Array], samples: Sequence[str]
    ) -> None:
        if self._keep_outputs:
            self._outputs.append(outputs)
        for name, array in reference.items():
            if array.dtype.kind != "f":
                continue
            if array.shape != outputs[name].shape:
                raise ModelError(
                    f"{self._label}: output {name!r} has shape {outputs[name].shape}, the "
                    f"reference has {array.shape}: are both the same network?"
                )
            try:
                sums = SqnrSums.of(array, outputs[name])
            except NonFiniteRangeError as error:
                raise NonFiniteRangeError(
                    f"{self._label}: output {name!r} on {samples[0]!r}: {error}"
                ) from error
            self._sums[name] = self._sums.get(name, SqnrSums()) + sums

    def add_classes(
        self,
        reference: Mapping[str, Array],
        outputs: Mapping[str, Array],
        labels: IntArray | None,
        samples: Sequence[str],
    ) -> None:
        name = next(iter(reference))
        expected, actual = class_scores(reference[name]), class_scores(outputs[name])
        if expected is None or actual is None or len(actual) != len(samples):
            return
        rows, answers = np.arange(len(actual)), actual.argmax(axis=1)
        self._answers.append(answers)
        self._margins.append((expected.max(axis=1) - expected[rows, answers]).astype(np.float64))
        self._flags["agrees"].append(same_class(expected, actual))
        best = actual == actual.max(axis=1, keepdims=True)
        self._flags["tied"].append(best.sum(axis=1) > 1)
        if labels is not None:
            check_classes(labels, actual.shape[1], samples)
            self._flags["top1"].append(top_k_correct(actual, labels, 1))
            if actual.shape[1] > 5:
                self._flags["top5"].append(top_k_correct(actual, labels, 5))

    def result(self) -> EngineScores:
        joined = {
            name: np.concatenate(parts) if parts else None for name, parts in self._flags.items()
        }
        sqnr = {name: sums.db for name, sums in self._sums.items()}
        return EngineScores(
            label=self._label,
            sqnr_db=sqnr,
            answers=np.concatenate(self._answers) if self._answers else None,
            margins=np.concatenate(self._margins) if self._margins else None,
            outputs=tuple(self._outputs),
            **joined,
        )


def without_padding(outputs: Mapping[str, Array], batch: Batch) -> dict[str, Array]:
    """Outputs of the samples alone, where a network with a fixed batch had it filled up."""
    count, rows = len(batch.names), len(next(iter(batch.arrays.values())))
    return {
        name: array[:count] if array.ndim and len(array) == rows else array
        for name, array in outputs.items()
    }


def check_classes(labels: IntArray, classes: int, samples: Sequence[str]) -> None:
    """Refuse a label that is no class of the network.

    Raises:
        CalibrationError: The sample and its label are named.
    """
    for label, sample in zip(labels, samples, strict=True):
        if not 0 <= label < classes:
            raise CalibrationError(
                f"the label of {sample!r} is {label}, but the network has the {classes} classes "
                f"0 to {classes - 1}; give labels in the network's own numbering"
            )


def class_scores(output: Array) -> Array | None:
    """The output as (N, classes), or None where it is no classifier's."""
    if output.dtype.kind != "f" or output.ndim < 2:
        return None
    if output.ndim > 2 and max(output.shape[2:]) > 1:
        return None
    flat = output.reshape(len(output), -1)
    return flat if flat.shape[1] > 1 else None
