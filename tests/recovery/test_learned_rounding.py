from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkit import bundled
from quantkit.calibration.dataset import Dataset, open_dataset
from quantkit.config import QuantConfig
from quantkit.errors import ConfigError
from quantkit.exporters.qdq import qdq_graph
from quantkit.graph.program import Array
from quantkit.numerics.affine import dequantize, quantize
from quantkit.ops.contract import OPS
from quantkit.passes.prepare import prepare
from quantkit.pipeline import calibrate
from quantkit.plan import make_plan
from quantkit.quantized_model.constants import accumulator_max
from quantkit.quantized_model.model import QuantizedModel, node_bound, quantize_model
from quantkit.recovery import learned_rounding
from quantkit.recovery.bias_correction import correct_biases
from quantkit.recovery.gram_matrices import InputMoments, input_moments
from quantkit.recovery.learned_rounding import _search, learn_rounding
from quantkit.recovery.rounding_search import (
    Float64Array,
    descend,
    nearest_plane,
    quadratic_form,
)
from tests.quantized_model.checks import check_equals_onnxruntime, check_fused
from tests.small_networks import (
    NETWORKS,
    Network,
    calibrated,
    onnxruntime_outputs,
    quantized,
    random_feeds,
)

COARSE = QuantConfig(per_channel=False, reduce_range=True)


def problem(
    seed: int, group: int, inner: int, outputs: int, spread: float = 1.0
) -> tuple[Float64Array, Float64Array]:
    """A target and a form whose coordinates depend on each other."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (group, inner, inner + 3)) + 2 * rng.normal(0, 1, (group, 1, inner + 3))
    return rng.normal(0, 5 * spread, (group, inner, outputs)), x @ x.swapaxes(1, 2)


def best_of_all_roundings(target: Float64Array, hessian: Float64Array) -> float:
    """The least form among all ways to round every coordinate down or up."""
    error = np.floor(target) - target
    choices = np.array(list(product((0.0, 1.0), repeat=len(target)))) + error
    return float(np.einsum("ck,kl,cl->c", choices, hessian, choices).min())


@pytest.mark.parametrize(("inner", "at_least"), [(1, 60), (2, 48), (5, 28), (8, 16)])
def test_against_every_rounding(inner: int, at_least: int) -> None:
    """The search often finds the best of all roundings, the nearest rounding rarely is it."""
    best = nearest_is_best = 0
    for seed in range(60):
        target, hessian = problem(seed, 1, inner, 1)
        nearest = np.rint(target)
        least = best_of_all_roundings(target[0, :, 0], hessian[0]) * (1 + 1e-9)
        before, after = (
            float(quadratic_form(codes, target, hessian)[0, 0])
            for codes in (nearest, _search(nearest, target, hessian, 127))
        )
        assert after <= before
        best += int(after <= least)
        nearest_is_best += int(before <= least)
    assert best >= at_least
    assert inner == 1 or best > 1.2 * nearest_is_best


@pytest.mark.parametrize("block", [3, 64])
def test_nearest_planes_one_coordinate_at_a_time(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The definition: all coordinates that are left are solved for as real numbers."""
    monkeypatch.setattr("quantkit.recovery.rounding_search._BLOCK", block)
    target, hessian = problem(3, 2, 8, 2)
    found = nearest_plane(target, hessian, 6)
    for group, column in product(range(2), range(2)):
        form, wanted = hessian[group], target[group, :, column]
        codes = wanted.copy()
        free = list(range(8))
        while free:
            k = max(free, key=lambda index: form[index, index])
            fixed = [index for index in range(8) if index not in free]
            pull = form[np.ix_(free, fixed)] @ (codes - wanted)[fixed]
            best = wanted[free] - np.linalg.solve(form[np.ix_(free, free)], pull)
            codes[k] = np.clip(np.rint(best[free.index(k)]), -6, 6)
            free.remove(k)
        np.testing.assert_array_equal(found[group, :, column], codes)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 3),
    st.sampled_from([1, 3, 64, 65, 130]),
    st.integers(1, 4),
    st.sampled_from([1, 5, 64, 127]),
    st.floats(0.1, 40.0),
)
def test_no_column_gets_worse_and_codes_stay_within(
    seed: int, group: int, inner: int, outputs: int, largest: int, spread: float
) -> None:
    target, hessian = problem(seed, group, inner, outputs, spread)
    start = np.clip(np.rint(target), -largest, largest)
    found = descend(start, target, hessian, largest, sweeps=3)
    before, after = (quadratic_form(codes, target, hessian) for codes in (start, found))
    assert (after <= before * (1 + 1e-9)).all()
    for codes in (found, nearest_plane(target, hessian, largest)):
        assert np.abs(codes).max() <= largest
        np.testing.assert_array_equal(codes, np.rint(codes))


