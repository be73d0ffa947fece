"""A float file, a quantized file and the integer session under one signature."""

from pathlib import Path

import numpy as np
import pytest

from quantkit.errors import ModelError
from quantkit.evaluation.engines import integer_engine, onnxruntime_engine
from quantkit.pipeline import load_quantized
from tests.reporting.networks import CLASSIFIER, samples, write


def test_the_integer_session_gives_what_onnxruntime_gives(tmp_path: Path) -> None:
    _, quantized = write(tmp_path, CLASSIFIER)
    feeds = {"x": samples(3)}
    ours = integer_engine("integer", load_quantized(quantized))
    theirs = onnxruntime_engine("int8", quantized)
    assert (ours.label, theirs.label) == ("integer", "int8")
    np.testing.assert_array_equal(ours.run(feeds)["scores"], theirs.run(feeds)["scores"])


def test_a_file_onnxruntime_cannot_load(tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("no model")
    with pytest.raises(ModelError, match=r"onnxruntime cannot load '.*text\.onnx'"):
        onnxruntime_engine("float", path)
