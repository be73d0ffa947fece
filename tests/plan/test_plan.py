from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from quantkit.calibration.statistics import TensorStatistics
from quantkit.config import QuantConfig
from quantkit.errors import CalibrationError, ConfigError, TableMismatchError, UnknownNameError
from quantkit.graph.ort_session import open_session
from quantkit.passes.prepare import prepare
from quantkit.pipeline import quantize
from quantkit.plan import (
    QuantPlan,
    candidate_refusals,
    data_values,
    make_plan,
    product_length,
    tensors_to_calibrate,
)
from quantkit.range_estimators.contract import RANGE_ESTIMATORS, Range
from tests.small_networks import NETWORKS, Network, calibrated

NAMES = sorted(NETWORKS)


def plan_of(text: str, shape: tuple[int, ...], config: QuantConfig | None = None) -> QuantPlan:
    prepared, table = calibrated(Network(text, shape).model(), shape)
    return make_plan(prepared, table, config)


@pytest.mark.parametrize("name", NAMES)
def test_every_node_is_quantized_or_has_a_reason(name: str) -> None:
    network = NETWORKS[name]
    prepared, table = calibrated(network.model(), network.input_shape)
    plan = make_plan(prepared, table)
    types = {node.name: node.op_type for node in prepared.program.nodes}
    assert {types[node] for node in plan.kept_float} == network.kept_float
    assert all(plan.kept_float.values())
    for node in prepared.program.nodes:
        if node.name not in plan.kept_float:
            values = (*data_values(node, prepared.program.constants), *node.outputs)
            assert set(values) <= set(plan.params)


@pytest.mark.parametrize("name", NAMES)
def test_inputs_and_outputs_are_not_clipped(name: str) -> None:
    network = NETWORKS[name]
    prepared, table = calibrated(network.model(), network.input_shape)
    plan = make_plan(prepared, table)
    softmax = {n.outputs[0] for n in prepared.program.nodes if n.op_type == "Softmax"}
    for spec in (*prepared.program.inputs, *prepared.program.outputs):
        if spec.name in plan.params and spec.name not in softmax:
            _assert_covers(plan, spec.name, table.statistics[spec.name])


def _assert_covers(plan: QuantPlan, name: str, statistics: TensorStatistics) -> None:
    params = plan.params[name]
    scale, zero_point = float(params.scale), int(params.zero_point)
    assert (params.qmin - zero_point) * scale <= statistics.minimum + scale / 2
    assert (params.qmax - zero_point) * scale >= statistics.maximum - scale / 2


def test_a_clipping_estimator_spares_what_shares_with_an_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = """(float[N,4,6] x, float[6,6] w, float[6,6] v) => (float[N,24] y) {
      m = MatMul(x, w)
      n = MatMul(m, v)
      r = Relu(n)
      y = Flatten(r)
    }"""
    prepared, table = calibrated(Network(text, (4, 6)).model(), (4, 6))
    plain = make_plan(prepared, table, QuantConfig(range_estimator="minmax"))
    entries = {
        "minmax": RANGE_ESTIMATORS["minmax"],
        "half": lambda s, options: Range(s.minimum / 2, s.maximum / 2),
    }
    monkeypatch.setattr(RANGE_ESTIMATORS, "_entries", entries)
    plan = make_plan(prepared, table, QuantConfig(range_estimator="half"))
    for name in ("x", "y", "r", "n"):
        assert plan.params[name].equals(plain.params[name]), name
    assert plan.params["m"].scale < 0.6 * plain.params["m"].scale


def test_producer_and_clamps_share_the_last_clamps_range() -> None:
    plan = plan_of(
        """(float[N,3,4,4] x, float[3,3,1,1] w, float[3,3,1,1] v) => (float[N,3,4,4] y) {
          low = Constant<value = float {-5.0}>()
          high = Constant<value = float {0.25}>()
          c = Conv(x, w)
          r = Relu(c)
          k = Clip(r, low, high)
          t = Transpose<perm = [0,1,3,2]>(k)
          y = Conv(t, v)
        }""",
        (3, 4, 4),
    )
    for name in ("c", "r", "t"):
        assert plan.params[name].equals(plan.params["k"])
    assert plan.params["k"].scale == np.float32(0.25 / 255)


