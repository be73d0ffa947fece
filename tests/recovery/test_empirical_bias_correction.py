from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkit.calibration.dataset import Dataset, open_dataset
from quantkit.config import QuantConfig
from quantkit.errors import ConfigError, UnreadableSampleError
from quantkit.exporters.qdq import qdq_graph
from quantkit.graph.ort_session import with_outputs
from quantkit.graph.program import Array
from quantkit.integer_session import open_integer_session
from quantkit.numerics.affine import dequantize, params_from_range
from quantkit.passes.prepare import prepare
from quantkit.pipeline import calibrate
from quantkit.plan import make_plan
from quantkit.quantized_model.constants import accumulator_max, quantize_bias
from quantkit.quantized_model.model import (
    QuantizedModel,
    node_bound,
    quantize_model,
    weight_and_bias,
)
from quantkit.recovery import empirical_bias_correction as step
from quantkit.recovery.empirical_bias_correction import _shift, correct_biases_empirically
from quantkit.recovery.layer_sums import Float64Array, Layer
from tests.quantized_model.checks import check_equals_onnxruntime, check_fused
from tests.small_networks import NETWORKS, Network, onnxruntime_outputs, quantized, read_back

COARSE = QuantConfig(per_channel=False, reduce_range=True)
ONE_INPUT = sorted(set(NETWORKS) - {"two_inputs"})


def samples(model: QuantizedModel, x: Array) -> Dataset:
    return open_dataset(x, model.prepared.program.inputs, preprocessing=None)


def positive(count: int, seed: int, shape: tuple[int, ...] = (4, 10, 10)) -> Array:
    """As behind a ReLU: rounded weights then shift the mean of what they make."""
    x = np.random.default_rng(seed).normal(0.5, 0.7, (count, *shape))
    return np.maximum(x, 0).astype(np.float32)


def coarse(weight: tuple[int, ...]) -> Array:
    """One huge weight makes the one scale of the tensor coarse."""
    weights = np.random.default_rng(3).normal(0.0, 0.3, weight)
    weights[0, 0, 0, 0] = 12.0
    return weights.astype(np.float32)


CHAIN = Network(
    """(float[N,4,10,10] x, float[8,4,3,3] w0, float[8,1,3,3] w1, float[5,8,1,1] w2, float[5] b2)
      => (float[N,5,10,10] y) {
      c = Conv<pads = [1,1,1,1]>(x, w0)
      r = Relu(c)
      d = Conv<pads = [1,1,1,1], group = 8>(r, w1)
      e = Relu(d)
      [last] y = Conv(e, w2, b2)
    }""",
    (4, 10, 10),
    constants={"w0": coarse((8, 4, 3, 3)), "w1": coarse((8, 1, 3, 3)), "w2": coarse((5, 8, 1, 1))},
)


def planted(network: Network = CHAIN, config: QuantConfig = COARSE) -> QuantizedModel:
    prepared = prepare(network.model())
    table = calibrate(prepared, positive(24, 1, network.input_shape))
    return quantize_model(prepared, make_plan(prepared, table, config), config)


def output_error(model: QuantizedModel, x: Array) -> float:
    expected = onnxruntime_outputs(model.prepared.model, {"x": x})
    found = onnxruntime_outputs(qdq_graph(model), {"x": x})
    return sum(float(np.square(found[name] - real).sum()) for name, real in expected.items())


def same(first: QuantizedModel, other: QuantizedModel) -> bool:
    return all(
        np.array_equal(codes.data, other.constants[name].data)
        for name, codes in first.constants.items()
    )


