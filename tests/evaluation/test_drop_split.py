"""Only weights damaged, only activations damaged, and what cannot be told apart."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quantkit.calibration.dataset import open_dataset
from quantkit.config import QuantConfig
from quantkit.evaluation.accuracy import EngineScores, evaluate
from quantkit.evaluation.drop_split import drop_split
from quantkit.evaluation.engines import Engine
from quantkit.exporters.partial_graphs import Changes, activations_only, weights_only
from quantkit.exporters.qdq import qdq_graph
from quantkit.graph.ort_session import open_session
from quantkit.graph.program import Array
from quantkit.passes.prepare import Prepared, prepare
from quantkit.pipeline import quantize
from quantkit.quantized_model.model import QuantizedModel
from quantkit.quantized_model.qdq_reader import read_qdq
from quantkit.recovery.channel_changes import METADATA_KEY, from_text
from tests.reporting.networks import samples
from tests.small_networks import float_model

NETWORK = """(float[N, 3, 6, 6] x, float[8, 3, 3, 3] w1, float[8] b1, float[8, 1, 3, 3] w2,
    float[8] b2, float[7, 8] w3, float[7] b3) => (float[N, 7] y) {
    low = Constant<value = float {0}>()
    high = Constant<value = float {6}>()
    [first] h1 = Conv (x, w1, b1)
    [first_relu] r1 = Clip (h1, low, high)
    [second] h2 = Conv <group = 8> (r1, w2, b2)
    [second_relu] r2 = Relu (h2)
    [pool] p = GlobalAveragePool (r2)
    [flat] f = Flatten (p)
    [last] y = Gemm <transB = 1> (f, w3, b3)
}"""


def quantized(
    folder: Path, config: QuantConfig | None = None, constants: Mapping[str, Array] | None = None
) -> tuple[Prepared, QuantizedModel]:
    """As read from the file: without the clamps that saturation performs."""
    prepared = prepare(float_model(NETWORK, constants=constants))
    made = quantize(prepared, samples(16, seed=2), config=config or QuantConfig())
    made.save(folder / "int8.onnx")
    return prepared, read_qdq(folder / "int8.onnx")


def changes(model: QuantizedModel) -> Changes:
    found = from_text(model.metadata.get(METADATA_KEY, "{}"))
    return {name: (change.factors, change.shifts) for name, change in found.items()}


def split(prepared: Prepared, model: QuantizedModel) -> dict[str, EngineScores]:
    """SQNR by part; "both" is the QDQ graph in onnxruntime."""
    dataset = open_dataset(samples(64), prepared.program.inputs, preprocessing=None)
    floating = Engine("float", open_session(prepared.model).run)
    whole = Engine("both", open_session(qdq_graph(model)).run)
    both = evaluate([floating, whole], dataset).engines[1]
    graphs = {
        "weights": weights_only(prepared, model, changes(model)),
        "activations": activations_only(prepared, model, changes(model)),
    }
    parts = {label: graph for label, graph in graphs.items() if graph is not None}
    return {score.label: score for score in (*drop_split(floating, parts, both, dataset), both)}


def noise(score: EngineScores) -> float:
    """Relative to the signal."""
    return float(10.0 ** (-score.sqnr_db["y"] / 10.0))


def test_parts_add_up(tmp_path: Path) -> None:
    found = split(*quantized(tmp_path))
    assert list(found) == ["weights", "activations", "both"]
    parts = noise(found["weights"]) + noise(found["activations"])
    assert 0.5 * parts < noise(found["both"]) < 2.0 * parts
    assert all(score.agrees is not None for score in found.values())


def test_damaged_weights(tmp_path: Path) -> None:
    """One channel takes the codes of all others; the clamp keeps its values within theirs."""
    weight = np.random.default_rng(0).normal(0.0, 0.2, (8, 3, 3, 3)).astype(np.float32)
    weight[3] *= 300.0
    config = QuantConfig(
        per_channel=False, cross_layer_equalization=False, linear_edge_equalization=False
    )
    found = split(*quantized(tmp_path, config, {"w1": weight}))
    assert noise(found["weights"]) > 4 * noise(found["activations"])
    assert noise(found["both"]) == pytest.approx(noise(found["weights"]), rel=0.3)


def test_damaged_activations(tmp_path: Path) -> None:
    prepared, model = quantized(tmp_path)
    clipped = model.plan.params["r1"]
    params = {**model.plan.params, "r1": replace(clipped, scale=clipped.scale / np.float32(8))}
    # The weights' codes stay; the bias of the reader counts in steps of its input.
    damaged = replace(model, plan=replace(model.plan, params=params))
    dataset = open_dataset(samples(64), prepared.program.inputs, preprocessing=None)
    floating = Engine("float", open_session(prepared.model).run)
    engines = []
    for label, make in (("weights", weights_only), ("activations", activations_only)):
        graph = make(prepared, damaged, {})
        assert graph is not None
        engines.append(Engine(label, open_session(graph).run))
    _, weights, activations = evaluate([floating, *engines], dataset).engines
    assert noise(activations) > 20 * noise(weights)
    assert noise(weights) == pytest.approx(noise(split(prepared, model)["weights"]), rel=1e-6)


def test_no_weight_is_quantized_where_only_activations_are(tmp_path: Path) -> None:
    """With exact activations nothing is lost, and with exact weights neither."""
    prepared, model = quantized(tmp_path)
    fine = {
        name: replace(
            params,
            scale=np.asarray(2.0**-20, np.float32),
            zero_point=np.asarray(0, np.int32),
            dtype=np.dtype(np.int32),
        )
        for name, params in model.plan.params.items()
        if not params.is_per_channel
    }
    exact = replace(model, plan=replace(model.plan, params=fine))
    graph = activations_only(prepared, exact, {})
    assert graph is not None
    feeds = {"x": samples(8)}
    (expected,) = open_session(prepared.model).run(feeds).values()
    (found,) = open_session(graph).run(feeds).values()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_equalized_channels_are_the_same_network(tmp_path: Path) -> None:
    """Uneven channels are evened out, so that they lose as little as even ones."""
    weight = np.random.default_rng(0).normal(0.0, 0.2, (8, 3, 3, 3)).astype(np.float32)
    weight *= np.float32(2.0) ** np.arange(-4, 4, dtype=np.float32).reshape(8, 1, 1, 1)
    prepared, model = quantized(tmp_path, constants={"w1": weight})
    assert changes(model), "the recipe equalizes"
    with_changes = split(prepared, model)
    parts = noise(with_changes["weights"]) + noise(with_changes["activations"])
    assert 0.4 * parts < noise(with_changes["both"]) < 2.5 * parts


def test_values_that_are_not_the_same_ones_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As where a tool rescaled channels and its file does not tell."""
    prepared, model = quantized(tmp_path)
    dataset = open_dataset(samples(16), prepared.program.inputs, preprocessing=None)
    floating = Engine("float", open_session(prepared.model).run)
    whole = Engine("both", open_session(qdq_graph(model)).run)
    both = evaluate([floating, whole], dataset).engines[1]
    wrong = activations_only(prepared, model, {"r1": (np.full(8, 16.0), np.zeros(()))})
    right = activations_only(prepared, model, {})
    assert wrong is not None
    assert right is not None
    parts = {"wrong": wrong, "right": right}
    assert [part.label for part in drop_split(floating, parts, both, dataset)] == ["right"]
    assert "wrong: its SQNR is far below" in caplog.text


def test_values_of_other_names(tmp_path: Path) -> None:
    _, model = quantized(tmp_path)
    text = NETWORK.replace("r1", "elsewhere").replace("r2", "there")
    other = prepare(float_model(text))
    assert activations_only(other, model, {}) is None
    assert weights_only(other, model, {}) is None