def test_blocks_are_a_matter_of_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    target, hessian = problem(0, 2, 50, 3)
    whole = descend(np.rint(target), target, hessian, 127, sweeps=3)
    monkeypatch.setattr("quantkit.recovery.rounding_search._BLOCK", 7)
    np.testing.assert_array_equal(descend(np.rint(target), target, hessian, 127, sweeps=3), whole)


def test_inputs_that_are_always_zero_do_not_matter() -> None:
    target, hessian = problem(0, 1, 6, 2)
    hessian[:, 2] = hessian[:, :, 2] = 0.0
    found = descend(np.rint(target), target, hessian, 127, sweeps=3)
    np.testing.assert_array_equal(found[:, 2], np.rint(target[:, 2]))
    np.testing.assert_array_equal(nearest_plane(target, hessian, 127)[:, 2], np.rint(target[:, 2]))
    np.testing.assert_array_equal(
        descend(np.rint(target), target, np.zeros_like(hessian), 127, sweeps=3), np.rint(target)
    )


def positive(network: Network, count: int, seed: int) -> Array:
    """Inputs as behind a ReLU, neighbours alike: their mean and covariance matter."""
    rng = np.random.default_rng(seed)
    shape = (count, *network.input_shape)
    x = rng.normal(0, 0.3, shape) + rng.normal(0.5, 0.5, (count, *[1] * len(network.input_shape)))
    channels = network.input_shape[0]
    magnitude = np.random.default_rng(0).uniform(0.2, 1.5, channels)
    return (np.maximum(x, 0) * magnitude.reshape(-1, *[1] * (x.ndim - 2))).astype(np.float32)


def coarse(network: Network, config: QuantConfig = COARSE) -> QuantizedModel:
    prepared = prepare(network.model())
    table = calibrate(prepared, positive(network, 64, seed=1))
    return correct_biases(
        quantize_model(prepared, make_plan(prepared, table, config), config), table
    )


def samples(model: QuantizedModel, x: Array) -> Dataset:
    return open_dataset(x, model.prepared.program.inputs, preprocessing=None)


def output_error(model: QuantizedModel, network: Network) -> float:
    x = positive(network, 64, seed=2)
    expected = onnxruntime_outputs(network.model(), {"x": x})["y"]
    y = onnxruntime_outputs(qdq_graph(model), {"x": x})["y"]
    return float(np.square(y - expected).sum())


_WIDE = Network(
    """(float[N,16,8,8] x, float[12,16,3,3] w, float[12] b) => (float[N,12,8,8] y) {
      [layer] y = Conv<pads = [1,1,1,1]>(x, w, b) }""",
    (16, 8, 8),
)
WITH_LAYERS = {
    "conv": _WIDE,
    "depthwise": Network(
        """(float[N,8,12,12] x, float[8,1,5,5] w) => (float[N,8,12,12] y) {
          y = Conv<pads = [2,2,2,2], group = 8>(x, w) }""",
        (8, 12, 12),
    ),
    "grouped": Network(
        """(float[N,8,9,9] x, float[6,4,3,3] w) => (float[N,6,4,4] y) {
          y = Conv<strides = [2,2], group = 2>(x, w) }""",
        (8, 9, 9),
    ),
    "one_axis": Network(
        """(float[N,8,30] x, float[6,8,5] w) => (float[N,6,30] y) {
          y = Conv<auto_pad = "SAME_UPPER">(x, w) }""",
        (8, 30),
    ),
    "gemm": Network(
        """(float[N,40] x, float[10,40] w, float[10] b) => (float[N,10] y) {
          y = Gemm<transB = 1>(x, w, b) }""",
        (40,),
    ),
    "matmul": Network(
        "(float[N,6,40] x, float[40,10] w) => (float[N,6,10] y) { y = MatMul(x, w) }", (6, 40)
    ),
}


