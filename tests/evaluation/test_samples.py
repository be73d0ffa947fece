"""Preprocessing from the model, and a few samples out of many."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantkit.calibration.preprocessing import PRESETS
from quantkit.errors import ModelError, UnknownNameError
from quantkit.evaluation.samples import evenly_spaced, open_samples, stored_preprocessing
from quantkit.graph.program import TensorSpec
from quantkit.pipeline import load_quantized
from quantkit.quantized_model.model import QuantizedModel
from tests.reporting.networks import CLASSIFIER, write

INPUTS = (TensorSpec("x", np.dtype(np.float32), (None, 3)),)


def rows(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.zeros((count, 3), np.float32)


@pytest.mark.parametrize(
    ("count", "wanted", "expected"),
    [(5, 16, [0, 1, 2, 3, 4]), (10, 3, [0, 3, 6]), (4, 4, [0, 1, 2, 3])],
)
def test_evenly_spaced(count: int, wanted: int, expected: list[int]) -> None:
    few = evenly_spaced(open_samples(rows(count), INPUTS, None), wanted)
    assert list(few.positions) == expected


def test_evenly_spaced_passes_over_what_cannot_be_read() -> None:
    dataset = open_samples(rows(4), INPUTS, None)
    dataset.skipped["array[0]"] = "torn"
    assert list(evenly_spaced(dataset, 2).positions) == [1, 2]


def test_a_dataset_is_passed_on() -> None:
    dataset = open_samples(rows(4), INPUTS, None)
    assert open_samples(dataset, INPUTS, None) is dataset


@pytest.mark.parametrize(("preset", "warned"), [("raw", False), ("imagenet", True), (None, False)])
def test_preprocessing_of_arrays_is_warned_of(
    preset: str | None, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    given = None if preset is None else PRESETS[preset]
    open_samples(rows(4), INPUTS, given, PRESETS["tf"])
    assert ("fed as they are" in caplog.text) == warned


@pytest.fixture
def model(tmp_path: Path) -> QuantizedModel:
    return load_quantized(write(tmp_path, CLASSIFIER)[1])


def with_entry(model: QuantizedModel, entry: str | None) -> QuantizedModel:
    metadata = {} if entry is None else {"preprocessing": entry}
    return replace(model, metadata=metadata)


def test_stored_preprocessing(model: QuantizedModel) -> None:
    stored = json.dumps(PRESETS["tf"].to_json())
    assert stored_preprocessing(with_entry(model, stored)) == PRESETS["tf"]
    assert stored_preprocessing(with_entry(model, "null")) is None
    assert stored_preprocessing(with_entry(model, None)) is None


@pytest.mark.parametrize("entry", ["{", "[]", "7", '{"mean": 1}', '{"mean": [0], "std": [0]}'])
def test_damaged_preprocessing(model: QuantizedModel, entry: str) -> None:
    with pytest.raises(ModelError, match=r"stored in the model cannot be read .*; give --preset"):
        stored_preprocessing(with_entry(model, entry))


def test_other_preprocessing_than_for_calibration_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.new("RGB", (9, 9), (200, 30, 30)).save(tmp_path / "a.png")
    inputs = (TensorSpec("x", np.dtype(np.float32), (None, 3, 4, 4)),)
    stored = open_samples(tmp_path, inputs, "imagenet").preprocessing
    assert stored is not None
    open_samples(tmp_path, inputs, "imagenet", stored)
    open_samples(tmp_path, inputs, None, stored)
    assert caplog.messages == []
    open_samples(tmp_path, inputs, "tf", stored)
    (message,) = caplog.messages
    assert message.startswith("pictures are preprocessed otherwise than for calibration: ")


def test_a_preset_may_be_named() -> None:
    with pytest.raises(UnknownNameError, match="unknown preset 'imagnet'; known: imagenet, raw"):
        open_samples(rows(1), INPUTS, "imagnet")
