"""Every planted defect is named first or second, its remedy helps; healthy networks stay silent."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from quantkit.config import QuantConfig
from quantkit.graph.program import Array
from quantkit.recipes import BALANCED, FAST
from tests.reporting.causes.planted import (
    AS_IT_IS,
    CONCAT,
    PER_TENSOR,
    Planted,
    healthy,
    plant,
    samples,
)

Constants = dict[str, Array]


def dead_input_with_large_weights() -> Constants:
    """What BatchNormalization leaves of a channel that is always 0: folded weights explode."""
    found = healthy()
    found["w1"][3], found["b1"][3] = 0.0, -1.0
    found["w2"][:, 3] *= 300.0
    return found


def dead_output_with_large_weights() -> Constants:
    found = healthy()
    found["w1"][3] *= 300.0
    found["b1"][3] = -1e5
    return found


def dead_channel_with_large_constant() -> Constants:
    """Zero weights and a large bias, which the next layer takes out again."""
    found = healthy()
    found["w2"][3], found["b2"][3] = 0.0, 200.0
    found["w3"][:, 3] = 0.0
    return found


def outlier_compensated() -> Constants:
    found = healthy()
    for name in ("w2", "b2"):
        found[name][3] *= 80.0
    found["w3"][:, 3] /= 80.0
    return found


def unbalanced_by_a_constant() -> Constants:
    """One branch is 100 times as large and hardly moves; the next layer ignores it."""
    found = healthy()
    found["w3"][:8] *= 0.01
    found["b3"][:8] = 400.0
    found["w4"][:, :8] *= 0.0001
    return found


def unbalanced_concat() -> Constants:
    found = healthy(32)
    for name in ("w3", "b3"):
        found[name] *= 100.0
    found["w4"][:, 16:] /= 100.0
    return found


def assert_named(planted: Planted, *names: str) -> None:
    causes = planted.causes()
    first = next((cause for cause in causes[:2] if cause.cause in names), None)
    assert first is not None, causes
    assert planted.gain_db(first) > 1.0, (first, planted.gain_db(first))


@pytest.mark.parametrize("config", [FAST, BALANCED, AS_IT_IS, PER_TENSOR], ids=str)
def test_a_healthy_network_has_no_cause(tmp_path: Path, config: QuantConfig) -> None:
    assert plant(tmp_path, healthy(), config).causes() == ()


@pytest.mark.parametrize("config", [FAST, BALANCED], ids=str)
def test_a_healthy_concat_has_no_cause(tmp_path: Path, config: QuantConfig) -> None:
    assert plant(tmp_path, healthy(32), config, text=CONCAT).causes() == ()


@pytest.mark.parametrize("config", [FAST, AS_IT_IS, PER_TENSOR], ids=str)
def test_a_dead_input_with_large_weights(tmp_path: Path, config: QuantConfig) -> None:
    planted = plant(tmp_path, dead_input_with_large_weights(), config)
    assert_named(planted, "dead channel")


def test_a_dead_output_with_large_weights(tmp_path: Path) -> None:
    planted = plant(tmp_path, dead_output_with_large_weights(), PER_TENSOR)
    assert_named(planted, "dead channel")


def test_a_dead_output_costs_nothing_with_scales_per_channel(tmp_path: Path) -> None:
    assert plant(tmp_path, dead_output_with_large_weights(), FAST).causes() == ()


def test_a_dead_channel_that_takes_the_codes(tmp_path: Path) -> None:
    planted = plant(tmp_path, dead_channel_with_large_constant(), AS_IT_IS)
    assert_named(planted, "dead channel")


@pytest.mark.parametrize("config", [FAST, AS_IT_IS, PER_TENSOR], ids=str)
def test_an_outlier_channel(tmp_path: Path, config: QuantConfig) -> None:
    assert_named(plant(tmp_path, outlier_compensated(), config), "outlier channel")


@pytest.mark.parametrize("config", [FAST, BALANCED, AS_IT_IS], ids=str)
def test_an_unbalanced_concat(tmp_path: Path, config: QuantConfig) -> None:
    planted = plant(tmp_path, unbalanced_concat(), config, text=CONCAT)
    assert_named(planted, "unbalanced concat")


def test_an_unbalanced_add(tmp_path: Path) -> None:
    assert_named(plant(tmp_path, unbalanced_by_a_constant(), AS_IT_IS), "unbalanced add")


def test_ranges_clipped_by_choice(tmp_path: Path) -> None:
    config = QuantConfig(range_estimator="percentile", percentile=90.0)
    planted = plant(tmp_path, healthy(), config)
    assert_named(planted, "clipped tail")
    assert planted.causes()[0].remedy.config["percentile"] == 99.99


@pytest.mark.parametrize("tensor", ["r1", "r3", "r4"])
def test_a_scale_made_smaller_in_the_file(tmp_path: Path, tensor: str) -> None:
    planted = plant(tmp_path, healthy(), FAST)
    shrink(planted.quantized, tensor, 0.25)
    assert_named(planted, "clipped tail")


@pytest.mark.parametrize("config", [FAST, BALANCED], ids=str)
@pytest.mark.parametrize("scale", [0.2, 30.0])
def test_two_noise_pictures(tmp_path: Path, config: QuantConfig, scale: float) -> None:
    noise = np.random.default_rng(3).uniform(-scale, scale, (2, 3, 10, 10)).astype(np.float32)
    planted = plant(tmp_path, healthy(), config, calibration=noise)
    assert_named(planted, "too few samples")
    assert planted.causes()[0].cause == "too few samples"


def test_many_samples_of_another_kind(tmp_path: Path) -> None:
    planted = plant(tmp_path, healthy(), FAST, calibration=samples(32, seed=2) * np.float32(0.1))
    assert_named(planted, "too few samples")


def shrink(path: Path, tensor: str, factor: float) -> None:
    """Make the scale of a tensor's codes smaller."""
    model = ir.load(path)
    names = {
        str(node.inputs[1].name)
        for node in model.graph
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
        and node.inputs[1] is not None
        and any(
            value is not None and str(value.name).startswith(tensor) for value in node.inputs[:1]
        )
    }
    assert names
    for name in names:
        value = model.graph.initializers[name]
        assert value.const_value is not None
        value.const_value = ir.tensor(value.const_value.numpy() * np.float32(factor), name=name)
    ir.save(model, path)
