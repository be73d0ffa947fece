from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkit.calibration.dataset import Dataset, open_dataset
from quantkit.calibration.table import CalibrationTable
from quantkit.config import QuantConfig
from quantkit.errors import UnreadableSampleError
from quantkit.exporters.qdq import qdq_graph
from quantkit.graph.ort_session import between, open_session, with_outputs
from quantkit.graph.program import Array, Program
from quantkit.numerics.affine import QuantParams, dequantize, params_from_range, quantize
from quantkit.numerics.metrics import sqnr_db
from quantkit.ops.float_node import run_float_node
from quantkit.passes.note import PassNote
from quantkit.passes.prepare import Prepared, prepare
from quantkit.pipeline import calibrate
from quantkit.plan import QuantPlan, make_plan
from quantkit.plan.ranges import full_range_reasons, range_groups
from quantkit.quantized_model.model import quantize_model
from quantkit.range_estimators.contract import Range
from quantkit.recovery import activation_range_search
from quantkit.recovery.activation_range_search import search_activation_ranges
from quantkit.recovery.output_error import (
    Sample,
    cut_behind,
    energies,
    measured_values,
    open_rest,
    output_error,
    quantized,
    run_samples,
    with_values,
)
from tests.quantized_model.checks import check_equals_onnxruntime, check_fused
from tests.small_networks import (
    NETWORKS,
    Network,
    calibrated,
    float_model,
    onnxruntime_outputs,
    random_feeds,
)

MINMAX = QuantConfig(range_estimator="minmax")
RNG = np.random.default_rng(3)
LOUD = RNG.normal(0, 0.4, (4, 3, 1, 1)) * np.array([40.0, 1, 1, 1]).reshape(4, 1, 1, 1)
HEARD = RNG.normal(0, 0.4, (2, 4, 1, 1))
VITAL = HEARD * np.array([9.0, 1, 1, 1]).reshape(1, 4, 1, 1)
DEAF = HEARD * np.array([0.0, 1, 1, 1]).reshape(1, 4, 1, 1)

RESIDUAL = Network(
    """(float[N,3,8,8] x, float[4,3,3,3] w, float[4,4,3,3] v, float[4,4,1,1] u, float[5,4] g,
        float[5] h) => (float[N,5] y, float[N,4,8,8] z) {
      three = Constant<value = float {3.0}>()
      zero = Constant<value = float {0.0}>()
      a = Conv<pads = [1,1,1,1]>(x, w)
      b = Clip(a, zero, three)
      m = MaxPool<kernel_shape = [3,3], pads = [1,1,1,1]>(b)
      c = Conv<pads = [1,1,1,1]>(m, v)
      s = Add(c, b)
      r = Relu(s)
      d = Conv(r, u)
      z = Add(d, b)
      p = GlobalAveragePool(r)
      f = Flatten(p)
      y = Gemm<transB = 1>(f, g, h)
    }""",
    (3, 8, 8),
)


def two_layers(second: Array) -> Network:
    return Network(
        """(float[N,3,8,8] x, float[4,3,1,1] w, float[2,4,1,1] v) => (float[N,2,8,8] y) {
          a = Conv(x, w)
          y = Conv(a, v)
        }""",
        (3, 8, 8),
        constants={"w": LOUD, "v": second},
    )


def dataset_of(prepared: Prepared, feeds: Mapping[str, Array]) -> Dataset:
    return open_dataset(feeds, prepared.program.inputs, preprocessing=None)


def planned(
    network: Network, config: QuantConfig = MINMAX, samples: int = 8
) -> tuple[Prepared, CalibrationTable, QuantPlan, Dataset]:
    prepared, table = calibrated(network.model(), network.input_shape, samples)
    data = dataset_of(prepared, network.feeds(samples, seed=7))
    return prepared, table, make_plan(prepared, table, config), data


def searched(
    network: Network, config: QuantConfig = MINMAX, samples: int = 8
) -> tuple[QuantPlan, QuantPlan, PassNote]:
    prepared, table, plan, data = planned(network, config, samples)
    new, note = search_activation_ranges(prepared, plan, table, data)
    return plan, new, note


