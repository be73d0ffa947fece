import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkit.config import QuantConfig
from quantkit.exporters.qdq import qdq_graph
from quantkit.numerics.affine import per_tensor
from quantkit.plan import make_plan
from quantkit.quantized_model.constants import ACCUMULATOR_MAX, quantize_weight, weight_rows
from quantkit.quantized_model.model import quantize_model
from quantkit.recovery.weight_scale_search import search_weight_scales, searched_scales
from tests.quantized_model.checks import check_equals_onnxruntime, check_fused
from tests.small_networks import NETWORKS, calibrated, float_model


def error(row: list[float], scale: float, largest: int) -> float:
    """In plain Python: round is half to even, as everywhere."""
    if not scale:
        return sum(w * w for w in row)
    codes = (max(-largest, min(largest, round(w / scale))) for w in row)
    return sum((w - scale * code) ** 2 for w, code in zip(row, codes, strict=True))


@pytest.mark.parametrize("largest", [7, 64])
@pytest.mark.parametrize("per_row", [True, False])
def test_no_other_candidate_has_less_error(per_row: bool, largest: int) -> None:
    rows = np.random.default_rng(0).standard_t(2, (6, 40))
    rows[3] = 0.0
    found = searched_scales(rows, largest, per_row=per_row)
    natural = np.abs(rows).max(axis=1) / largest
    if not per_row:
        natural = np.full_like(natural, natural.max())
    fractions = [0.5 + 0.01 * step for step in range(51)]
    errors = np.array(
        [
            [error(list(row), scale * f, largest) for f in fractions]
            for row, scale in zip(rows, natural, strict=True)
        ]
    )
    own = np.array(
        [error(list(row), scale, largest) for row, scale in zip(rows, found, strict=True)]
    )
    if per_row:
        np.testing.assert_allclose(own, errors.min(axis=1), rtol=1e-9)
        assert (found < natural).any()
        assert found[3] == 0.0
    else:
        np.testing.assert_allclose(own.sum(), errors.sum(axis=0).min(), rtol=1e-9)
        assert len(set(found)) == 1
    assert (found <= natural).all()
    assert (found >= 0.5 * natural * (1 - 1e-12)).all()


def test_an_outlier_is_cut_off_where_that_costs_less() -> None:
    rows = np.random.default_rng(0).uniform(-1.0, 1.0, (1, 20_000))
    rows[0, 0] = 1.2
    assert searched_scales(rows, 7, per_row=True)[0] < 0.9 * 1.2 / 7
    rows[0, 0] = 1000.0
    assert searched_scales(rows, 7, per_row=True)[0] > 0.9 * 1000 / 7


@given(st.integers(0, 2**32 - 1), st.integers(-30, 6), st.integers(-12, 6), st.booleans())
def test_bias_and_sums_still_fit(
    seed: int, weight_exponent: int, bias_exponent: int, per_channel: bool
) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.standard_t(2, (3, 5)) * 10.0 ** rng.integers(
        weight_exponent, weight_exponent + 7, (3, 1)
    )
    bias = rng.normal(0, 10.0**bias_exponent, 3)
    x_params = per_tensor(0.1, 3, np.uint8)
    found = searched_scales(weight_rows(weight, 0), 127, per_row=per_channel)
    codes = quantize_weight(
        weight, bias, x_params, axis=0, per_channel=per_channel, weight_qmax=127, found=found
    )
    assert codes.accumulator_bound <= ACCUMULATOR_MAX
    assert codes.bias is not None
    step = codes.bias.params.scale.astype(np.float64)
    assert (np.abs(codes.bias.data * step - bias) <= step * 0.5 + 1e-6 * np.abs(bias)).all()
    steps = np.broadcast_to(codes.weight.params.scale, 3)
    for channel in range(3):
        raised = channel in codes.raised if per_channel else bool(codes.raised)
        if found[channel] and not raised:
            np.testing.assert_allclose(steps[channel], found[channel], rtol=1e-6)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("name", ["mobile", "matmul"])
def test_weights_come_nearer_to_the_float_ones(name: str, per_channel: bool) -> None:
    network = NETWORKS[name]
    config = QuantConfig(per_channel=per_channel, reduce_range=True)
    prepared, table = calibrated(network.model(), network.input_shape)
    plan = make_plan(prepared, table, config)
    scales = search_weight_scales(prepared, plan, config)
    before = quantize_model(prepared, plan, config)
    after = quantize_model(prepared, plan, config, weight_scales=scales)
    assert scales
    fell = 0
    for weight in scales:
        real = prepared.program.constants[weight].astype(np.float64)
        old, new = (
            np.square(model.constants[weight].dequantize() - real).sum()
            for model in (before, after)
        )
        assert new <= old * (1 + 1e-4)
        fell += int(new < 0.999 * old)
        assert np.abs(after.constants[weight].data).max() <= 64
    assert fell
    check_fused(qdq_graph(after), in_floats=network.float_in_onnxruntime)
    check_equals_onnxruntime(after, qdq_graph(after), network.feeds(2))


def test_float_layers_are_not_searched() -> None:
    text = """(float[N,4] x, float[4,3] w, float[3,2] v) => (float[N,2] y) {
      [first] h = MatMul(x, w)
      [second] y = MatMul(h, v) }"""
    config = QuantConfig(nodes_to_exclude=("first",))
    prepared, table = calibrated(float_model(text), (4,))
    assert set(search_weight_scales(prepared, make_plan(prepared, table, config), config)) == {"v"}


def test_a_weight_that_is_not_finite_is_left_to_the_message_of_quantize_model() -> None:
    text = "(float[N,4] x, float[4,3] w) => (float[N,3] y) { y = MatMul(x, w) }"
    prepared, table = calibrated(float_model(text), (4,))
    plan, config = make_plan(prepared, table), QuantConfig()
    prepared.program.constants["w"][0, 0] = np.nan
    assert not search_weight_scales(prepared, plan, config)