def test_shifted_means_are_restored_on_other_samples() -> None:
    model, x = planted(), positive(32, 9)
    corrected = correct_biases_empirically(model, samples(model, positive(32, 2)))
    assert output_error(corrected, x) < 0.5 * output_error(model, x)
    expected = onnxruntime_outputs(model.prepared.model, {"x": x})["y"]
    before, after = (
        np.abs((onnxruntime_outputs(qdq_graph(m), {"x": x})["y"] - expected).mean((0, 2, 3)))
        for m in (model, corrected)
    )
    assert after.mean() < 0.25 * before.mean()
    (note,) = corrected.notes[len(model.notes) :]
    assert (note.pass_name, note.applied) == ("empirical_bias_correction", True)
    assert note.message.startswith("biases of 3 layers corrected")
    assert {name for name in model.constants if name.startswith("w")} == {"w0", "w1", "w2"}
    for name in ("w0", "w1", "w2"):
        assert corrected.constants[name] is model.constants[name]
    check_fused(qdq_graph(corrected), in_floats=frozenset())
    check_equals_onnxruntime(corrected, qdq_graph(corrected), {"x": x[:2]})


LAYERS = {
    "transposed": ("t = ConvTranspose<strides = [2,2]>(c, w, b)", (4, 6, 2, 2), 6),
    "grouped_transposed": ("t = ConvTranspose<group = 2>(c, w, b)", (4, 3, 1, 1), 6),
    "one_axis": ("f = Reshape(c, shape) t = Conv(f, w, b)", (6, 4, 5), 6),
    "gemm": ("f = Flatten(c) t = Gemm<transB = 1>(f, w, b)", (7, 400), 7),
    "gemm_by_columns": ("f = Flatten(c) t = Gemm(f, w, b)", (400, 7), 7),
}


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_every_kind_of_layer(name: str) -> None:
    layer, shape, channels = LAYERS[name]
    weights = np.random.default_rng(3).normal(0, 0.1, shape)
    weights.flat[0] = 9.0
    sizes = ",".join(map(str, shape))
    network = Network(
        f"""(float[N,4,10,10] x, float[4,1,1,1] v, float[{sizes}] w, float[{channels}] b,
          float[3,6,1,1] u)
          => (float[N,C,L,M] y) {{
          shape = Constant<value = int64[3] {{0, 4, 100}}>()
          c = Conv<group = 4>(x, v)
          {layer}
          {"y = Conv(t, u)" if "transposed" in name else "y = Relu(t)"}
        }}""",
        (4, 10, 10),
        constants={"v": np.ones((4, 1, 1, 1)), "w": weights},
    )
    if "gemm" in name:
        network = replace(network, text=network.text.replace("N,C,L,M", "N,C"))
    if name == "one_axis":
        network = replace(network, text=network.text.replace("N,C,L,M", "N,C,L"))
    model = planted(network)
    corrected = correct_biases_empirically(model, samples(model, positive(32, 2)))
    assert not np.array_equal(corrected.constants["b"].data, model.constants["b"].data)
    x = positive(32, 9)
    assert output_error(corrected, x) < 0.95 * output_error(model, x)


def heavy_tailed(count: int, seed: int) -> Array:
    """One value in twenty is ten times as large as the others."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.0, 1.0, (count, 4, 10, 10))
    return np.where(rng.uniform(size=x.shape) < 0.05, 10 * x, x).astype(np.float32)


def clipping_model() -> QuantizedModel:
    """Its hidden range holds all but the tail."""
    network = Network(
        """(float[N,4,10,10] x, float[4,1,1,1] w0, float[3,4,1,1] w1) => (float[N,3,10,10] y) {
          h = Conv<group = 4>(x, w0)
          y = Conv(h, w1)
        }""",
        (4, 10, 10),
        constants={"w0": np.ones((4, 1, 1, 1))},
    )
    prepared = prepare(network.model())
    plan = make_plan(prepared, calibrate(prepared, heavy_tailed(24, 1)))
    clipped = {**plan.params, "h": params_from_range(0.0, 1.0)}
    return quantize_model(prepared, replace(plan, params=clipped))


def naively_corrected(model: QuantizedModel, x: Array) -> QuantizedModel:
    """Layer by layer, by the mean error of what the codes of the output stand for."""
    for node in model.prepared.program.nodes:
        weight, bias, output = *weight_and_bias(node), node.outputs[0]
        params = model.plan.params[output]
        codes = open_integer_session(model).run_codes({"x": x}, [output])[output]
        graph = with_outputs(model.prepared.model, [output])
        real = onnxruntime_outputs(graph, {"x": x})[output]
        shift = (real - dequantize(codes, params)).mean(axis=(0, 2, 3))
        new = quantize_bias(
            model.constants[bias].dequantize() + shift,
            model.plan.params[node.inputs[0]],
            model.constants[weight].params,
        )
        model = replace(model, constants={**model.constants, bias: new})
    return model


def hidden_error(model: QuantizedModel, x: Array) -> float:
    """Of what lies within the hidden tensor's range: the tail is lost anyway."""
    codes = open_integer_session(model).run_codes({"x": x}, ["h"])["h"]
    return float(np.square(dequantize(codes, model.plan.params["h"]) - np.minimum(x, 1)).mean())