def all_samples(prepared: Prepared, data: Dataset) -> list[Sample]:
    names = [name for node in prepared.program.nodes for name in node.outputs]
    with ThreadPoolExecutor(2) as pool:
        samples = run_samples(prepared.model, data, measured_values(prepared.program), pool)
        return with_values(prepared.model, samples, names, pool)


def test_an_outlier_without_influence_is_cut_off() -> None:
    before, after, note = searched(two_layers(DEAF))
    assert after.ranges["a"].high < before.ranges["a"].high / 5
    assert after.ranges["a"].reason.startswith("output error: 0.")
    assert "of the values seen (least of " in after.ranges["a"].reason
    assert note.applied
    assert note.message.startswith(
        "1 of 1 ranges chosen by the error of the outputs they cause; the sum of these errors fell"
    )


@pytest.mark.parametrize("activation_type", ["uint8", "int8"])
def test_an_outlier_that_matters_stays(activation_type: str) -> None:
    config = QuantConfig.model_validate(
        {"range_estimator": "minmax", "activation_type": activation_type}
    )
    before, after, note = searched(
        two_layers(HEARD * np.array([9, 1, 1, 1])[:, None, None]), config
    )
    share = (after.ranges["a"].high - after.ranges["a"].low) / (
        before.ranges["a"].high - before.ranges["a"].low
    )
    assert share > 0.8
    assert note.message.endswith("dB") == note.applied


def test_a_range_that_cuts_too_much_grows() -> None:
    network = two_layers(VITAL)
    before, after, _ = searched(network, QuantConfig(range_estimator="percentile", percentile=80))
    whole = searched(network)[0].ranges["a"]
    assert before.ranges["a"].high < 0.5 * whole.high
    assert 0.8 * whole.high < after.ranges["a"].high <= whole.high
    assert whole.low <= after.ranges["a"].low


@pytest.mark.parametrize("activation_type", ["uint8", "int8"])
def test_outputs_come_nearer(activation_type: str) -> None:
    config = QuantConfig.model_validate(
        {"range_estimator": "minmax", "activation_type": activation_type}
    )
    network = two_layers(DEAF)
    prepared, table, plan, data = planned(network, config)
    new, _ = search_activation_ranges(prepared, plan, table, data)
    feeds = network.feeds(16, seed=99)
    expected = onnxruntime_outputs(network.model(), feeds)["y"]
    before, after = (
        sqnr_db(
            expected,
            onnxruntime_outputs(qdq_graph(quantize_model(prepared, p, config)), feeds)["y"],
        )
        for p in (plan, new)
    )
    assert after > before + 3


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_what_shares_or_is_never_clipped_stays_so(name: str) -> None:
    network = NETWORKS[name]
    config = QuantConfig()
    prepared, table, plan, data = planned(network, config)
    new, note = search_activation_ranges(prepared, plan, table, data)
    assert note.pass_name == "activation_range_search"
    assert new.params.keys() == plan.params.keys()
    assert new.ranges.keys() == plan.ranges.keys()
    groups = range_groups(prepared, plan.kept_float)
    for value, params in new.params.items():
        assert params.dtype == plan.params[value].dtype
        root = groups.get(value, value)
        assert params.equals(new.params.get(root, params))
        assert params.equals(plan.params[value]) or "output error" in new.ranges[value].reason
    never = {*full_range_reasons(prepared, groups), *prepared.program.constants}
    never |= {value for value, found in plan.ranges.items() if found.reason.startswith("fixed")}
    for value in never & plan.params.keys():
        assert new.params[value] is plan.params[value]
        assert new.ranges[value] is plan.ranges[value]
    model = quantize_model(prepared, new, config)
    check_fused(qdq_graph(model), in_floats=network.float_in_onnxruntime)
    check_equals_onnxruntime(model, qdq_graph(model), network.feeds(2))


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [("y = Conv(a, v)", "a, y"), ("s = Softmax<axis = 1>(a) y = Conv(s, v)", "y")],
)
def test_outputs_and_inputs_of_softmax_stay(nodes: str, outputs: str) -> None:
    declared = ", ".join(f"float[N,C{name},8,8] {name}" for name in outputs.split(", "))
    text = f"""(float[N,3,8,8] x, float[4,3,1,1] w, float[2,4,1,1] v) => ({declared}) {{
      a = Conv(x, w)
      {nodes}
    }}"""
    network = Network(text, (3, 8, 8), constants={"w": LOUD, "v": DEAF})
    before, after, _ = searched(network)
    assert after.ranges["a"] is before.ranges["a"]
    assert after.params["a"] is before.params["a"]


