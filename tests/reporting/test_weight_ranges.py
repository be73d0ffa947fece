"""How far channels reach, before and behind folding, and in codes."""

import numpy as np
import onnx_ir as ir
import pytest

from quantkit.config import QuantConfig
from quantkit.graph.model_io import program_of
from quantkit.graph.program import Array
from quantkit.passes.prepare import prepare
from quantkit.plan import make_plan
from quantkit.quantized_model.model import QuantizedModel, quantize_model
from quantkit.reporting.layer import WeightRanges
from quantkit.reporting.layer_groups import LayerGroup, layer_groups
from quantkit.reporting.weight_ranges import weight_ranges
from tests.small_networks import NETWORKS, Network, calibrated, float_model, quantized

BEHIND_MATMUL = Network(
    """(float[N, 6] x, float[6, 4] w, float[4] g_gamma, float[4] g_beta, float[4] g_mean,
        float[4] g_var, float[4, 3] v) => (float[N, 3] y) {
        [first] m = MatMul (x, w)
        n = BatchNormalization (m, g_gamma, g_beta, g_mean, g_var)
        [last] y = MatMul (n, v)
    }""",
    (6,),
)


def ranges_of(
    model: ir.Model, quantized_model: QuantizedModel, node: str, *, source: ir.Model | None = None
) -> WeightRanges | None:
    return weight_ranges(
        layer_named(quantized_model, node),
        quantized_model,
        prepare(model).program,
        program_of(source or model),
    )


def layer_named(model: QuantizedModel, name: str) -> LayerGroup:
    return next(layer for layer in layer_groups(model) if layer.name == name)


def rows(weight: Array, axis: int = 0) -> list[float]:
    moved = np.moveaxis(weight, axis, 0)
    return [float(np.abs(row).max()) for row in moved]


def constants(model: ir.Model) -> dict[str, Array]:
    return {
        str(name): value.const_value.numpy()
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
    }


def test_folding_scales_channels() -> None:
    network = NETWORKS["mobile"]
    model, (int8, _) = network.model(), quantized(network)
    found = ranges_of(model, int8, "stem")
    assert found is not None
    arrays = constants(model)
    factor = arrays["g0_gamma"] / np.sqrt(arrays["g0_var"].astype(np.float64) + 1e-5)
    assert found.source == tuple(rows(arrays["w0"]))
    assert found.folded == pytest.approx(np.array(rows(arrays["w0"])) * np.abs(factor), rel=1e-6)
    assert len(found.scales) == 8
    for folded, real, scale in zip(found.folded or (), found.quantized, found.scales, strict=True):
        assert abs(folded - real) <= 0.5001 * scale


def test_a_matmul_that_became_a_gemm() -> None:
    model, (int8, _) = BEHIND_MATMUL.model(), quantized(BEHIND_MATMUL)
    assert next(n for n in int8.prepared.program.nodes if n.name == "first").op_type == "Gemm"
    found = ranges_of(model, int8, "first")
    assert found is not None
    assert found.source == tuple(rows(constants(model)["w"], axis=1))
    assert found.folded != found.source
    last = ranges_of(model, int8, "last")
    assert last is not None
    assert last.source == last.folded


def test_a_weight_in_a_constant_node() -> None:
    text = """(float[N, 2, 4, 4] x) => (float[N, 1, 4, 4] y) {
        w = Constant <value = float[1, 2, 1, 1] {-3.0, 2.0}> ()
        [conv] y = Conv (x, w)
    }"""
    model = float_model(text)
    prepared, table = calibrated(model, (2, 4, 4))
    int8 = quantize_model(prepared, make_plan(prepared, table))
    found = ranges_of(model, int8, "conv")
    assert found is not None
    assert found.source == found.folded == (3.0,)


def test_dead_channels_and_one_scale_for_all() -> None:
    network = NETWORKS["residual"]
    weight = np.random.default_rng(0).normal(size=(4, 4, 3, 3)).astype(np.float32)
    weight[2] = 0.0
    model = float_model(network.text, 0, {"w0": weight})
    prepared, table = calibrated(model, network.input_shape)
    config = QuantConfig(per_channel=False)
    int8 = quantize_model(prepared, make_plan(prepared, table, config), config)
    conv = next(n.name for n in int8.prepared.program.nodes if "w0" in n.inputs)
    found = ranges_of(model, int8, conv)
    assert found is not None
    assert found.source is not None
    assert found.source[2] == found.quantized[2] == 0.0
    assert len(found.scales) == 1


def test_what_cannot_be_matched_is_not_guessed() -> None:
    network = NETWORKS["mobile"]
    model, (int8, _) = network.model(), quantized(network)
    other = network.model(seed=1)
    for node in other.graph:
        node.name = f"other_{node.name}"
    found = ranges_of(model, int8, "stem", source=other)
    assert found is not None
    assert found.source is None
    assert found.folded is not None
    assert ranges_of(model, int8, "join") is None
    alone = weight_ranges(layer_named(int8, "stem"), int8, None, None)
    assert alone is not None
    assert alone.folded is None
