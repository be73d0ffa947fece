from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkit.calibration.table import CalibrationTable
from quantkit.config import QuantConfig
from quantkit.errors import ModelError, NonFiniteRangeError
from quantkit.passes.prepare import Prepared
from quantkit.plan import QuantPlan, make_plan
from quantkit.quantized_model.constants import ACCUMULATOR_MAX
from quantkit.quantized_model.model import QuantizedModel, node_bound, quantize_model
from tests.small_networks import NETWORKS, Network, calibrated, quantized, quantized_network

_PAIR = """(float[N,4] x, float[4,3] w, float[3] b, float[3,2] v, float[2] c) => (float[N,2] y) {
  [first] g = Gemm(x, w, b)
  [second] y = Gemm(g, v, c)
}"""


@cache
def pair() -> tuple[Prepared, CalibrationTable]:
    return calibrated(Network(_PAIR, (4,)).model(), (4,))


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_weights_and_biases_are_integers_with_zero_point_0(name: str) -> None:
    model = quantized_network(name)
    for constant, tensor in model.constants.items():
        if tensor.data.dtype == np.uint8:  # a constant operand has the parameters of an activation
            continue
        assert tensor.data.dtype in (np.int8, np.int32), constant
        assert not tensor.params.zero_point.any()
        if tensor.data.dtype == np.int8:
            assert np.abs(tensor.data.astype(int)).max() <= 127


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_sum_has_a_bound(name: str) -> None:
    model = quantized_network(name)
    sums = {
        node.name
        for node in model.prepared.program.nodes
        if node.op_type in ("Conv", "Gemm", "MatMul")
    }
    assert set(model.accumulator_bounds) == sums - set(model.plan.kept_float)
    assert all(0 < bound <= ACCUMULATOR_MAX for bound in model.accumulator_bounds.values())


def test_options_reach_the_codes() -> None:
    config = QuantConfig(per_channel=False, reduce_range=True)
    model, _ = quantized(NETWORKS["mobile"], config)
    weights = [t for t in model.constants.values() if t.data.dtype == np.int8]
    assert {t.params.axis for t in weights} == {None}
    assert {int(np.abs(t.data.astype(int)).max()) for t in weights} == {64}


def test_bound_of_a_product_of_activations() -> None:
    model = quantized_network("two_activations")
    node = next(n for n in model.prepared.program.nodes if n.outputs == ("y",))
    reach = 1
    for name in node.inputs:
        params = model.plan.params[name]
        reach *= max(255 - int(params.zero_point), int(params.zero_point))
    assert model.accumulator_bounds[node.name] == 10 * reach


def test_a_dead_channel_is_named() -> None:
    dead = np.ones((4, 3), np.float32)
    dead[:, 1] = 1e-28
    network = Network(_PAIR, (4,), constants={"w": dead, "b": np.array([0, 2, 0], np.float32)})
    model, _ = quantized(network)
    (note,) = model.notes
    assert (note.node, note.op_type) == ("first", "Gemm")
    assert note.message.startswith("1 nearly dead channel (1): weight scale raised")


def test_many_dead_channels_are_counted() -> None:
    network = Network(
        "(float[N,4] x, float[4,20] w, float[20] b) => (float[N,20] y) { y = Gemm(x, w, b) }",
        (4,),
        constants={"w": np.zeros((4, 20), np.float32), "b": np.ones(20, np.float32)},
    )
    model, _ = quantized(network)
    assert model.notes[0].message.startswith("20 nearly dead channels (0, 1, 2 ...): ")


def test_scales_beyond_float32_name_the_node() -> None:
    huge = np.full((4, 3), 3e38, np.float32)
    prepared, table = pair()
    plan = make_plan(prepared, table)
    constants = {**prepared.program.constants, "w": huge}
    params = {**plan.params, "x": replace(plan.params["x"], scale=np.array(1e6, np.float32))}
    broken = replace(prepared, program=replace(prepared.program, constants=constants))
    with pytest.raises(NonFiniteRangeError, match="node 'first': its weight scale"):
        quantize_model(broken, QuantPlan(params, {}))


def test_a_value_without_parameters_is_refused() -> None:
    model = quantized_network("mobile")
    params = {name: p for name, p in model.plan.params.items() if name != "s"}
    with pytest.raises(ModelError, match="node 'join': 's' has no scale and zero point"):
        replace(model, plan=QuantPlan(params, {}))


def test_a_weight_without_codes_is_refused() -> None:
    model = quantized_network("mobile")
    constants = {name: t for name, t in model.constants.items() if name != "w2"}
    with pytest.raises(ModelError, match="node 'project': 'w2' has no integer codes"):
        replace(model, constants=constants)


def test_an_overflowing_node_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared, table = pair()
    monkeypatch.setattr("quantkit.quantized_model.model.accumulator_max", lambda params: 1000)
    with pytest.raises(ModelError, match=r"node 'first': sums of up to .*to-exclude first"):
        quantize_model(prepared, make_plan(prepared, table))


@given(
    st.integers(0, 2**32 - 1),
    st.integers(-30, 8),
    st.integers(-30, 8),
    st.booleans(),
    st.booleans(),
)
def test_no_sum_can_leave_int32(
    seed: int, weight_exponent: int, bias_exponent: int, per_channel: bool, reduce_range: bool
) -> None:
    rng = np.random.default_rng(seed)
    magnitude = 10.0 ** rng.integers(min(weight_exponent, 0), 1, 3)
    prepared, table = pair()
    constants = {
        **prepared.program.constants,
        "w": (rng.normal(0, 1, (4, 3)) * magnitude).astype(np.float32),
        "b": (rng.normal(0, 1, 3) * 10.0**bias_exponent).astype(np.float32),
    }
    edited = replace(prepared, program=replace(prepared.program, constants=constants))
    config = QuantConfig(per_channel=per_channel, reduce_range=reduce_range)
    model = quantize_model(edited, make_plan(prepared, table), config)
    _check_bounds(model)


def _check_bounds(model: QuantizedModel) -> None:
    for node in model.prepared.program.nodes:
        bound = node_bound(node, model.prepared.program, model.plan, model.constants)
        assert bound == model.accumulator_bounds[node.name]
        assert bound <= ACCUMULATOR_MAX