def test_every_member_of_a_tensor_changes() -> None:
    config = QuantConfig(range_estimator="percentile", percentile=95)
    before, after, note = searched(RESIDUAL, config)
    assert note.applied
    changed = [name for name in after.params if after.params[name] is not before.params[name]]
    assert {"a", "b", "m"} <= set(changed)
    for members in (("a", "b", "m"), ("s", "r"), ("p", "f")):
        assert len({id(after.params[name]) for name in members}) == 1


def test_16_bits_stay() -> None:
    config = QuantConfig(range_estimator="minmax", tensors_in_16_bits=("a",))
    before, after, note = searched(two_layers(DEAF), config)
    assert after.params["a"] is before.params["a"]
    assert note.message == "0 of 0 ranges chosen by the error of the outputs they cause"
    assert not note.applied


def test_the_choice_does_not_depend_on_threads_or_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    config = QuantConfig(range_estimator="percentile", percentile=95)
    prepared, table, plan, data = planned(RESIDUAL, config)
    new, note = search_activation_ranges(prepared, plan, table, data)
    assert note.applied
    # 8 samples of the largest cut: m, s and b, 4 channels of 8x8 each.
    monkeypatch.setattr(activation_range_search, "_CACHE_BYTES", 8 * 3 * 4 * 64 * 4)
    for threads in (1, 4):
        monkeypatch.setattr(activation_range_search, "available_threads", lambda t=threads: t)
        other, told = search_activation_ranges(prepared, plan, table, data)
        assert told == note
        for value, params in new.params.items():
            assert params.equals(other.params[value])
            assert new.ranges[value].reason == other.ranges[value].reason


def test_few_samples_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared, table, plan, data = planned(two_layers(DEAF))
    monkeypatch.setattr(activation_range_search, "_CACHE_BYTES", 1)
    new, note = search_activation_ranges(prepared, plan, table, data)
    assert note.applied
    assert new.ranges["a"].high < plan.ranges["a"].high / 5


@pytest.mark.parametrize("value", ["b", "m", "c", "r", "p", "f"])
def test_a_cut_gives_the_outputs_bit_for_bit(value: str) -> None:
    prepared, _, _, data = planned(RESIDUAL)
    samples = all_samples(prepared, data)
    cut = cut_behind(prepared.program, [value], ["y", "z"])
    assert cut.tensors == (value,)
    assert set(cut.outputs) == ({"y"} if value in ("p", "f") else {"y", "z"})
    assert set(cut.others) == ({"b"} if value in ("m", "c", "r") else set())
    rest = open_rest(prepared.model, cut, samples[0].values)
    energy = energies([sample.outputs for sample in samples])
    # onnxruntime fuses other nodes where less is left, which shows in the last bits.
    assert output_error(rest, cut, samples, None, energy) < 1e-12
    names = [*cut.inputs, *cut.outputs]
    whole = open_session(with_outputs(prepared.model, names), optimized=False)
    dtypes = {name: np.dtype(np.float32) for name in cut.inputs}
    part = open_session(between(prepared.model, dtypes, cut.outputs), optimized=False)
    for sample in samples:
        values = whole.run({"x": sample.values["x"]}, names)
        for name, output in part.run({name: values[name] for name in cut.inputs}).items():
            np.testing.assert_array_equal(output, values[name])


def test_a_tensor_that_is_read_after_each_stage() -> None:
    """Clip and MaxPool of one tensor, both read: as if each stage were quantized in its place."""
    prepared, _, plan, data = planned(RESIDUAL)
    params = params_from_range(0.0, 1.7)
    members = [name for name in ("a", "b", "m") if plan.params[name].equals(plan.params["b"])]
    assert members == ["a", "b", "m"]
    samples = all_samples(prepared, data)
    cut = cut_behind(prepared.program, ["b", "m"], ["y", "z"])
    assert (cut.tensors, cut.others, cut.outputs) == (("b", "m"), (), ("y", "z"))
    rest = open_rest(prepared.model, cut, samples[0].values)
    energy = energies([sample.outputs for sample in samples])
    found = output_error(rest, cut, samples, params, energy)
    expected = 0.0
    for sample in samples:
        outputs = stepwise(prepared.program, sample, dict.fromkeys(members, params))
        for name in ("y", "z"):
            error = outputs[name].astype(np.float64) - sample.outputs[name]
            expected += (error**2).sum() / energy[name]
    assert found > 1e-4
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert output_error(rest, cut, samples, params, energy, bound=found / 2) < found