@pytest.mark.parametrize("config", [COARSE, QuantConfig(reduce_range=True)], ids=["one", "each"])
@pytest.mark.parametrize("name", sorted(WITH_LAYERS))
def test_the_error_of_the_output_falls_on_other_samples(name: str, config: QuantConfig) -> None:
    network = WITH_LAYERS[name]
    model = coarse(network, config)
    learned = learn_rounding(model, samples(model, positive(network, 128, seed=1)))
    assert output_error(learned, network) < 0.98 * output_error(model, network)
    assert learned.notes[-1].pass_name == "learned_rounding"
    for codes in learned.constants.values():
        assert codes.data.dtype != np.int8 or np.abs(codes.data.astype(int)).max() <= 64
    check_fused(qdq_graph(learned), in_floats=network.float_in_onnxruntime)
    check_equals_onnxruntime(learned, qdq_graph(learned), {"x": positive(network, 2, seed=3)})


@pytest.mark.parametrize("count", [24, 96])
def test_what_few_samples_have_in_common_by_chance_is_not_learned(count: int) -> None:
    """Independent inputs: what is lost on others is the squared error of the weights."""
    network = Network(
        """(float[N,96] x, float[96,24] w, float[24] b) => (float[N,24] y) {
          y = Gemm(x, w, b) }""",
        (96,),
    )
    model, _ = quantized(network, COARSE)
    learned = learn_rounding(model, samples(model, network.feeds(count, seed=5)["x"]))
    real = model.prepared.program.constants["w"]
    before, after = (
        np.square(each.constants["w"].dequantize() - real).sum() for each in (model, learned)
    )
    assert after < 1.3 * before


@pytest.mark.parametrize("name", ["conv", "grouped", "gemm"])
def test_the_bias_takes_the_mean(name: str) -> None:
    """In floats, on the inputs the integer layer sees: no output is shifted on average."""
    network = WITH_LAYERS[name]
    model = coarse(network)
    x = positive(network, 128, seed=1)
    learned = learn_rounding(model, samples(model, x))
    node = learned.prepared.program.nodes[0]
    x_params = learned.plan.params["x"]
    inputs = dequantize(quantize(x, x_params), x_params).astype(np.float64)
    arrays = learned.prepared.program.constants
    form = OPS[node.op_type].float_form
    real = [arrays[name].astype(np.float64) for name in node.inputs[1:]]
    coded = [learned.constants[name].dequantize().astype(np.float64) for name in node.inputs[1:]]
    error = np.moveaxis(form(node, [inputs, *coded])[0] - form(node, [inputs, *real])[0], 1, 0)
    by_output = error.reshape(len(error), -1)
    step = learned.constants[node.inputs[2]].params.scale
    assert (np.abs(by_output.mean(axis=1)) <= 0.51 * step + 1e-6).all()
    assert (by_output.std(axis=1) > 2 * step).all()


def changed(how: Callable[[InputMoments], InputMoments]) -> Callable[..., dict[str, InputMoments]]:
    def wrong(*arguments: Any, **options: Any) -> dict[str, InputMoments]:
        return {name: how(right) for name, right in input_moments(*arguments, **options).items()}

    return wrong


def _order(inner: int) -> Array:
    """Taps before channels."""
    return np.arange(inner).reshape(-1, 9).T.reshape(-1)


