"""The samples whose class changed from float to int8, and which classes changed into which."""

from collections import Counter

import numpy as np

from quantkit.calibration.dataset import Dataset
from quantkit.evaluation.accuracy import EngineScores, Evaluation, IntArray
from quantkit.reporting.report import ChangedPrediction, ClassFlip
from quantkit.reporting.sample_picture import sample_picture

_MOST_SHOWN, _MOST_FLIPS = 24, 20


def changed_samples(reference: EngineScores, actual: EngineScores) -> IntArray | None:
    """Positions of the samples that the second engine answers otherwise; None without classes."""
    if reference.answers is None or actual.answers is None:
        return None
    return np.flatnonzero(reference.answers != actual.answers)


def changed_predictions(
    evaluation: Evaluation,
    reference: EngineScores,
    actual: EngineScores,
    dataset: Dataset,
    labels: IntArray | None,
) -> tuple[ChangedPrediction, ...]:
    """Changed samples with their pictures, 24 at most.

    First those that the reference answers rightly; among them the surest answers, by the margin of
    their scores, first.

    Args:
        evaluation: Both engines' and the samples' names.
        reference: The float network.
        actual: The int8 network.
        dataset: The samples, to be read again.
        labels: A class per sample of the dataset, or None.
    """
    changed = changed_samples(reference, actual)
    if changed is None or actual.margins is None:
        return ()
    assert reference.answers is not None
    assert actual.answers is not None
    wrong = np.zeros(len(changed), np.bool_) if reference.top1 is None else ~reference.top1[changed]
    order = np.lexsort((changed, -actual.margins[changed], wrong))
    found = []
    for position in changed[order[:_MOST_SHOWN]]:
        index = evaluation.indices[position]
        found.append(
            ChangedPrediction(
                sample=evaluation.sample_names[position],
                label=None if labels is None else int(labels[index]),
                float_class=int(reference.answers[position]),
                int8_class=int(actual.answers[position]),
                float_margin=float(actual.margins[position]),
                picture=_picture(dataset, index),
            )
        )
    return tuple(found)


def class_flips(reference: EngineScores, actual: EngineScores) -> tuple[ClassFlip, ...]:
    """How many samples changed from one class to another: the 20 most frequent changes."""
    changed = changed_samples(reference, actual)
    if changed is None or reference.answers is None or actual.answers is None:
        return ()
    pairs = zip(reference.answers[changed].tolist(), actual.answers[changed].tolist(), strict=True)
    ordered = sorted(Counter(pairs).items(), key=lambda item: (-item[1], item[0]))
    return tuple(
        ClassFlip(float_class=before, int8_class=after, count=count)
        for (before, after), count in ordered[:_MOST_FLIPS]
    )


def _picture(dataset: Dataset, index: int) -> str:
    arrays = dataset.read(index) or {}
    pictures = (sample_picture(array, dataset.preprocessing) for array in arrays.values())
    return next(filter(None, pictures), "")