def test_softmax_has_the_scale_of_every_runtime() -> None:
    plan = plan_of(NETWORKS["softmax"].text, NETWORKS["softmax"].input_shape)
    assert plan.params["y"].scale == np.float32(1 / 256)
    assert plan.params["y"].zero_point == 0


def test_a_constant_operand_gets_its_own_range() -> None:
    network = NETWORKS["constant_operand"]
    plan = plan_of(network.text, network.input_shape)
    assert plan.params["b"].scale < plan.params["s"].scale


def test_movement_between_float_nodes_stays_float() -> None:
    plan = plan_of(
        """(float[N,3,4,4] x) => (float[N,3,4,4] y) {
          a = Transpose<perm = [0,1,3,2]>(x)
          b = Transpose<perm = [0,1,3,2]>(a)
          e = Shrink(b)
          r = Relu(e)
          [moved] m = MaxPool<kernel_shape = [1,1]>(r)
          y = Shrink(m)
        }""",
        (3, 4, 4),
    )
    assert plan.params == {}
    assert plan.kept_float["moved"] == ("only moves, clamps or compares values between float nodes")


def test_movement_into_a_kernel_moves_codes_and_a_clamp_does_not() -> None:
    plan = plan_of(
        """(float[N,3,4,4] x, float[3,3,1,1] w) => (float[N,3,4,4] y) {
          e = Shrink(x)
          [clamp] r = Relu(e)
          [move] t = Transpose<perm = [0,1,3,2]>(r)
          y = Conv(t, w)
        }""",
        (3, 4, 4),
    )
    assert set(plan.params) == {"r", "t", "y"}
    assert set(plan.kept_float) == {"e", "clamp"}


def test_an_absorbed_clamp_follows_its_producer() -> None:
    network = NETWORKS["mobile"]
    config = QuantConfig(nodes_to_exclude=("last",))
    plan = plan_of(network.text, network.input_shape, config)
    assert plan.kept_float == {
        "last": "excluded by --nodes-to-exclude",
        "r3": "clamps last, which stays float",
    }


def test_only_the_chosen_op_types() -> None:
    network = NETWORKS["mobile"]
    config = QuantConfig(op_types_to_quantize=("Conv",))
    prepared, table = calibrated(network.model(), network.input_shape)
    plan = make_plan(prepared, table, config)
    types = {node.name: node.op_type for node in prepared.program.nodes}
    assert {types[name] for name in plan.kept_float} == {
        "Add",
        "GlobalAveragePool",
        "Flatten",
        "Gemm",
    }
    assert plan.kept_float["join"] == "not among --op-types-to-quantize"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"nodes_to_exclude": ("LAST",)}, r"no node is called 'LAST'; did you mean last\?"),
        ({"nodes_to_exclude": ("conv77",)}, "no node is called 'conv77'; `quantkit inspect` lists"),
        ({"nodes_to_exclude": ("r3",)}, "'r3' is the clamp of 'last' .* exclude that node"),
        ({"op_types_to_quantize": ("Convolution",)}, "the model has no 'Convolution'; it has Add,"),
    ],
)
def test_unknown_names_are_errors(config: dict[str, tuple[str, ...]], message: str) -> None:
    network = NETWORKS["mobile"]
    with pytest.raises(ConfigError, match=message):
        plan_of(network.text, network.input_shape, QuantConfig.model_validate(config))


def test_unknown_estimator() -> None:
    with pytest.raises(UnknownNameError, match="unknown range estimator 'kl'; known: "):
        plan_of(NETWORKS["matmul"].text, (6, 10), QuantConfig(range_estimator="kl"))