def stepwise(
    program: Program, sample: Sample, params: Mapping[str, QuantParams]
) -> dict[str, Array]:
    """Node by node, every named value quantized where it is computed."""
    values: dict[str, Array] = {**program.constants, "x": sample.values["x"]}
    for node in program.nodes:
        outputs = run_float_node(node, [values[name] if name else None for name in node.inputs])
        for name, array in zip(node.outputs, outputs, strict=True):
            grid = params.get(name)
            values[name] = array if grid is None else dequantize(quantize(array, grid), grid)
    return values


def test_both_places_of_a_shared_tensor_are_quantized() -> None:
    prepared, table, plan, data = planned(RESIDUAL)
    with ThreadPoolExecutor(1) as pool:
        sample = run_samples(prepared.model, data, measured_values(prepared.program), pool)[0]
    tensors = activation_range_search._tensors(prepared, plan, table, tuple(sample.outputs))
    found = {tensor.cut.tensors: tensor.members for tensor in tensors}
    assert found == {
        ("b", "m"): ("a", "b", "m"),
        ("c",): ("c",),
        ("r",): ("s", "r"),
        ("d",): ("d",),
        ("f",): ("p", "f"),
    }


@given(
    low=st.floats(-100, 0, width=32),
    high=st.floats(0, 100, width=32),
    dtype=st.sampled_from(["uint8", "int8", "uint16", "int16"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_quantized_is_what_the_codes_stand_for(
    low: float, high: float, dtype: str, seed: int
) -> None:
    params = params_from_range(low, high, dtype, symmetric=dtype.startswith("int"))
    x = np.random.default_rng(seed).normal(0, 50, (7, 9)).astype(np.float32)
    x[0, :3] = 0.0, low, high
    x[1] = (np.arange(9) - 4.5) * params.scale  # ties
    given_x = x.copy()
    np.testing.assert_array_equal(quantized(x, params), dequantize(quantize(x, params), params))
    np.testing.assert_array_equal(x, given_x)


def test_averages_stay_a_step_of_what_is_averaged_wide() -> None:
    network = Network(
        """(float[N,3,8,8] x, float[4,3,1,1] w, float[2,4] g) => (float[N,2] y) {
          a = Conv(x, w)
          p = GlobalAveragePool(a)
          f = Flatten(p)
          y = Gemm<transB = 1>(f, g)
        }""",
        (3, 8, 8),
    )
    prepared, table, plan, data = planned(network, QuantConfig(percentile=90))
    with ThreadPoolExecutor(1) as pool:
        sample = run_samples(prepared.model, data, measured_values(prepared.program), pool)[0]
    averaged, averages = activation_range_search._tensors(
        prepared, plan, table, tuple(sample.outputs)
    )
    assert (averaged.members, averages.members) == (("a",), ("p", "f"))
    assert plan.ranges["a"].high < table.statistics["a"].maximum

    def is_allowed(tensor: activation_range_search._Tensor, width: float) -> bool:
        found = Range(-width / 4, width * 3 / 4)
        return activation_range_search._is_allowed(prepared, plan, table, tensor, found)

    # What is averaged may grow at the same time, to all that was seen.
    seen = table.statistics["a"]
    step = (seen.maximum - seen.minimum) / 255
    assert is_allowed(averages, 1.01 * step)
    assert not is_allowed(averages, 0.99 * step)
    width = plan.ranges["p"].high - plan.ranges["p"].low
    assert is_allowed(averaged, 0.99 * width * 255)
    assert not is_allowed(averaged, 1.01 * width * 255)


def test_a_sample_that_cannot_be_run_is_left_out() -> None:
    text = """(float[N,3,H,W] x, float[4,3,1,1] w, float[2,4,1,1] v) => (float[M,128] y) {
      shape = Constant<value = int64[2] {-1, 128}>()
      a = Conv(x, w)
      b = Conv(a, v)
      y = Reshape(b, shape)
    }"""
    model = float_model(text, constants={"w": LOUD, "v": DEAF})
    feeds = random_feeds(model, (3, 8, 8), 4, seed=7)["x"]
    prepared = prepare(model)
    rows = [{"x": feeds[i : i + 1]} for i in range(4)]
    table = calibrate(prepared, rows)
    plan = make_plan(prepared, table, MINMAX)
    odd = {"x": np.ones((1, 3, 5, 5), np.float32)}
    data = open_dataset([odd, *rows], prepared.program.inputs, preprocessing=None)
    with_odd, note = search_activation_ranges(prepared, plan, table, data)
    assert note.applied
    assert len(data.skipped) == 1
    data = open_dataset(rows, prepared.program.inputs, preprocessing=None)
    without, _ = search_activation_ranges(prepared, plan, table, data)
    assert with_odd.params["a"].equals(without.params["a"])
    data = open_dataset([odd], prepared.program.inputs, preprocessing=None)
    with pytest.raises(UnreadableSampleError, match="none of the 1 samples can be read"):
        search_activation_ranges(prepared, plan, table, data)


def test_a_fixed_batch() -> None:
    text = two_layers(DEAF).text.replace("[N,", "[2,")
    network = Network(text, (3, 8, 8), constants={"w": LOUD, "v": DEAF})
    model = network.model()
    prepared = prepare(model)
    feeds = random_feeds(model, (3, 8, 8), 5, seed=7)
    table = calibrate(prepared, feeds)
    plan = make_plan(prepared, table, MINMAX)
    new, note = search_activation_ranges(prepared, plan, table, dataset_of(prepared, feeds))
    assert note.applied
    assert new.ranges["a"].high < plan.ranges["a"].high / 5


def test_a_graph_within_a_node_is_told() -> None:
    text = """(float[N,3,8,8] x, float[4,3,1,1] w) => (float[N,4,8,8] y) {
      a = Conv(x, w)
      is_so = Constant<value = bool {1}>()
      r = Relu(a)
      y = If(is_so) <
        then_branch = then () => (t) { t = Neg(r) },
        else_branch = else () => (e) { e = Abs(r) }
      >
    }"""
    prepared, table, plan, data = planned(Network(text, (3, 8, 8)))
    new, note = search_activation_ranges(prepared, plan, table, data)
    assert new is plan
    assert not note.applied
    assert "holds a graph of its own" in note.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("y = Softmax(c)", ("c",)),
        ("s = Sigmoid(c) y = Flatten(s)", ("c",)),
        ("s = Relu(c) y = Flatten(s)", ("y",)),
        ("y = Softmax(x)", ()),
    ],
)
def test_what_saturates_is_measured_before_it(text: str, expected: tuple[str, ...]) -> None:
    model = float_model(
        f"(float[N,3,4,4] x, float[3,3,1,1] w) => (float[A,B,C,D] y) {{ c = Conv(x, w) {text} }}"
    )
    assert measured_values(prepare(model).program) == expected


def test_small_networks_are_measured_on_more_samples() -> None:
    prepared, table, plan, data = planned(two_layers(DEAF), samples=80)
    search_activation_ranges(prepared, plan, table, data)
    assert activation_range_search._sample_count(prepared) == 64
    hidden = prepare(
        float_model("(float[N,3,H,W] x, float[3,3,1,1] w) => (float[N,3,H,W] y) { y = Conv(x, w) }")
    )
    assert activation_range_search._sample_count(hidden) == 16


def test_a_class_is_measured_by_its_scores() -> None:
    network = two_layers(DEAF)
    text = network.text.replace("y = Conv(a, v)", "c = Conv(a, v) y = ArgMax<axis = 1>(c)")
    text = text.replace("float[N,2,8,8] y", "int64[N,1,8,8] y")
    before, after, _ = searched(Network(text, (3, 8, 8), constants=network.constants))
    assert after.ranges["a"].high < before.ranges["a"].high / 5


def test_progress_counts_tensors() -> None:
    prepared, table, plan, data = planned(RESIDUAL)
    told: list[tuple[int, int]] = []
    search_activation_ranges(
        prepared, plan, table, data, progress=lambda done, total: told.append((done, total))
    )
    assert told == [(count, 5) for count in range(1, 6)]
