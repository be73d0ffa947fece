"""Reports of every kind of network, and their JSON."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantkit.errors import CalibrationError, ConfigError
from quantkit.pipeline import report
from quantkit.reporting.layer import worst_first
from quantkit.reporting.make_report import LAYER_SAMPLES
from quantkit.reporting.network_cost import model_bytes
from quantkit.reporting.report import FLOAT_LABEL, INT8_LABEL, INTEGER_LABEL, Drop, Report
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
    assert found.cost.int8_mac_percent == 100.0


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
    assert found.cost.int8_mac_percent == 100.0
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
        row.model_copy(update={"isolated_sqnr_db": math.inf, "accumulated_sqnr_db": -math.inf})
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
    assert [row[1:] for row in told if row[0] == "weights and activations"] == [
        (8, 20),
        (16, 20),
        (20, 20),
    ]
    layers = [row[1:] for row in told if row[0] == "layers"]
    assert layers[-1][0] == layers[-1][1] > LAYER_SAMPLES
    assert list(dict.fromkeys(row[0] for row in told)) == [
        "accuracy",
        "weights and activations",
        "layers",
    ]


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
        assert any("no better than guessing" in cause.cause for cause in causes) == is_told
        assert not is_told or "--preset" in causes[0].remedy.text


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


def mean_score(outputs: Mapping[str, Any], labels: Any) -> float:
    """The score of the label, on average: what no network is built to lose."""
    (scores,) = outputs.values()
    return float(scores[np.arange(len(scores)), labels].mean())


def test_a_metric_of_the_users(tmp_path: Path) -> None:
    files = write(tmp_path, CLASSIFIER)
    np.savez(tmp_path / "data.npz", x=samples(40), label=float_classes(files[0], 40))
    name = f"{__file__}:mean_score"
    found = report(*files, tmp_path / "data.npz", metric=name)
    floating, int8, integer = (row.metric for row in found.engines)
    assert floating is not None
    assert int8 is not None
    assert integer == int8
    drop = found.metric_drop
    assert drop is not None
    assert (drop.metric, drop.unit, drop.p_value) == (name, "", None)
    assert drop.points == floating - int8
    assert drop.low <= drop.points <= drop.high
    assert found.metric == name
    # Nothing in it depends on the clock or on what was drawn before.
    assert report(*files, tmp_path / "data.npz", metric=name).metric_drop == drop
    with pytest.raises(ConfigError, match=r"every report holds top1"):
        report(*files, tmp_path / "data.npz", metric="top1")


def test_the_split_of_the_drop(tmp_path: Path) -> None:
    files = write(tmp_path, CLASSIFIER)
    np.savez(tmp_path / "data.npz", x=samples(40), label=float_classes(files[0], 40))
    found = report(*files, tmp_path / "data.npz")
    assert [row.label for row in found.split] == ["weights only", "activations only", "both"]
    both, int8 = found.split[-1], found.engine(INT8_LABEL)
    assert both.sqnr_db == int8.sqnr_db
    assert both.top1_percent == int8.top1_percent
    assert both.agreement_percent == int8.agreement_percent
    assert all(row.sqnr_db["scores"] > int8.sqnr_db["scores"] - 3.0 for row in found.split)


def test_tensors_of_other_names_cannot_be_split(tmp_path: Path) -> None:
    files = write(tmp_path, CLASSIFIER)
    other = tmp_path / "renamed"
    other.mkdir()
    _, renamed = write(other, CLASSIFIER.replace("r1", "elsewhere"))
    assert report(files[0], renamed, samples(4)).split == ()


def test_without_a_float_model(tmp_path: Path) -> None:
    """Engines against onnxruntime; layers lose what rounding loses, and no more."""
    floating, quantized = write(tmp_path, CLASSIFIER)
    labels = float_classes(floating, 40)
    np.savez(tmp_path / "data.npz", x=samples(40), label=labels)
    found = report(None, quantized, tmp_path / "data.npz")
    assert [row.label for row in found.engines] == [INT8_LABEL, INTEGER_LABEL]
    reference, integer = found.engines
    assert (reference.sqnr_db, reference.agreement_percent) == ({}, None)
    assert reference.top1_percent == integer.top1_percent
    assert integer.agreement_percent == 100.0
    assert integer.sqnr_db["scores"] > 100.0
    assert (found.float_model, found.drop, found.metric_drop) == (None, None, None)
    assert (found.split, found.changed, found.changed_count, found.flips) == ((), (), None, ())
    assert found.cost.float_peak_bytes is None
    assert found.cost.int8_peak_bytes is not None
    assert found.layers
    with_float = {layer.node: layer for layer in report(floating, quantized, samples(40)).layers}
    for layer in found.layers:
        assert layer.isolated_sqnr_db is not None
        other = with_float[layer.node].isolated_sqnr_db
        assert other is not None
        assert layer.isolated_sqnr_db > other - 3.0
        assert layer.weight is None or layer.weight.folded is None
    assert Report.model_validate_json(found.model_dump_json()) == found


def test_changed_predictions_are_shown(tmp_path: Path) -> None:
    """A network whose best two classes are nearly the same number changes its mind easily."""
    weight = np.random.default_rng(5).normal(0.0, 0.3, (7, 8)).astype(np.float32)
    weight[1:] = weight[0] + np.random.default_rng(6).normal(0, 0.004, (6, 8))
    constants = {"w3": weight, "b3": np.zeros(7, np.float32)}
    files = write(tmp_path, CLASSIFIER, constants=constants)
    labels = float_classes(files[0], 60)
    np.savez(tmp_path / "data.npz", x=samples(60), label=labels)
    found = report(*files, tmp_path / "data.npz", class_names=("a", "b"))
    agreement = found.engine(INT8_LABEL).agreement_percent
    assert agreement is not None
    assert found.changed_count == round(60 * (1 - agreement / 100))
    assert found.changed_count > 0
    assert len(found.changed) == min(found.changed_count, 24)
    assert sum(flip.count for flip in found.flips) <= found.changed_count
    assert found.drop is not None
    assert found.drop.right_to_wrong == found.changed_count
    for row in found.changed:
        assert row.label == row.float_class != row.int8_class
        assert row.float_margin >= 0.0
        assert row.picture
    assert found.class_names == ("a", "b")


def test_memory_and_work(tmp_path: Path) -> None:
    cost = report(*write(tmp_path, CLASSIFIER), samples(4)).cost
    # The input is float in both; r1 and r2 have 8 x 4 x 4 and 8 x 2 x 2 values.
    assert cost.macs == 8 * 16 * 27 + 8 * 4 * 9 + 56
    assert cost.float_peak_bytes == 4 * (108 + 128)
    assert cost.int8_peak_bytes == 108 + 128


def test_where_it_comes_from(tmp_path: Path) -> None:
    from hashlib import sha256

    files = write(tmp_path, CLASSIFIER)
    facts = report(*files, samples(4), command="quantkit report ...").provenance
    assert facts["command"] == "quantkit report ..."
    assert facts["recipe"] == "balanced"
    for kind, path in zip(("float", "quantized"), files, strict=True):
        assert facts[f"{kind} model, SHA-256"] == sha256(path.read_bytes()).hexdigest()
    assert len(facts["data digest"]) == 64
    assert (
        facts["data digest"] == report(*files, samples(4), batch_size=3).provenance["data digest"]
    )
    assert facts["data digest"] != report(*files, samples(3)).provenance["data digest"]
    assert "model.channel_changes" not in facts
    assert "preprocessing" not in facts
    assert {"quantkit", "onnxruntime", "numpy", "python", "machine", "model.config"} <= set(facts)