def test_the_table_of_another_model_is_refused() -> None:
    network = NETWORKS["matmul"]
    prepared, _ = calibrated(network.model(), network.input_shape)
    _, table = calibrated(network.model(seed=1), network.input_shape)
    with pytest.raises(TableMismatchError, match="was made for another model"):
        make_plan(prepared, table)


def test_missing_statistics_are_named() -> None:
    network = NETWORKS["matmul"]
    prepared, table = calibrated(network.model(), network.input_shape)
    statistics = {name: s for name, s in table.statistics.items() if name != "y"}
    with pytest.raises(CalibrationError, match="no statistics of 'y', which node 'y' needs"):
        make_plan(prepared, replace(table, statistics=statistics))


def test_clamped_values_need_no_calibration() -> None:
    prepared, _ = calibrated(NETWORKS["mobile"].model(), NETWORKS["mobile"].input_shape)
    wanted = tensors_to_calibrate(prepared)
    assert {"r0", "r1", "r3", "s", "y"} <= set(wanted)
    assert {"c1", "c3", "n0", "x"}.isdisjoint(wanted)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = Shrink(x)", "no integer kernel for Shrink"),
        ("y = Gemm(x, x)", "the weight is computed, not a constant"),
        ("y = Gemm<alpha = 0.5>(x, w, w)", "(alpha = 0.5) and has a bias"),
    ],
)
def test_reasons(body: str, reason: str) -> None:
    network = Network(f"(float[4,4] x, float[4,4] w) => (float[4,4] y) {{ [n] {body} }}", (4,))
    assert reason in candidate_refusals(prepare(network.model()))["n"]


def test_products_that_are_not_proved_stay_float() -> None:
    for shape, text in (("N,K", "unknown many"), ("N,40000", "40000")):
        network = Network(
            f"(float[{shape}] x, float[{shape}] x2) => (float[N,N] y) {{"
            "t = Transpose(x2) [product] y = MatMul(x, t) }",
            (4,),
        )
        prepared = prepare(network.model())
        reason = candidate_refusals(prepared)["product"]
        assert reason == f"sums of {text} products of codes are not proved to fit int32"


def test_product_length() -> None:
    prepared, _ = calibrated(NETWORKS["two_activations"].model(), (6, 10))
    node = next(n for n in prepared.program.nodes if n.outputs == ("y",))
    assert product_length(node, prepared.program) == 10


def test_integers_stay_what_they_are() -> None:
    network = Network(
        """(float[N,4] x) => (int64[N,4] y) {
          c = Cast<to = 7>(x)
          [moved] y = Identity(c)
        }""",
        (4,),
    )
    reasons = candidate_refusals(prepare(network.model()))
    assert set(reasons) >= {"c"}


def test_a_weight_that_a_caller_may_feed_stays_float() -> None:
    text = """(float[N, 3, 8, 8] x, float[4, 3, 3, 3] w) => (float[N, 4, 6, 6] y) {
        [conv] y = Conv(x, w)
    }"""
    model = Network(text, (3, 8, 8)).model()
    model.graph.inputs.append(model.graph.initializers["w"])
    prepared = prepare(model)
    assert prepared.program.feedable == {"w"}
    reasons = candidate_refusals(prepared)
    assert reasons == {"conv": "its input 'w' is also a graph input, which a caller may feed"}
    assert [spec.name for spec in prepared.program.inputs] == ["x"]


def test_a_pool_that_averages_to_almost_nothing_runs(tmp_path: Path) -> None:
    text = "(float[N, 3, 4, 4] x) => (float[N, 3, 1, 1] y) { [pool] y = GlobalAveragePool(x) }"
    ir.save(Network(text, (3, 4, 4)).model(), tmp_path / "m.onnx")
    x = np.tile(np.array([[1, -1], [-1, 1]], np.float32), (4, 3, 2, 2)) + np.float32(1e-6)
    result = quantize(tmp_path / "m.onnx", x)
    assert result.model.plan.kept_float == {}
    result.save(tmp_path / "q.onnx")
    open_session(tmp_path / "q.onnx").run({"x": x})