def test_clipping_fools_a_plain_mean_only() -> None:
    model, seen, x = clipping_model(), heavy_tailed(32, 2), heavy_tailed(32, 9)
    naive = naively_corrected(model, seen)
    corrected = correct_biases_empirically(model, samples(model, seen))
    assert hidden_error(naive, x) > 50 * hidden_error(model, x)
    assert hidden_error(corrected, x) <= 1.01 * hidden_error(model, x)
    assert output_error(corrected, x) < output_error(model, x)
    assert output_error(corrected, x) < output_error(naive, x)


@pytest.mark.parametrize("name", ONE_INPUT)
def test_every_small_network_stays_whole_and_gets_no_worse(name: str) -> None:
    network = NETWORKS[name]
    model, _ = quantized(network, COARSE)
    x = network.feeds(12, seed=5)["x"]
    corrected = correct_biases_empirically(model, samples(model, x))
    assert len(corrected.notes) == len(model.notes) + 1
    assert output_error(corrected, x[::4]) <= output_error(model, x[::4]) * (1 + 1e-9)
    assert set(corrected.constants) == set(model.constants)
    for node in corrected.prepared.program.nodes:
        if node.name in corrected.accumulator_bounds:
            bound = node_bound(node, corrected.prepared.program, model.plan, corrected.constants)
            assert bound == corrected.accumulator_bounds[node.name]
            assert bound <= accumulator_max(model.plan.params[node.inputs[0]])
    for key, codes in corrected.constants.items():
        assert codes.params.equals(model.constants[key].params)
    check_equals_onnxruntime(corrected, qdq_graph(corrected), network.feeds(2))


def test_two_inputs() -> None:
    network = NETWORKS["two_inputs"]
    model, _ = quantized(network, COARSE)
    dataset = open_dataset(
        network.feeds(12, seed=5), model.prepared.program.inputs, preprocessing=None
    )
    assert len(correct_biases_empirically(model, dataset).notes) == len(model.notes) + 1


def test_the_result_repeats_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    model = planted()
    dataset = samples(model, positive(32, 2))
    first = correct_biases_empirically(model, dataset)
    for threads in (1, 3):
        monkeypatch.setattr(
            "quantkit.recovery.side_by_side.available_threads", lambda count=threads: count
        )
        other = correct_biases_empirically(model, dataset)
        assert same(first, other)
        assert first.notes[-1] == other.notes[-1]
    assert not same(first, model)


def test_float_islands_are_left_alone() -> None:
    model = planted(config=COARSE.model_copy(update={"nodes_to_exclude": ("last",)}))
    corrected = correct_biases_empirically(model, samples(model, positive(32, 2)))
    assert corrected.notes[-1].message.startswith("biases of 2 layers")
    assert corrected.plan.kept_float == model.plan.kept_float
    assert "b2" not in corrected.constants
    x = positive(8, 9)
    assert output_error(corrected, x) < 0.5 * output_error(model, x)
    # A file may hold codes that only float nodes read.
    with_codes = replace(model, constants=planted().constants)
    again = correct_biases_empirically(with_codes, samples(model, positive(32, 2)))
    assert again.notes[-1] == corrected.notes[-1]
    assert again.constants["b2"] is with_codes.constants["b2"]