SABOTAGE: dict[str, Callable[[InputMoments], InputMoments]] = {
    "taps before channels": lambda right: replace(
        right, covariance=right.covariance[:, _order(144)][:, :, _order(144)]
    ),
    "mean of other channels": lambda right: replace(right, mean=right.mean[:, _order(144)]),
    "mean in codes": lambda right: replace(right, mean=100 * right.mean),
    "independent inputs": lambda right: replace(
        right, covariance=np.eye(144)[np.newaxis] * right.covariance
    ),
}


@pytest.mark.parametrize("name", sorted(SABOTAGE))
def test_wrong_moments_are_seen_in_the_output(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = coarse(_WIDE)
    dataset = samples(model, positive(_WIDE, 64, seed=1))
    right = output_error(learn_rounding(model, dataset), _WIDE)
    monkeypatch.setattr(learned_rounding, "input_moments", changed(SABOTAGE[name]))
    assert output_error(learn_rounding(model, dataset), _WIDE) > 1.05 * right


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"two_inputs"}))
def test_every_small_network_stays_whole(name: str, per_channel: bool) -> None:
    network = NETWORKS[name]
    model, _ = quantized(network, QuantConfig(per_channel=per_channel))
    learned = learn_rounding(model, samples(model, network.feeds(12, seed=5)["x"]))
    assert set(learned.constants) == set(model.constants)
    for node in learned.prepared.program.nodes:
        if node.name in learned.accumulator_bounds:
            bound = node_bound(node, learned.prepared.program, learned.plan, learned.constants)
            assert bound == learned.accumulator_bounds[node.name]
            assert bound <= accumulator_max(learned.plan.params[node.inputs[0]])
    for key, codes in learned.constants.items():
        assert codes.params.equals(model.constants[key].params)
    check_equals_onnxruntime(learned, qdq_graph(learned), network.feeds(2))


def test_two_inputs() -> None:
    network = NETWORKS["two_inputs"]
    model, _ = quantized(network, COARSE)
    feeds = random_feeds(network.model(), network.input_shape, 12, seed=5)
    dataset = open_dataset(feeds, model.prepared.program.inputs, preprocessing=None)
    assert "1 layer rounded" in learn_rounding(model, dataset).notes[-1].message


def same(first: QuantizedModel, other: QuantizedModel) -> bool:
    return all(
        np.array_equal(codes.data, other.constants[name].data)
        for name, codes in first.constants.items()
    )


def test_the_result_repeats_on_any_number_of_threads() -> None:
    network = NETWORKS["mobile"]
    model, _ = quantized(network)
    dataset = samples(model, network.feeds(40, seed=5)["x"])
    first, *others = (learn_rounding(model, dataset, threads=threads) for threads in (1, 2, 3, 1))
    assert not same(first, model)
    assert all(same(first, other) for other in others)
    assert len({other.notes[-1].message for other in (first, *others)}) == 1


def test_several_passes_when_sums_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    network = NETWORKS["mobile"]
    model, _ = quantized(network)
    dataset = samples(model, network.feeds(20, seed=5)["x"])
    monkeypatch.setattr(learned_rounding, "_SUMS_BYTES", 8 * 72**2)  # what [last] needs
    seen: list[int] = []

    def watched(
        model: QuantizedModel, nodes: Sequence[Any], *rest: Any, **options: Any
    ) -> dict[str, InputMoments]:
        seen.append(len(nodes))
        return input_moments(model, nodes, *rest, **options)

    monkeypatch.setattr(learned_rounding, "input_moments", watched)
    told: list[tuple[int, int]] = []
    learned = learn_rounding(model, dataset, progress=lambda *at: told.append(at))
    assert (len(seen), sum(seen)) == (3, 5)
    assert (told[0], told[-1], len(told)) == ((8, 60), (60, 60), 9)
    assert "5 layers" in learned.notes[-1].message
    monkeypatch.setattr(learned_rounding, "_SUMS_BYTES", 8 * 72**2 - 1)
    message = learn_rounding(model, dataset).notes[-1].message
    assert "4 layers" in message
    assert message.endswith("; left as they are (too large, or transposed): last")


