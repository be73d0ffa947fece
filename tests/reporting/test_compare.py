"""Errors per layer, and which codes count as saturated."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from quantkit.config import QuantConfig
from quantkit.errors import ModelError, NonFiniteRangeError
from quantkit.evaluation.samples import open_samples
from quantkit.graph.model_io import load_model, program_of
from quantkit.graph.ort_session import open_session, with_outputs
from quantkit.graph.program import Array
from quantkit.numerics.affine import per_tensor
from quantkit.passes.prepare import prepare
from quantkit.pipeline import calibrate, export, load_quantized
from quantkit.recovery.channel_changes import METADATA_KEY, from_text
from quantkit.reporting.compare import Comparison, check_same_network, compare_layers
from quantkit.reporting.layer import Layer
from quantkit.reporting.layer_pass import saturated
from tests.reporting.networks import (
    CLASSIFIER,
    REGRESSOR,
    TWO_OUTPUTS,
    WITH_ISLAND,
    samples,
    uneven_first_weight,
    write,
)


def comparison(files: tuple[Path, Path], count: int = 8) -> Comparison:
    reference, model = prepare(files[0]), load_quantized(files[1])
    dataset = open_samples(samples(count), reference.program.inputs, None)
    source = program_of(load_model(files[0]))
    return compare_layers(reference, model, dataset, source=source)


def compared(files: tuple[Path, Path], count: int = 8) -> dict[str, Layer]:
    return {layer.node: layer for layer in comparison(files, count).layers}


@pytest.mark.parametrize(
    ("zero_point", "dtype", "expected"),
    [
        (0, np.uint8, 3),  # after a Relu: code 0 is real 0, only 255 counts
        (255, np.uint8, 2),  # never positive: 255 is real 0, only 0 counts
        (128, np.uint8, 5),
        (-128, np.int8, 3),
        (0, np.int8, 5),
    ],
)
def test_the_end_that_is_real_zero_is_notsaturated(
    zero_point: int, dtype: type[np.uint8 | np.int8], expected: int
) -> None:
    info = np.iinfo(dtype)
    codes = np.array([info.min] * 2 + [info.min + 1, 7] + [info.max] * 3, dtype)
    assert saturated(codes, per_tensor(0.1, zero_point, dtype)) == expected


def test_layers_and_clamps_are_judged_by_their_outputs(tmp_path: Path) -> None:
    found = compared(write(tmp_path, CLASSIFIER))
    assert list(found) == ["input x", "first", "second", "pool", "flat", "last"]
    assert [layer.value for layer in found.values()] == ["x", "r1", "r2", "p", "f", "scores"]
    assert found["first"].macs == 8 * 16 * 27
    assert all(layer.kept_float is None for layer in found.values())
    assert all((layer.isolated_sqnr_db or 0.0) > 25.0 for layer in found.values())
    # At the first layer both are the same thing; later the errors of the others come on top.
    assert found["first"].accumulated_sqnr_db == pytest.approx(
        found["first"].isolated_sqnr_db, abs=1e-6
    )
    assert found["last"].accumulated_sqnr_db < (found["last"].isolated_sqnr_db or 0.0)


def test_most_zeros_of_a_relu_are_not_calledsaturated(tmp_path: Path) -> None:
    found = compared(write(tmp_path, CLASSIFIER))
    assert found["first"].saturated_percent is not None
    assert found["first"].saturated_percent < 1.0


def test_a_damaged_layer_is_damaged_alone_and_the_next_only_so_far(tmp_path: Path) -> None:
    config = QuantConfig(per_channel=False, bias_correction=False, cross_layer_equalization=False)
    whole = QuantConfig(cross_layer_equalization=False)
    healthy = compared(write(tmp_path, CLASSIFIER, config=whole))
    damaged = compared(write(tmp_path, CLASSIFIER, config=config, constants=uneven_first_weight()))
    assert (damaged["second"].isolated_sqnr_db or 0.0) > 20.0
    assert (healthy["first"].isolated_sqnr_db or 0.0) > 30.0
    assert damaged["last"].accumulated_sqnr_db < healthy["last"].accumulated_sqnr_db


def test_a_float_island_has_no_error_of_its_own(tmp_path: Path) -> None:
    island = compared(write(tmp_path, WITH_ISLAND))["island"]
    assert island.isolated_sqnr_db is None
    assert island.kept_float
    assert island.accumulated_sqnr_db > 20.0


def test_a_clamp_whose_producer_stays_float(tmp_path: Path) -> None:
    config = QuantConfig(nodes_to_exclude=("second",))
    found = compared(write(tmp_path, CLASSIFIER, config=config))
    assert found["second"].kept_float
    assert found["second"].isolated_sqnr_db is None
    assert found["last"].isolated_sqnr_db is not None


def test_a_clamp_in_the_file_changes_nothing(tmp_path: Path) -> None:
    """Other tools write Conv, Relu, Q; the layer behind must still start from real values."""
    files = write(tmp_path, CLASSIFIER)
    expected = compared(files)
    model = ir.load(files[1])
    for node in tuple(model.graph):
        source = node.inputs[0]
        if node.op_type != "QuantizeLinear" or source is None or source.name not in ("r1", "r2"):
            continue
        relu = ir.node("Relu", [source], name=f"{source.name}_relu")
        relu.outputs[0].name, source.name = source.name, f"{source.name}_before"
        relu.outputs[0].type = source.type
        model.graph.insert_before(node, relu)
        node.replace_input_with(0, relu.outputs[0])
    ir.save(model, files[1])
    found = compared(files)
    assert load_quantized(files[1]).prepared.clamps
    assert list(found) == list(expected)
    for name, layer in found.items():
        assert layer.network_sqnr_db == pytest.approx(expected[name].network_sqnr_db, abs=1e-3)
        same = {"network_sqnr_db": None}
        assert layer.model_copy(update=same) == expected[name].model_copy(update=same)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (REGRESSOR, r"outputs features, map, the quantized model y"),
        (
            TWO_OUTPUTS.replace(" x,", " x2,").replace("(x,", "(x2,"),
            r"inputs x, the quantized model x2",
        ),
        (TWO_OUTPUTS.replace("[4, 3,", "[5, 3,").replace("[2, 4,", "[2, 5,"), r"'features'"),
    ],
)
def test_two_different_networks(tmp_path: Path, other: str, message: str) -> None:
    (tmp_path / "other").mkdir()
    floating, _ = write(tmp_path, TWO_OUTPUTS)
    other = other.replace("float[N, 4, 4, 4] f", "float[N, M, 4, 4] f")
    _, quantized = write(tmp_path / "other", other)
    with pytest.raises(ModelError, match=f"two different networks.*{message}"):
        check_same_network(prepare(floating), load_quantized(quantized))


def uneven_channels() -> dict[str, Array]:
    """Channels of the first layer that differ by three orders of magnitude, or are high up."""
    weight = np.random.default_rng(0).normal(0.0, 0.2, (8, 3, 3, 3))
    factors = 2.0 ** np.arange(-9.0, -1.0)
    bias = np.where(np.arange(8) == 4, 9.0, 0.1 * factors)
    return {"w1": weight * factors[:, None, None, None], "b1": bias}


RESCALED = QuantConfig(weight_scale_search=False)
AS_IT_WAS = QuantConfig(
    weight_scale_search=False, cross_layer_equalization=False, high_bias_absorption=False
)


def test_rescaled_channels_are_compared_as_they_are(tmp_path: Path) -> None:
    for name in ("plain", "rescaled"):
        (tmp_path / name).mkdir()
    constants = uneven_channels()
    plain = compared(write(tmp_path / "plain", CLASSIFIER, config=AS_IT_WAS, constants=constants))
    files = write(tmp_path / "rescaled", CLASSIFIER, config=RESCALED, constants=constants)
    rescaled = compared(files)
    assert list(plain) == list(rescaled)
    for name, error in rescaled.items():
        for each in (error, plain[name]):
            assert (each.isolated_sqnr_db or 0.0) > 25.0
            assert each.accumulated_sqnr_db > 20.0
    # A file that does not tell of its channels compares two different things.
    model = load_quantized(files[1])
    silent = replace(model, metadata={k: v for k, v in model.metadata.items() if k != METADATA_KEY})
    assert len(silent.metadata) == len(model.metadata) - 1
    reference = prepare(files[0])
    dataset = open_samples(samples(4), reference.program.inputs, None)
    wrong = {layer.node: layer for layer in compare_layers(reference, silent, dataset).layers}
    assert wrong["first"].accumulated_sqnr_db < 10.0


def test_changes_outlive_another_export(tmp_path: Path) -> None:
    files = write(tmp_path, CLASSIFIER, config=RESCALED, constants=uneven_channels())
    expected = compared(files)
    again = tmp_path / "again.onnx"
    for format in ("qdq", "qoperator"):
        export(load_quantized(files[1]), again, format)
        found = compared((files[0], again))
        for name, error in found.items():
            assert error.accumulated_sqnr_db == pytest.approx(expected[name].accumulated_sqnr_db)


@pytest.mark.parametrize("text", ['{"r1": 3}', '{"r1": [[0, 1, 2], 0]}', "nonsense"])
def test_damaged_changes(tmp_path: Path, text: str) -> None:
    files = write(tmp_path, CLASSIFIER)
    model = load_quantized(files[1])
    model = replace(model, metadata={**model.metadata, METADATA_KEY: text})
    reference = prepare(files[0])
    dataset = open_samples(samples(1), reference.program.inputs, None)
    with pytest.raises(ModelError, match="rescaled channels"):
        compare_layers(reference, model, dataset)


def test_what_calibration_would_see_of_the_float_network(tmp_path: Path) -> None:
    files = write(tmp_path, CLASSIFIER, config=AS_IT_WAS)
    found = comparison(files, 8)
    reference = prepare(files[0])
    feeds = [{"x": sample[None]} for sample in samples(8)]
    table = calibrate(reference, feeds, exact=True)
    assert {"x", "r1", "r2", "p", "f", "scores"} <= found.statistics.keys()
    for name, statistics in found.statistics.items():
        if name not in table.statistics:
            continue
        expected = table.statistics[name]
        assert statistics.count == expected.count
        assert statistics.sample_count == 8
        assert statistics.minimum == pytest.approx(expected.minimum, rel=1e-5)
        assert statistics.maximum == pytest.approx(expected.maximum, rel=1e-5)
        assert statistics.channels is not None


def test_statistics_have_the_channels_of_the_quantized_network(tmp_path: Path) -> None:
    files = write(tmp_path, CLASSIFIER, config=RESCALED, constants=uneven_channels())
    changes = from_text(load_quantized(files[1]).metadata[METADATA_KEY])
    assert "r1" in changes
    found = comparison(files, 8).statistics["r1"]
    reference = prepare(files[0])
    session = open_session(with_outputs(reference.model, ["r1"]), threads=1)
    r1 = session.run({"x": samples(8)}, ["r1"])["r1"]
    expected = changes["r1"].applied(r1).max(axis=(0, 2, 3))
    assert found.channels is not None
    np.testing.assert_allclose(found.channels.maximum, expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(found.channels.maximum, r1.max(axis=(0, 2, 3)), rtol=0.01)


def test_the_output_against_its_clip_lines(tmp_path: Path) -> None:
    files = write(tmp_path, CLASSIFIER)
    model, layers = load_quantized(files[1]), compared(files, 8)
    for layer in layers.values():
        params, output = model.plan.params[layer.value], layer.output
        assert output is not None
        assert output.scale == float(params.scale)
        assert output.zero_point == int(params.zero_point)
        assert output.low == float(params.scale * np.float32(params.qmin - int(params.zero_point)))
        assert sum(output.histogram.counts) == 8 * np.prod(shape_of(layer.value))
    behind_relu = layers["first"].output
    assert behind_relu is not None
    assert behind_relu.low == behind_relu.minimum == 0.0


def shape_of(value: str) -> tuple[int, ...]:
    shapes = {"x": (3, 6, 6), "r1": (8, 4, 4), "r2": (8, 2, 2)}
    return shapes.get(value, (7,) if value == "scores" else (8,))


def test_values_beyond_the_clip_lines_are_counted(tmp_path: Path) -> None:
    files = write(tmp_path, CLASSIFIER)
    model = load_quantized(files[1])
    narrow = per_tensor(float(model.plan.params["x"].scale) / 4.0, 128, np.uint8)
    plan = replace(model.plan, params={**model.plan.params, "x": narrow})
    reference = prepare(files[0])
    dataset = open_samples(samples(8), reference.program.inputs, None)
    found = compare_layers(reference, replace(model, plan=plan), dataset).layers[0]
    low, high = float(narrow.scale) * -128.0, float(narrow.scale) * 127.0
    x = samples(8)
    assert found.output is not None
    outside = ((x < np.float32(low)) | (x > np.float32(high))).mean()
    assert outside > 0.1
    assert found.output.clipped_percent == pytest.approx(100.0 * outside)
    assert found.saturated_percent == pytest.approx(100.0 * outside, abs=1.0)
    assert (found.isolated_cosine or 0.0) < 0.999


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    files = write(tmp_path, CLASSIFIER)
    reference = prepare(files[0])
    dataset = open_samples(samples(4), reference.program.inputs, None)
    told: list[tuple[int, int]] = []
    model = load_quantized(files[1])
    compare_layers(reference, model, dataset, lambda done, total: told.append((done, total)))
    assert told == [(done, 10) for done in range(1, 11)]


def test_values_that_are_not_finite_are_named(tmp_path: Path) -> None:
    files = write(tmp_path, CLASSIFIER)
    reference = prepare(files[0])
    large = np.full((1, 3, 6, 6), 3e38, np.float32)
    dataset = open_samples(large, reference.program.inputs, None)
    with pytest.raises(NonFiniteRangeError, match=r"tensor 'h?r?1'.*preprocessing"):
        compare_layers(reference, load_quantized(files[1]), dataset)