def backwards(sums: Float64Array) -> Float64Array:
    return -5 * _shift(sums)


def recorded_stages(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[QuantizedModel]]:
    """Filled with what the outputs are then asked about."""
    recorded: list[Sequence[QuantizedModel]] = []
    measured = step._output_errors

    def seen(
        model: QuantizedModel, stages: Sequence[QuantizedModel], feeds: Any
    ) -> dict[int, float]:
        recorded.append(stages)
        return measured(model, stages, feeds)

    monkeypatch.setattr(step, "_output_errors", seen)
    return recorded


def test_held_back_samples_refuse_wrong_shifts_of_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    model = planted()
    monkeypatch.setattr(step, "_shift", backwards)
    recorded = recorded_stages(monkeypatch)
    corrected = correct_biases_empirically(model, samples(model, positive(32, 2)))
    # A wrong shift may push out of sight what a clamp cuts off; nearly all are seen through.
    changed = [
        int((codes.data != model.constants[name].data).sum())
        for stage in recorded[0]
        for name, codes in stage.constants.items()
    ]
    assert max(changed) <= 3
    assert same(corrected, model)
    assert not corrected.notes[-1].applied
    assert corrected.notes[-1].message.startswith("every bias stays: no correction helps")


def test_the_outputs_have_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """No layer judges any more."""
    model = planted()
    monkeypatch.setattr(step, "_shift", backwards)
    monkeypatch.setattr(
        Layer, "squared_errors", lambda *_: np.array([[1.0], [0.0]]) * np.ones((2, 1))
    )
    recorded = recorded_stages(monkeypatch)
    corrected = correct_biases_empirically(model, samples(model, positive(32, 2)))
    assert len(recorded[0]) == 3
    assert same(corrected, model)


