"""Graphs with only some tensors quantized, value by value."""

from pathlib import Path

import numpy as np
import pytest

from quantkit.exporters.partial_graphs import activations_only, dequantized_network, weights_only
from quantkit.graph.ort_session import open_session, with_outputs
from quantkit.graph.program import Array
from quantkit.integer_session import open_integer_session
from quantkit.numerics.affine import dequantize, quantize
from quantkit.passes.prepare import Prepared, prepare
from quantkit.pipeline import quantize as quantize_network
from quantkit.quantized_model.model import QuantizedModel
from quantkit.quantized_model.qdq_reader import read_qdq
from quantkit.recipes import FAST
from tests.reporting.networks import samples
from tests.small_networks import float_model

# The second Conv reads four channels, the Gemm blocks of four values of each.
TEXT = """(float[N, 3, 6, 6] x, float[4, 3, 3, 3] w1, float[4] b1, float[4, 4, 3, 3] w2,
    float[5, 16] w3) => (float[N, 5] y) {
    low = Constant<value = float {-1}>()
    high = Constant<value = float {1}>()
    h = Conv (x, w1, b1)
    relu = Relu (h)
    r = Clip (relu, low, high)
    s = Conv (r, w2)
    f = Flatten (s)
    y = Gemm <transB = 1> (f, w3)
}"""
FACTORS, SHIFTS = np.array([1.0, 2.0, 4.0, 0.5]), np.array([0.0, 0.125, -0.25, 1.0])


@pytest.fixture
def models(tmp_path: Path) -> tuple[Prepared, QuantizedModel]:
    """The float network, and the quantized one as its file has it: without clamps."""
    prepared = prepare(float_model(TEXT))
    config = FAST.model_copy(
        update={"cross_layer_equalization": False, "linear_edge_equalization": False}
    )
    quantize_network(prepared, samples(16), config=config).save(tmp_path / "int8.onnx")
    model = read_qdq(tmp_path / "int8.onnx")
    assert {node.op_type for node in model.prepared.program.nodes} == {"Conv", "Flatten", "Gemm"}
    return prepared, model


def values(graph: object, names: list[str]) -> dict[str, Array]:
    return open_session(with_outputs(graph, names)).run({"x": samples(8, seed=5)})  # type: ignore[arg-type]


@pytest.mark.parametrize("is_changed", [False, True])
def test_activations_are_what_codes_make_of_them(
    models: tuple[Prepared, QuantizedModel], is_changed: bool
) -> None:
    prepared, model = models
    changes = dict.fromkeys(("r", "s", "f"), (FACTORS, SHIFTS)) if is_changed else {}
    graph = activations_only(prepared, model, changes)
    assert graph is not None
    before = {value.name for node in graph.graph for value in node.outputs}
    assert {"r_real", "s_real", "f_real"} <= before
    found = values(graph, ["r_real", "r", "s_real", "s", "f_real", "f"])
    for name in ("r", "s", "f"):
        x, params = found[f"{name}_real"], model.plan.params[name]
        factors: Array = np.ones(1)
        shifts: Array = np.zeros(1)
        if is_changed:
            shape = (1, -1, 1, 1) if x.ndim == 4 else (1, -1)
            blocks = x.shape[1] // 4
            factors, shifts = (np.repeat(each, blocks).reshape(shape) for each in (FACTORS, SHIFTS))
        real = (x * factors - shifts).astype(np.float32)
        expected = (dequantize(quantize(real, params), params) + shifts) / factors
        # A value halfway between two codes may go to either where the shift is rounded otherwise.
        step = float(params.scale) / factors * np.ones_like(x)
        differs = np.abs(found[name] - expected) > 1e-5
        assert differs.mean() <= (0.002 if is_changed else 0.0)
        assert (np.abs(found[name] - expected) <= 1.001 * step).all()


def test_without_codes_of_weights_nothing_else_changes(
    models: tuple[Prepared, QuantizedModel],
) -> None:
    prepared, model = models
    graph = activations_only(prepared, model, {})
    assert graph is not None
    for name in ("w1", "w2", "w3"):
        np.testing.assert_array_equal(
            graph.graph.initializers[name].const_value.numpy(),  # type: ignore[union-attr]
            prepared.program.constants[name],
        )
    assert not {"QuantizeLinear", "DequantizeLinear"} & {node.op_type for node in graph.graph}


def test_weights_are_clamped_as_the_float_network_clamps(
    models: tuple[Prepared, QuantizedModel],
) -> None:
    """Relu and Clip, one behind the other, are one clamp to 0 to 1."""
    prepared, model = models
    graph = weights_only(prepared, model, {})
    assert graph is not None
    found = values(graph, ["r_real", "r", "s"])
    assert (found["r_real"].min() < 0.0, found["r_real"].max() > 1.0) == (True, True)
    np.testing.assert_array_equal(found["r"], np.clip(found["r_real"], 0.0, 1.0))
    changed = weights_only(prepared, model, {"r": (FACTORS, SHIFTS)})
    assert changed is not None
    found = values(changed, ["r_real", "r"])
    low, high = ((end * FACTORS - SHIFTS).reshape(1, -1, 1, 1) for end in (0.0, 1.0))
    expected = np.clip(found["r_real"], low, high).astype(np.float32)
    np.testing.assert_array_equal(found["r"], expected)


def test_the_network_of_dequantized_weights_ends_where_codes_end(
    models: tuple[Prepared, QuantizedModel],
) -> None:
    _, model = models
    found = dequantized_network(model)
    assert found.digest == model.prepared.digest
    seen = values(found.model, ["r", "s"])
    for name in ("r", "s"):
        params = model.plan.params[name]
        ends = dequantize(np.array([params.qmin, params.qmax], params.dtype), params)
        assert ends[0] <= seen[name].min()
        assert seen[name].max() <= ends[1]
    feeds = {"x": samples(8, seed=5)}
    integers = open_integer_session(model).run(feeds)["y"]
    noise = float(np.square(seen["y"] - integers).sum() / np.square(integers).sum())
    assert noise < 1e-3
