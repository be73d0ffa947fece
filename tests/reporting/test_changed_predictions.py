"""Which predictions changed, in what order, and the pictures of them."""

import base64
import io
from typing import get_args

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from quantkit.calibration.dataset import open_dataset
from quantkit.calibration.preprocessing import (
    PRESETS,
    ChannelOrder,
    Layout,
    preprocess,
    resolve,
)
from quantkit.evaluation.accuracy import EngineScores, Evaluation
from quantkit.graph.program import Array, TensorSpec
from quantkit.reporting.changed_predictions import changed_predictions, class_flips
from quantkit.reporting.report import ClassFlip
from quantkit.reporting.sample_picture import sample_picture

FLOAT = np.dtype(np.float32)


def decoded(picture: str) -> Array:
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        assert image.format == "JPEG"
        array: Array = np.asarray(image).astype(int)
    return array


def scores(
    answers: list[int],
    margins: list[float] | None = None,
    top1: list[bool] | None = None,
) -> EngineScores:
    count = len(answers)
    return EngineScores(
        label="",
        top1=None if top1 is None else np.array(top1),
        top5=None,
        agrees=None,
        tied=None,
        sqnr_db={},
        answers=np.array(answers),
        margins=np.zeros(count) if margins is None else np.array(margins),
    )


def found(
    reference: EngineScores, actual: EngineScores, labels: npt.NDArray[np.int64] | None = None
) -> list[tuple[str, int | None, int, int, float]]:
    assert reference.answers is not None
    count = len(reference.answers)
    rows = np.zeros((count + 1, 3, 4, 5), np.float32)
    dataset = open_dataset(rows, [TensorSpec("x", FLOAT, (None, 3, 4, 5))], preprocessing=None)
    # The first sample could not be read.
    indices = tuple(range(1, count + 1))
    evaluation = Evaluation(dataset.sample_names[1:], (reference, actual), indices)
    rows_shown = changed_predictions(evaluation, reference, actual, dataset, labels)
    assert all(decoded(row.picture).shape == (4, 5, 3) for row in rows_shown)
    return [
        (row.sample, row.label, row.float_class, row.int8_class, row.float_margin)
        for row in rows_shown
    ]


def test_right_answers_first_then_by_margin() -> None:
    reference = scores([0, 1, 2, 3, 4], top1=[True, False, True, True, False])
    actual = scores([1, 0, 2, 0, 0], [0.5, 9.0, 0.0, 2.0, 1.0])
    labels = np.array([-1, 0, 7, 2, 3, 8])
    assert found(reference, actual, labels) == [
        ("array[4]", 3, 3, 0, 2.0),
        ("array[1]", 0, 0, 1, 0.5),
        ("array[2]", 7, 1, 0, 9.0),
        ("array[5]", 8, 4, 0, 1.0),
    ]


def test_without_labels_and_without_changes() -> None:
    shown = found(scores([0, 1]), scores([1, 1], [0.5, 0.0]))
    assert shown == [("array[1]", None, 0, 1, 0.5)]
    assert found(scores([0, 1]), scores([0, 1])) == []


def test_at_most_24_are_shown() -> None:
    shown = found(scores([0] * 40), scores([1] * 40, list(np.arange(40.0))))
    assert [row[-1] for row in shown] == list(np.arange(39.0, 15.0, -1))


def test_flips_are_counted_the_most_frequent_first() -> None:
    reference, actual = scores([0, 0, 5, 3, 3, 3, 9]), scores([1, 1, 5, 2, 2, 2, 8])
    assert class_flips(reference, actual) == (
        ClassFlip(float_class=3, int8_class=2, count=3),
        ClassFlip(float_class=0, int8_class=1, count=2),
        ClassFlip(float_class=9, int8_class=8, count=1),
    )
    many = class_flips(scores(list(range(60))), scores([99] * 60))
    assert [flip.float_class for flip in many] == list(range(20))


@pytest.mark.parametrize("layout", get_args(Layout))
@pytest.mark.parametrize("order", get_args(ChannelOrder))
@pytest.mark.parametrize("preset", PRESETS)
def test_preprocessing_is_undone(preset: str, order: ChannelOrder, layout: Layout) -> None:
    """Flat colours survive JPEG within a few steps."""
    from dataclasses import replace

    colours = np.zeros((64, 64, 3), np.uint8)
    colours[:, :32], colours[:, 32:] = (200, 100, 30), (20, 60, 220)
    shape = (1, 3, 64, 64) if layout == "NCHW" else (1, 64, 64, 3)
    how = replace(PRESETS[preset], layout=layout, channel_order=order, fit="stretch")
    how = resolve(how, TensorSpec("x", FLOAT, shape))
    array = preprocess(Image.fromarray(colours), how)
    seen = decoded(sample_picture(array, how))
    assert np.abs(seen[:, 4:28] - colours[:, 4:28]).max() <= 8
    assert np.abs(seen[:, 36:60] - colours[:, 36:60]).max() <= 8


def test_large_pictures_become_small_ones() -> None:
    array = np.random.default_rng(0).random((3, 300, 600)).astype(np.float32)
    assert decoded(sample_picture(array, None)).shape == (64, 128, 3)


@pytest.mark.parametrize("shape", [(1, 40, 30), (40, 30, 1)])
def test_arrays_are_scaled_from_their_least_to_their_greatest(shape: tuple[int, ...]) -> None:
    array = np.linspace(-5.0, 3.0, 1200).reshape(shape).astype(np.float32)
    seen = decoded(sample_picture(array, None))
    assert seen.shape == (40, 30)
    assert (seen.min() <= 4, seen.max() >= 251) == (True, True)


@pytest.mark.parametrize(
    "array",
    [np.zeros(640), np.zeros((49, 10)), np.zeros((2, 5, 5)), np.zeros((3, 0, 5))],
    ids=["vector", "matrix", "two channels", "empty"],
)
def test_what_is_no_picture(array: Array) -> None:
    assert sample_picture(array, None) == ""


def test_an_array_of_equal_values_is_black() -> None:
    assert decoded(sample_picture(np.full((3, 8, 8), 7.0), None)).max() == 0
