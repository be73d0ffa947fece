"""Whether the float network answers far better to pictures that are fed in another way.

With labels, by what it makes of the right class: McNemar's test on right and wrong answers, or a
sign test on the label's log-probability, pair by pair. Without labels, by how sure it is: a sign
test on the entropy of its answers, which is only trusted alone where it is overwhelming, else where
the first layer's BatchNormalization agrees. What that alone says counts too
(``input_check.input_warnings``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from quantkit.calibration.batches import batches
from quantkit.calibration.dataset import Dataset, Source
from quantkit.calibration.pictures import PictureSource
from quantkit.calibration.preprocessing import PRESETS, Preprocessing
from quantkit.calibration.statistics import TensorStatistics
from quantkit.calibration.table import CalibrationTable
from quantkit.errors import QuantkitError
from quantkit.evaluation.accuracy import class_scores, without_padding
from quantkit.evaluation.first_layer import first_layer
from quantkit.evaluation.input_check import input_warnings
from quantkit.evaluation.samples import evenly_spaced
from quantkit.graph.ort_session import OrtSession, open_session
from quantkit.graph.program import Array
from quantkit.numerics.paired import PairedCounts, chance_of_at_least, mcnemar_p_value
from quantkit.passes.prepare import Prepared

Labels = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]

MOST_SAMPLES = 64
_FEWEST_SAMPLES = 12
# McNemar's; several ways are tried, and healthy networks answer worse in all of them.
_LABELS_P = 0.01
_SIGNS_P = 0.001
# Entropies say something of the answers only if they are right, so they must say it loudly.
_ENTROPY_P = 1e-5
_BATCH = 8
_COLOURS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Better:
    """Another way to feed the pictures.

    Attributes:
        option: As it is typed.
        changes: Fields of ``Preprocessing``; empty where the data are arrays.
        evidence: A sentence.
    """

    option: str
    changes: dict[str, str | tuple[float, ...]]
    evidence: str


def better_preprocessing(
    prepared: Prepared,
    dataset: Dataset,
    labels: Labels | None,
    statistics: Mapping[str, TensorStatistics],
    stored: Preprocessing | None = None,
) -> Better | None:
    """The way to feed the pictures that the float network answers far better to; None: as it is.

    Args:
        prepared: The float network.
        dataset: The samples; at most 64 of them are tried.
        labels: A class per sample.
        statistics: Of the network's input on some of the samples.
        stored: The preprocessing of the calibration, which is tried first.
    """
    if len(dataset.inputs) != 1:
        return None
    ways = _ways(dataset, stored, labels is not None)
    warned = _warned(prepared, dataset, statistics)
    if not ways:
        return None
    if warned and ways[0][0].changes.keys() <= {"channel_order"}:
        return replace(ways[0][0], evidence=f"{warned[0]}")
    few = evenly_spaced(replace(dataset, labels=labels), MOST_SAMPLES)
    session = open_session(prepared.model)
    try:
        now = _answers(session, few)
        if now is None or len(now) < _FEWEST_SAMPLES:
            return None
        for way, source in ways:
            then = _answers(session, replace(few, source=source))
            if then is None or then.shape != now.shape or few.skipped:
                continue
            evidence = _labels_say(now, then, few.labels)
            if evidence is None and way.changes.keys() <= {"channel_order"}:
                evidence = _entropies_say(
                    now, then, agrees=_colours_agree(prepared, dataset, statistics)
                )
            if evidence is not None:
                return replace(way, evidence=evidence)
    except QuantkitError:  # a way that the network cannot be fed in says nothing
        return None
    return None


def _ways(
    dataset: Dataset, stored: Preprocessing | None, with_presets: bool
) -> list[tuple[Better, Source]]:
    source, now = dataset.source, dataset.preprocessing
    if not isinstance(source, PictureSource) or now is None:
        axis = _colour_axis(dataset)
        reversed_ = Better("the channels of the arrays reversed", {}, "")
        return [] if axis is None else [(reversed_, _Reversed(source, dataset, axis))]
    ways: list[Better] = []
    if len(now.mean) == _COLOURS:
        other = "RGB" if now.channel_order == "BGR" else "BGR"
        ways.append(Better(f"--channel-order {other}", {"channel_order": other}, ""))
    if stored is not None and (stored.mean, stored.std) != (now.mean, now.std):
        ways.append(_normalized("the calibration's --mean and --std", stored))
    if with_presets:
        ways += [
            _normalized(f"--preset {name}", how)
            for name, how in PRESETS.items()
            if len(how.mean) == len(now.mean) and (how.mean, how.std) != (now.mean, now.std)
        ]
    return [
        (way, replace(source, preprocessing=replace(now, **way.changes)))  # type: ignore[arg-type]
        for way in ways
    ]


def _normalized(option: str, how: Preprocessing) -> Better:
    return Better(option, {"mean": how.mean, "std": how.std}, "")


@dataclass(frozen=True, slots=True, eq=False)
class _Reversed:
    """Arrays with their channels in the other order."""

    source: Source
    dataset: Dataset
    axis: int

    @property
    def names(self) -> tuple[str, ...]:
        return self.source.names

    @property
    def stamp(self) -> str:
        return self.source.stamp

    @property
    def splittable(self) -> bool:
        return False

    def read(self, index: int) -> dict[str, Array]:
        return {name: np.flip(array, self.axis) for name, array in self.source.read(index).items()}


def _colour_axis(dataset: Dataset) -> int | None:
    """Of a sample, without batch axis; None where it is no colour picture."""
    shape = dataset.inputs[0].shape or ()
    if len(shape) != 4:
        return None
    return 0 if shape[1] == _COLOURS else 2 if shape[3] == _COLOURS else None


def _answers(session: OrtSession, dataset: Dataset) -> Float64Array | None:
    """Log-probabilities, float64, (N, classes); None where the output holds no classes."""
    rows: list[Array] = []
    for batch in batches(dataset, _BATCH):
        scores = class_scores(
            next(iter(without_padding(session.run(batch.arrays), batch).values()))
        )
        if scores is None or scores.shape[1] < 2:
            return None
        rows.append(scores)
    found = np.concatenate(rows).astype(np.float64)
    if (found >= 0.0).all() and np.allclose(found.sum(axis=1), 1.0, atol=1e-2):
        return np.log(np.maximum(found, 1e-12))
    found -= found.max(axis=1, keepdims=True)
    result: Float64Array = found - np.log(np.exp(found).sum(axis=1, keepdims=True))
    return result


def _labels_say(now: Float64Array, then: Float64Array, labels: Labels | None) -> str | None:
    if labels is None or len(labels) != len(now) or labels.max(initial=0) >= now.shape[1]:
        return None
    right, right_then = now.argmax(axis=1) == labels, then.argmax(axis=1) == labels
    rows = np.arange(len(labels))
    counts = PairedCounts.of(right_then, right)
    if counts.difference <= 0.0:
        return None
    signs = _sign_p(then[rows, labels] - now[rows, labels])
    if mcnemar_p_value(counts) >= _LABELS_P and signs >= _SIGNS_P:
        return None
    return (
        f"with it the float network answers {right_then.sum()} of {len(labels)} samples rightly, "
        f"as fed here {right.sum()}"
    )


def _entropies_say(now: Float64Array, then: Float64Array, *, agrees: bool | None) -> str | None:
    """Agrees: whether the first layer says so, too; None: it says nothing."""
    surer = _entropy(now) - _entropy(then)
    limit = _SIGNS_P if agrees else _ENTROPY_P
    if agrees is False or _sign_p(surer) >= limit:
        return None
    return (
        f"with it the float network is surer of {int((surer > 0).sum())} of {len(now)} samples; "
        f"mean entropy of its answers {_entropy(then).mean():.2f} instead of "
        f"{_entropy(now).mean():.2f}"
    )


def _entropy(log: Float64Array) -> Float64Array:
    result: Float64Array = -(np.exp(log) * log).sum(axis=1)
    return result


def _sign_p(gain: Float64Array) -> float:
    moved = gain[gain != 0.0]
    return chance_of_at_least(int((moved > 0).sum()), moved.size, 0.5) if moved.size else 1.0


def _warned(
    prepared: Prepared, dataset: Dataset, statistics: Mapping[str, TensorStatistics]
) -> list[str]:
    """What the first layer says where it finds the colours exchanged."""
    known = {n: s for n, s in statistics.items() if n in dataset.input_names}
    if not known:
        return []
    samples = max(found.sample_count for found in known.values())
    table = CalibrationTable(known, "", "", "0", samples, True, dataset.preprocessing, "")
    return [said for said in input_warnings(prepared, table) if said.startswith("red and blue")]


def _colours_agree(
    prepared: Prepared, dataset: Dataset, statistics: Mapping[str, TensorStatistics]
) -> bool | None:
    """Whether the first layer's trained means fit better the other way round; None: unknown."""
    name = dataset.input_names[0]
    layer, found = first_layer(prepared, name), statistics.get(name)
    channels = None if found is None else found.channels
    if layer is None or found is None or channels is None or channels.channels != _COLOURS:
        return None
    mean = channels.means(found.sample_count)
    how = dataset.preprocessing
    scale, shift = np.ones(_COLOURS), np.zeros(_COLOURS)
    if how is not None:
        scale, shift = np.array(how.std), np.array(how.mean)
    pixels = mean * scale + shift
    as_is, other = (
        float(np.mean(layer.z((pixels[::step] - shift) / scale) ** 2)) for step in (1, -1)
    )
    return other < as_is
