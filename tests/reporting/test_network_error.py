"""What one layer alone does to the outputs."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from quantkit.config import QuantConfig
from quantkit.evaluation.samples import open_samples
from quantkit.exporters.partial_graphs import dequantized_network
from quantkit.graph.model_io import program_of
from quantkit.graph.program import Array
from quantkit.numerics.affine import per_tensor
from quantkit.numerics.metrics import SqnrSums
from quantkit.passes.prepare import Prepared, prepare
from quantkit.pipeline import load_quantized
from quantkit.plan import make_plan
from quantkit.quantized_model.model import QuantizedModel, quantize_model
from quantkit.recovery.output_error import quantized
from quantkit.reporting.compare import compare_layers
from quantkit.reporting.layer import Layer, worst_first
from tests.quantized_model.test_other_tools import quantized_by_onnxruntime
from tests.reporting.networks import (
    CLASSIFIER,
    REGRESSOR,
    SOFTMAX,
    TWO_OUTPUTS,
    WITH_ISLAND,
    samples,
    write,
)
from tests.small_networks import NETWORKS, calibrated, float_model, onnxruntime_outputs


def layers_of(reference: Prepared, model: QuantizedModel, data: object) -> dict[str, Layer]:
    dataset = open_samples(data, reference.program.inputs, None)  # type: ignore[arg-type]
    return {layer.node: layer for layer in compare_layers(reference, model, dataset).layers}


def compared(files: tuple[Path, Path], count: int = 8) -> dict[str, Layer]:
    return layers_of(prepare(files[0]), load_quantized(files[1]), samples(count))


def noise(layer: Layer) -> float:
    assert layer.network_sqnr_db is not None
    return float(10.0 ** (-layer.network_sqnr_db / 10.0))


def run(model: ir.Model, feeds: dict[str, Array]) -> Array:
    return next(iter(onnxruntime_outputs(model, feeds).values()))


def test_one_layer_by_hand(tmp_path: Path) -> None:
    files = write(tmp_path, REGRESSOR)
    found = compared(files, 3)
    float_file, model = ir.load(files[0]), load_quantized(files[1])
    dequantized = float_file.clone()
    for initializer in dequantized.graph.initializers.values():
        name = str(initializer.name)
        codes = model.constants[name if name in model.constants else "conv.bias"]
        initializer.const_value = ir.tensor(codes.dequantize(), name=name)
    params = model.plan.params
    of_input = of_conv = SqnrSums()
    for x in samples(3):
        real = run(float_file, {"x": x[None]})
        read = quantized(x[None], params["x"])
        behind_input = run(float_file, {"x": read})
        of_input += SqnrSums.of(real, behind_input)
        made = quantized(run(dequantized, {"x": read}), params["y"])
        of_conv += SqnrSums.of(real, real + made - behind_input)
    assert found["input x"].network_sqnr_db == pytest.approx(of_input.db, abs=0.01)
    assert found["conv"].network_sqnr_db == pytest.approx(of_conv.db, abs=0.01)


def test_the_input_is_the_first_layer(tmp_path: Path) -> None:
    files = write(tmp_path, CLASSIFIER)
    first, *others = compared(files).values()
    assert (first.node, first.op_type, first.value, first.macs) == ("input x", "input", "x", 0)
    assert first.isolated_sqnr_db == first.accumulated_sqnr_db
    assert first.isolated_cosine == first.accumulated_cosine
    assert first.output is not None
    assert first.weight is None
    assert first.accumulator is None
    assert first.kept_float is None
    assert all(layer.op_type != "input" for layer in others)
    params = load_quantized(files[1]).plan.params["x"]
    x = samples(8)
    assert first.isolated_sqnr_db == pytest.approx(SqnrSums.of(x, quantized(x, params)).db)


def test_moving_codes_loses_nothing(tmp_path: Path) -> None:
    found = compared(write(tmp_path, CLASSIFIER))
    assert found["flat"].network_sqnr_db == math.inf
    # Its input was quantized all the same.
    assert math.isfinite(found["flat"].isolated_sqnr_db or math.inf)


@pytest.mark.parametrize("text", [CLASSIFIER, WITH_ISLAND])
def test_the_noises_add_up_to_that_of_the_network(text: str, tmp_path: Path) -> None:
    found = list(compared(write(tmp_path, text), 16).values())
    total = sum(noise(layer) for layer in found if layer.isolated_sqnr_db is not None)
    assert -10.0 * math.log10(total) == pytest.approx(found[-1].accumulated_sqnr_db, abs=3.0)


@pytest.mark.parametrize("damaged", ["x", "r1", "r2", "scores"])
def test_a_planted_noisy_layer_is_the_worst(damaged: str, tmp_path: Path) -> None:
    files = write(tmp_path, CLASSIFIER)
    reference, model = prepare(files[0]), load_quantized(files[1])
    healthy = layers_of(reference, model, samples(8))
    clamped = {"r1": ("h1", "r1"), "r2": ("h2", "r2")}
    names = clamped.get(damaged, (damaged,))
    old = model.plan.params[damaged]
    coarse = per_tensor(float(old.scale) * 32.0, int(old.zero_point), old.dtype)
    params = {**model.plan.params, **dict.fromkeys(names, coarse)}
    plan = replace(model.plan, params=params)
    found = layers_of(reference, replace(model, plan=plan), samples(8))
    worst = worst_first(list(found.values()))[0]
    assert worst.value == damaged
    for name, layer in found.items():
        if layer.value != damaged and math.isfinite(noise(layer)) and noise(layer) > 0.0:
            # Whoever reads the noisy tensor is not blamed for it.
            assert layer.network_sqnr_db == pytest.approx(healthy[name].network_sqnr_db, abs=8.0)


def test_rescaled_channels_continue_as_the_float_network_has_them(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(0.0, 0.2, (8, 3, 3, 3))
    constants = {"w1": weight * 2.0 ** np.arange(-9.0, -1.0)[:, None, None, None]}
    config = QuantConfig(weight_scale_search=False)
    files = write(tmp_path, CLASSIFIER, config=config, constants=constants)
    assert "channel_changes" in load_quantized(files[1]).metadata
    found = list(compared(files).values())
    total = sum(noise(layer) for layer in found)
    assert -10.0 * math.log10(total) == pytest.approx(found[-1].accumulated_sqnr_db, abs=3.0)


def test_without_a_float_model_weights_have_no_noise(tmp_path: Path) -> None:
    files = write(tmp_path, CLASSIFIER, config=QuantConfig(per_channel=False))
    model = load_quantized(files[1])
    found = layers_of(dequantized_network(model), model, samples(8))
    whole = compared(files)
    assert list(found) == list(whole)
    assert noise(found["first"]) < noise(whole["first"])
    for name, layer in found.items():
        assert layer.network_sqnr_db is not None, name
        assert layer.network_sqnr_db > 25.0
        if layer.weight is not None:
            assert layer.weight.folded is layer.weight.source is None
        if layer.output is not None and name != "input x":
            assert layer.output.clipped_percent == 0.0
    assert found["input x"].isolated_sqnr_db == whole["input x"].isolated_sqnr_db


def test_behind_a_softmax_the_value_before_it_is_measured(tmp_path: Path) -> None:
    for name in ("plain", "softmax"):
        (tmp_path / name).mkdir()
    plain = compared(write(tmp_path / "plain", CLASSIFIER))
    found = compared(write(tmp_path / "softmax", SOFTMAX))
    assert found["softmax"].network_sqnr_db is not None or found["softmax"].kept_float
    for name in ("input x", "first", "second", "pool"):
        assert found[name].network_sqnr_db == pytest.approx(plain[name].network_sqnr_db, abs=0.5)


def test_without_a_float_model_too_it_is_the_value_before_the_softmax(tmp_path: Path) -> None:
    files = write(tmp_path, SOFTMAX)
    model = load_quantized(files[1])
    found = layers_of(dequantized_network(model), model, samples(8))
    whole = compared(files)
    for name in ("input x", "pool", "last"):  # without weights that lost anything
        assert found[name].network_sqnr_db == pytest.approx(whole[name].network_sqnr_db, abs=1.0)


def test_several_outputs_count_alike(tmp_path: Path) -> None:
    """The last layer makes one of two outputs and leaves the other as it is."""
    files = write(tmp_path, TWO_OUTPUTS)
    found = compared(files, 4)
    one = files[0].with_name("one.onnx")
    part = ir.load(files[0])
    features = next(v for v in part.graph.outputs if v.name == "features")
    part.graph.outputs.remove(features)
    ir.save(part, one)
    single = load_quantized(files[1])
    graph = single.prepared.program
    only = replace(graph, outputs=tuple(o for o in graph.outputs if o.name == "map"))
    model = replace(single, prepared=replace(single.prepared, program=only))
    alone = layers_of(prepare(one), model, samples(4))
    assert noise(found["second"]) == pytest.approx(noise(alone["second"]) / 2.0)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_small_network(name: str) -> None:
    network = NETWORKS[name]
    prepared, table = calibrated(network.model(), network.input_shape)
    model = quantize_model(prepared, make_plan(prepared, table))
    data = network.feeds(4, seed=3)
    found = layers_of(prepare(network.model()), model, data)
    for layer in found.values():
        assert (layer.network_sqnr_db is None) == (layer.isolated_sqnr_db is None), layer.node
        assert (layer.output is None) == (layer.isolated_sqnr_db is None), layer.node
        if layer.network_sqnr_db is not None:
            assert layer.network_sqnr_db > 15.0


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("name", ["residual", "matmul", "several_outputs", "concat"])
def test_files_of_onnxruntime(name: str, per_channel: bool, tmp_path: Path) -> None:
    network = NETWORKS[name]
    path = quantized_by_onnxruntime(network, tmp_path, per_channel=per_channel)
    model = load_quantized(path)
    reference = prepare(network.model())
    dataset = open_samples(network.feeds(4, seed=0), reference.program.inputs, None)
    source = program_of(network.model())
    found = {
        layer.node: layer
        for layer in compare_layers(reference, model, dataset, source=source).layers
    }
    judged = [layer for layer in found.values() if layer.isolated_sqnr_db is not None]
    assert judged
    for layer in judged:
        assert layer.network_sqnr_db is not None, layer.node
        assert layer.network_sqnr_db > 10.0
        if layer.op_type in ("Conv", "MatMul"):
            assert layer.weight is not None
            assert layer.weight.source == layer.weight.folded is not None
            assert layer.accumulator is not None


FIXED = CLASSIFIER.replace("float[N,", "float[2,")

WITH_BRANCH = """(float[N, 3, 6, 6] x, float[4, 3, 3, 3] w1, float[4, 4, 1, 1] w2)
    => (float[N, 4, 4, 4] y) {
    [first] h = Conv (x, w1)
    most = ReduceMax <keepdims = 0> (h)
    zero = Constant <value = float {0.0}> ()
    is_positive = Greater (most, zero)
    [branch] e = If (is_positive) <
        then_branch = yes () => (float[N, 4, 4, 4] t) { t = Shrink (h) },
        else_branch = no () => (float[N, 4, 4, 4] f) { f = Identity (h) }
    >
    [last] y = Conv (e, w2)
}"""


def test_control_flow_is_compared_as_far_as_it_runs() -> None:
    prepared, table = calibrated(float_model(WITH_BRANCH), (3, 6, 6))
    model = quantize_model(prepared, make_plan(prepared, table))
    found = layers_of(prepare(float_model(WITH_BRANCH)), model, samples(4))
    assert "first" in found
    assert "last" not in found
    assert found["first"].isolated_sqnr_db is not None
    assert all(layer.network_sqnr_db is None for layer in found.values())


def test_a_fixed_batch(tmp_path: Path) -> None:
    found = compared(write(tmp_path, FIXED), 4)
    assert all(layer.network_sqnr_db is not None for layer in found.values())


def test_the_networks_of_this_file_are_what_they_say() -> None:
    assert program_of(float_model(FIXED)).inputs[0].shape == (2, 3, 6, 6)