def test_as_many_samples_as_asked_for() -> None:
    network = NETWORKS["mobile"]
    model, _ = quantized(network)
    x = network.feeds(30, seed=5)["x"]
    some = learn_rounding(model, samples(model, x), num_samples=3)
    assert same(some, learn_rounding(model, samples(model, x[[0, 10, 20]])))
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        learn_rounding(model, samples(model, x), num_samples=0)


def test_float_layers_are_left_alone() -> None:
    network = NETWORKS["mobile"]
    model, _ = quantized(network, QuantConfig(nodes_to_exclude=("last",)))
    learned = learn_rounding(model, samples(model, network.feeds(9)["x"]))
    assert "4 layers" in learned.notes[-1].message
    assert "left as" not in learned.notes[-1].message


def test_nothing_is_changed_where_sums_would_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    network = NETWORKS["mobile"]
    model, _ = quantized(network)
    monkeypatch.setattr(learned_rounding, "accumulator_max", lambda params: 0)
    learned = learn_rounding(model, samples(model, network.feeds(9)["x"]))
    assert learned.notes == model.notes
    assert same(learned, model)


def test_channels_that_never_change() -> None:
    """They leave no curvature: a dead group, a dead channel, a constant one."""
    network = Network(
        """(float[N,4,6,6] x, float[4,2,3,3] w, float[4] b) => (float[N,4,4,4] y) {
          y = Conv<group = 2>(x, w, b) }""",
        (4, 6, 6),
    )
    model, _ = quantized(network, COARSE)
    for how in ((0.0, 0.0, None, None), (1.0, None, None, 0.0), (0.5, 1.0, 0.0, -1.0)):
        x = network.feeds(20, seed=5)["x"]
        for channel, value in enumerate(how):
            if value is not None:
                x[:, channel] = value
        learned = learn_rounding(model, samples(model, x))
        expected = onnxruntime_outputs(network.model(), {"x": x})["y"]
        before, after = (
            np.square(onnxruntime_outputs(qdq_graph(m), {"x": x})["y"] - expected).sum()
            for m in (model, learned)
        )
        assert after < 1.1 * before


def test_exact_weights_stay() -> None:
    """Weights that are codes already leave nothing to gain."""
    network = Network(
        "(float[N,6] x, float[6,3] w, float[3] b) => (float[N,3] y) { y = Gemm(x, w, b) }",
        (6,),
        constants={
            "w": np.random.default_rng(0).choice([-127, 4, 30, 127], (6, 3)) / 128,
            "b": np.zeros(3),
        },
    )
    prepared, table = calibrated(network.model(), network.input_shape)
    model = quantize_model(prepared, make_plan(prepared, table))
    learned = learn_rounding(model, samples(model, network.feeds(9)["x"]))
    assert same(learned, model)
    assert learned.notes == model.notes


def test_the_bundled_digits() -> None:
    config = QuantConfig(reduce_range=True)
    with bundled.folder() as files:
        prepared = prepare(files / "digits_mobilenet.onnx")
        seen = open_dataset(
            files / "digits_calibration.npz", prepared.program.inputs, preprocessing=None
        )
        table = calibrate(prepared, seen)
        model = quantize_model(prepared, make_plan(prepared, table, config), config)
        model = correct_biases(model, table)
        learned = learn_rounding(model, seen)
        held_back = open_dataset(
            files / "digits_evaluation.npz", prepared.program.inputs, preprocessing=None
        )
        rows = [held_back.read(index) for index in range(0, len(held_back), 4)]
    name, output = prepared.program.inputs[0].name, prepared.program.outputs[0].name
    x = np.stack([row[name] for row in rows if row is not None])
    expected = onnxruntime_outputs(prepared.model, {name: x})[output]
    before, after = (
        np.square(onnxruntime_outputs(qdq_graph(m), {name: x})[output] - expected).sum()
        for m in (model, learned)
    )
    assert after < 0.75 * before