def test_samples_that_judge_are_not_fitted_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in four holds values that no other has, and they do not come in."""
    model, x = planted(), positive(32, 2)
    fitted: list[Float64Array] = []

    def seen(sums: Float64Array) -> Float64Array:
        fitted.append(sums)
        return np.zeros_like(_shift(sums))

    monkeypatch.setattr(step, "_shift", seen)
    correct_biases_empirically(model, samples(model, x))
    x[::4] = positive(8, 77)
    correct_biases_empirically(model, samples(model, x))
    assert [len(sums) for sums in fitted] == [24] * 6
    for before, after in zip(fitted[:3], fitted[3:], strict=True):
        np.testing.assert_array_equal(before, after)


def test_the_first_layers_alone_may_be_corrected(monkeypatch: pytest.MonkeyPatch) -> None:
    model = planted()
    calls: list[int] = []

    def last_ones_backwards(sums: Float64Array) -> Float64Array:
        calls.append(1)
        return _shift(sums) if len(calls) == 1 else backwards(sums)

    monkeypatch.setattr(step, "_shift", last_ones_backwards)
    monkeypatch.setattr(
        Layer, "squared_errors", lambda *_: np.array([[1.0], [0.0]]) * np.ones((2, 1))
    )
    corrected = correct_biases_empirically(model, samples(model, positive(32, 2)))
    assert corrected.notes[-1].message.startswith("biases of 1 layer corrected")
    assert output_error(corrected, positive(32, 2)[::4]) < output_error(model, positive(32, 2)[::4])


SABOTAGE: dict[str, Callable[[Float64Array], Float64Array]] = {
    "other channels": lambda shift: np.roll(shift, 1),
    "half": lambda shift: shift / 2,
    "none": lambda shift: 0 * shift,
    "sums, not means": lambda shift: 100 * shift,
}


@pytest.mark.parametrize("name", sorted(SABOTAGE))
def test_wrong_shifts_are_seen_in_the_output(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = planted(), positive(32, 9)
    dataset = samples(model, positive(32, 2))
    right = output_error(correct_biases_empirically(model, dataset), x)
    monkeypatch.setattr(step, "_shift", lambda sums: SABOTAGE[name](_shift(sums)))
    assert output_error(correct_biases_empirically(model, dataset), x) > 1.1 * right


def sums_of(means: Float64Array, counts: float = 100.0) -> Float64Array:
    """(samples, 2, C)"""
    return np.stack([means * counts, np.full(means.shape, counts)], axis=1)


def test_what_every_sample_shows_is_taken_whole() -> None:
    means = np.tile([0.5, -2.0, 0.0], (6, 1))
    np.testing.assert_allclose(_shift(sums_of(means)), [0.5, -2.0, 0.0], rtol=1e-12)


def test_no_value_within_range_gives_no_shift() -> None:
    np.testing.assert_array_equal(_shift(np.zeros((6, 2, 3))), 0.0)


@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.floats(1e-6, 1e6))
def test_a_shift_is_never_larger_than_the_mean(seed: int, count: int, unit: float) -> None:
    means = unit * np.random.default_rng(seed).normal(0.3, 1.0, (count, 50))
    mean, shift = means.mean(axis=0), _shift(sums_of(means))
    error = means.std(axis=0, ddof=1) / np.sqrt(count)
    assert (np.abs(shift) <= np.abs(mean)).all()
    assert (shift * mean >= 0).all()
    assert (shift[np.abs(mean) < 1.99 * error] == 0).all()
    expected = mean - 4 * error**2 / mean
    is_kept = np.abs(mean) > 2.01 * error
    np.testing.assert_allclose(shift[is_kept], expected[is_kept], rtol=1e-9)


def test_as_many_samples_as_asked_for_and_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = planted(), positive(30, 2)
    some = correct_biases_empirically(model, samples(model, x), num_samples=6)
    assert same(some, correct_biases_empirically(model, samples(model, x[::5])))
    # 8 channels of 10 x 10 go in and come out, in floats and codes.
    monkeypatch.setattr(step, "_VALUES_BYTES", 6 * 1600 * 5 + 1)
    assert same(some, correct_biases_empirically(model, samples(model, x)))
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        correct_biases_empirically(model, samples(model, x), num_samples=0)


def test_a_model_read_from_a_file(tmp_path: Path) -> None:
    model = planted()
    dataset = samples(model, positive(32, 2))
    stored = read_back(qdq_graph(model), tmp_path)
    corrected = correct_biases_empirically(stored, dataset)
    x = positive(32, 2)[::4]
    assert corrected.notes[-1].applied
    assert output_error(corrected, x) < output_error(stored, x)


def test_too_few_samples() -> None:
    model = planted()
    corrected = correct_biases_empirically(model, samples(model, positive(2, 2)))
    assert same(corrected, model)
    assert corrected.notes[-1].message == "every bias stays: there are fewer than three samples"


def test_no_sample_can_be_read() -> None:
    model = planted()
    rows = [{"x": np.zeros((1, 3, 10, 10), np.float32)}] * 4
    dataset = open_dataset(rows, model.prepared.program.inputs, preprocessing=None)
    with pytest.raises(UnreadableSampleError):
        correct_biases_empirically(model, dataset)


def test_sums_that_would_overflow_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    model = planted()
    monkeypatch.setattr(step, "accumulator_max", lambda params: 0)
    corrected = correct_biases_empirically(model, samples(model, positive(32, 2)))
    assert same(corrected, model)
    assert dict(corrected.accumulator_bounds) == dict(model.accumulator_bounds)


def test_every_node_is_told() -> None:
    model = planted()
    told: list[tuple[int, int]] = []
    correct_biases_empirically(
        model, samples(model, positive(4, 2)), progress=lambda *at: told.append(at)
    )
    count = len(model.prepared.program.nodes)
    assert told == [(done, count) for done in range(1, count + 1)]
