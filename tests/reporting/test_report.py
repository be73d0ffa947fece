"""Reports of every kind of network, and their JSON."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quantkit.errors import CalibrationError
from quantkit.pipeline import report
from quantkit.reporting.report import (
    FLOAT_LABEL,
    INT8_LABEL,
    INTEGER_LABEL,
    LAYER_SAMPLES,
    Drop,
    Report,
    model_bytes,
    worst_first,
)
from tests.reporting.networks import (
    CLASSIFIER,
    REGRESSOR,
    SOFTMAX,
    TWO_OUTPUTS,
    WITH_ISLAND,
    samples,
    write,
)


def float_classes(floating: Path, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    from quantkit.graph.ort_session import open_session

    (scores,) = open_session(floating).run({"x": samples(count)}).values()
    classes: np.ndarray[tuple[int, ...], np.dtype[np.int64]] = scores.argmax(axis=1)
    return classes


@pytest.mark.parametrize("text", [CLASSIFIER, SOFTMAX], ids=["logits", "softmax"])
def test_a_classifier_with_labels(tmp_path: Path, text: str) -> None:
    files = write(tmp_path, text)
    labels = float_classes(files[0], 40)
    labels[:10] = (labels[:10] + 1) % 7  # float is right on 30 of 40
    np.savez(tmp_path / "data.npz", x=samples(40), label=labels)
    found = report(*files, tmp_path / "data.npz")
    assert [row.label for row in found.engines] == [FLOAT_LABEL, INT8_LABEL, INTEGER_LABEL]
    floating, int8, integer = found.engines
    assert (floating.top1_percent, floating.agreement_percent, floating.sqnr_db) == (75.0, None, {})
    assert floating.top5_percent is not None
    assert floating.top5_percent >= 75.0
    assert int8.agreement_percent is not None
    assert int8.agreement_percent >= 90.0
    assert (int8.top1_percent, int8.top5_percent) == (integer.top1_percent, integer.top5_percent)
    assert int8.latency_ms is not None
    assert int8.latency_ms > 0.0
    assert int8.size_bytes == files[1].stat().st_size
    assert found.drop is not None
    assert found.drop.points == pytest.approx(75.0 - (int8.top1_percent or 0.0), abs=1e-9)
    assert found.drop.low <= found.drop.points <= found.drop.high
    assert found.int8_mac_percent == 100.0


def test_labels_given_win_over_those_in_the_data(tmp_path: Path) -> None:
    files = write(tmp_path, CLASSIFIER)
    labels = float_classes(files[0], 12)
    np.savez(tmp_path / "data.npz", x=samples(12), label=(labels + 1) % 7)
    np.save(tmp_path / "labels.npy", labels)
    found = report(*files, tmp_path / "data.npz", labels=tmp_path / "labels.npy")
    assert found.engine(FLOAT_LABEL).top1_percent == 100.0


def test_labels_of_another_network(tmp_path: Path) -> None:
    files = write(tmp_path, CLASSIFIER)
    np.save(tmp_path / "labels.npy", np.full(12, 7))
    with pytest.raises(CalibrationError, match=r"label of .* is 7, .* the 7 classes 0 to 6"):
        report(*files, samples(12), labels=tmp_path / "labels.npy")


def test_without_labels(tmp_path: Path) -> None:
    found = report(*write(tmp_path, CLASSIFIER), samples(8))
    assert found.drop is None
    assert found.engine(INT8_LABEL).top1_percent is None
    assert found.engine(INT8_LABEL).agreement_percent is not None


def test_a_regressor_has_no_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = write(tmp_path, REGRESSOR)
    np.save(tmp_path / "labels.npy", np.zeros(8, np.int64))
    found = report(*files, samples(8), labels=tmp_path / "labels.npy")
    int8 = found.engine(INT8_LABEL)
    assert (int8.top1_percent, int8.agreement_percent, found.drop) == (None, None, None)
    assert int8.sqnr_db["y"] > 20.0
    assert "labels are not used" in caplog.text


def test_several_outputs(tmp_path: Path) -> None:
    found = report(*write(tmp_path, TWO_OUTPUTS), samples(8))
    assert set(found.engine(INT8_LABEL).sqnr_db) == {"features", "map"}


def test_a_float_island(tmp_path: Path) -> None:
    found = report(*write(tmp_path, WITH_ISLAND), samples(8))
    assert found.int8_mac_percent == 100.0
    (island,) = [layer for layer in found.layers if layer.kept_float is not None]
    assert island.node == "island"
    assert "island" not in [layer.node for layer in worst_first(found.layers)]


@pytest.mark.parametrize("text", [CLASSIFIER, REGRESSOR, TWO_OUTPUTS])
def test_json_round_trip(tmp_path: Path, text: str) -> None:
    found = report(*write(tmp_path, text), samples(4))
    assert Report.model_validate_json(found.model_dump_json()) == found


def test_infinity_survives_json_that_others_can_read(tmp_path: Path) -> None:
    found = report(*write(tmp_path, REGRESSOR), samples(4))
    engines = tuple(
        row.model_copy(update={"sqnr_db": {"y": math.inf, "z": -math.inf}}) for row in found.engines
    )
    layers = tuple(
        replace(row, isolated_sqnr_db=math.inf, accumulated_sqnr_db=-math.inf)
        for row in found.layers
    )
    extreme = found.model_copy(update={"engines": engines, "layers": layers})
    text = extreme.model_dump_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert Report.model_validate_json(text) == extreme


def test_progress_is_told_by_section(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    report(
        *write(tmp_path, CLASSIFIER),
        samples(20),
        batch_size=8,
        progress=lambda section, done, total: told.append((section, done, total)),
    )
    assert [row for row in told if row[0] == "accuracy"] == [
        ("accuracy", done, 20) for done in (8, 16, 20)
    ]
    assert told[-1] == ("layers", LAYER_SAMPLES, LAYER_SAMPLES)


def test_weights_beside_the_model_are_counted(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"12345")
    assert model_bytes(tmp_path / "m.onnx") == 5
    (tmp_path / "m.onnx.data").write_bytes(b"1234567")
    assert model_bytes(tmp_path / "m.onnx") == 12


def test_noise_is_an_interval_that_holds_zero() -> None:
    drop = Drop(points=1.0, low=-0.5, high=2.0, p_value=0.3, right_to_wrong=2, wrong_to_right=1)
    assert drop.is_noise
    assert not drop.model_copy(update={"low": 0.1}).is_noise


@pytest.mark.slow
def test_zoo_networks_can_be_reported(zoo: Path, tmp_path: Path) -> None:
    """Softmax, four outputs, NHWC and a fixed batch of one."""
    import quantkit

    pictures, unit = zoo / "imagenet" / "calibration", quantkit.PRESETS["unit"]
    for name in ("hand_landmark", "vww_mobilenet_v1"):
        source = zoo / "models" / f"{name}.onnx"
        quantkit.quantize(source, pictures, preprocessing=unit, num_samples=4).save(
            tmp_path / "q.onnx"
        )
        found = report(source, tmp_path / "q.onnx", pictures, num_samples=4)
        assert Report.model_validate_json(found.model_dump_json()) == found
        assert found.samples == 4


def test_a_float_network_that_only_guesses_is_told(tmp_path: Path) -> None:
    files = write(tmp_path, CLASSIFIER)
    right = float_classes(files[0], 40)
    for labels, is_told in ((right, False), (np.arange(40) % 7, True)):
        np.savez(tmp_path / "data.npz", x=samples(40), label=labels)
        causes = report(*files, tmp_path / "data.npz").causes
        assert ("no better than guessing" in {cause.cause for cause in causes}) == is_told
        assert not is_told or "--preset" in causes[0].remedy


def test_several_best_classes_are_counted(tmp_path: Path) -> None:
    weight = np.zeros((7, 8), np.float32)
    files = write(tmp_path, CLASSIFIER, constants={"w3": weight, "b3": np.ones(7, np.float32)})
    found = report(*files, samples(6))
    assert [row.tied for row in found.engines] == [6, 6, 6]


def test_layers_without_a_float_tensor_are_counted(tmp_path: Path) -> None:
    files = write(tmp_path, CLASSIFIER)
    assert report(*files, samples(4)).layers_without_reference == 0
    other = tmp_path / "renamed"
    other.mkdir()
    _, renamed = write(other, CLASSIFIER.replace("r1", "elsewhere"))
    # The renamed layer, and the one that reads it.
    assert report(files[0], renamed, samples(4)).layers_without_reference == 2
