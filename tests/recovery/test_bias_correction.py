import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkit.config import QuantConfig
from quantkit.exporters.qdq import qdq_graph
from quantkit.graph.program import Node
from quantkit.ops.contract import OPS
from quantkit.passes.prepare import prepare
from quantkit.plan import make_plan
from quantkit.quantized_model.constants import ACCUMULATOR_MAX
from quantkit.quantized_model.model import node_bound, quantize_model
from quantkit.recovery.bias_correction import _mean_shift, correct_biases
from tests.quantized_model.checks import check_equals_onnxruntime, check_fused
from tests.small_networks import (
    NETWORKS,
    Network,
    calibrated,
    float_model,
    onnxruntime_outputs,
    quantized,
    random_feeds,
)

COARSE = QuantConfig(per_channel=False, reduce_range=True)

# Positive inputs, as behind a ReLU, give the rounding errors a mean to work on; one huge weight
# makes the one scale of the tensor coarse.
CONVOLUTIONS = {
    "standard": ("float[8,4,3,3] w", "pads = [1,1,1,1]"),
    "strided": ("float[8,4,3,3] w", "pads = [1,1,1,1], strides = [2,2]"),
    "same": ("float[8,4,4,4] w", 'auto_pad = "SAME_UPPER", strides = [2,2]'),
    "apart": ("float[8,4,1,2] w", 'auto_pad = "SAME_UPPER", strides = [5,6]'),
    "depthwise": ("float[4,1,3,3] w", "pads = [1,1,1,1], group = 4"),
    "grouped": ("float[6,2,3,3] w", "pads = [0,1,2,0], group = 2"),
    "dilated": ("float[8,4,3,3] w", "pads = [2,2,2,2], dilations = [2,2]"),
}
SHAPE = (4, 10, 10)


def network(kind: str) -> Network:
    weight, attributes = CONVOLUTIONS[kind]
    shape = tuple(int(size) for size in weight[6 : weight.index("]")].split(","))
    coarse = np.random.default_rng(3).normal(0.0, 0.3, shape).astype(np.float32)
    coarse[0, 0, 0, 0] = 12.0
    return Network(
        f"""(float[N,4,10,10] x, {weight}) => (float[N,C,H,W] y) {{
          r = Relu(x)
          [conv] y = Conv<{attributes}>(r, w)
        }}""",
        SHAPE,
        constants={"w": coarse},
    )


@pytest.mark.parametrize("kind", sorted(CONVOLUTIONS))
def test_mean_error_shrinks_on_other_data(kind: str) -> None:
    net = network(kind)
    model, table = quantized(net, COARSE)
    corrected = correct_biases(model, table)
    feeds = random_feeds(net.model(), SHAPE, 24, seed=99)
    expected = onnxruntime_outputs(net.model(), feeds)["y"]
    before, after = (
        np.abs((onnxruntime_outputs(qdq_graph(m), feeds)["y"] - expected).mean(axis=(0, 2, 3)))
        for m in (model, corrected)
    )
    assert after.mean() < 0.35 * before.mean()


def test_a_gemm_is_corrected_too() -> None:
    net = Network(
        """(float[N,32] x, float[32,8] w) => (float[N,8] y) { r = Relu(x) y = Gemm(r, w) }""",
        (32,),
        constants={
            "w": np.where(np.eye(32, 8) > 0, 9.0, np.random.default_rng(0).normal(0, 0.2, (32, 8)))
        },
    )
    prepared, table = calibrated(net.model(), (32,), samples=64)
    model = quantize_model(prepared, make_plan(prepared, table, COARSE), COARSE)
    corrected = correct_biases(model, table)
    feeds = random_feeds(net.model(), (32,), 256, seed=99)
    expected = onnxruntime_outputs(net.model(), feeds)["y"]
    before, after = (
        np.abs((onnxruntime_outputs(qdq_graph(m), feeds)["y"] - expected).mean(axis=0)).mean()
        for m in (model, corrected)
    )
    assert after < 0.5 * before


@pytest.mark.parametrize("kind", sorted(CONVOLUTIONS))
def test_shift_equals_the_mean_of_a_convolution_with_the_error(kind: str) -> None:
    """Brute force: the float form on an input that is its channel's mean everywhere."""
    prepared = prepare(network(kind).model())
    node = next(n for n in prepared.program.nodes if n.op_type == "Conv")
    rng = np.random.default_rng(5)
    error = rng.normal(0.0, 1.0, prepared.program.constants[node.inputs[1]].shape)
    means = rng.normal(1.0, 1.0, SHAPE[0])
    shift = _mean_shift(node, error, means, prepared.program)
    x = np.broadcast_to(means[:, None, None], SHAPE)[None]
    (y,) = OPS["Conv"].float_form(node, [x.astype(np.float64), error, None])
    assert shift is not None
    np.testing.assert_allclose(shift, y.mean(axis=(0, 2, 3)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("transposed", [0, 1])
def test_shift_of_a_gemm(transposed: int) -> None:
    node = Node("n", "Gemm", "", 17, ("x", "w", "b"), ("y",), {"transB": transposed})
    rng = np.random.default_rng(5)
    error, means = rng.normal(0, 1, (6, 3)), rng.normal(0, 1, 6)
    program = prepare(NETWORKS["softmax"].model()).program
    shift = _mean_shift(node, error.T if transposed else error, means, program)
    assert shift is not None
    np.testing.assert_allclose(shift, means @ error, rtol=1e-12)
    assert _mean_shift(node, error, rng.normal(0, 1, 4), program) is None


def test_other_numbers_of_channels_are_left_alone() -> None:
    program = prepare(network("standard").model()).program
    node = next(n for n in program.nodes if n.op_type == "Conv")
    assert _mean_shift(node, np.zeros((8, 4, 3, 3)), np.zeros(5), program) is None


def test_unknown_sizes_count_every_tap() -> None:
    text = """(float[N,2,H,W] x, float[3,2,3,3] w) => (float[N,3,H,W] y) {
      y = Conv<pads = [1,1,1,1]>(x, w)
    }"""
    program = prepare(float_model(text)).program
    error, means = np.ones((3, 2, 3, 3)), np.array([1.0, 2.0])
    shift = _mean_shift(program.nodes[0], error, means, program)
    assert shift is not None
    np.testing.assert_allclose(shift, 27.0, rtol=1e-12)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_the_note_counts_and_the_model_stays_whole(name: str) -> None:
    net = NETWORKS[name]
    model, table = quantized(net)
    corrected = correct_biases(model, table)
    biased = {
        n.name
        for n in model.prepared.program.nodes
        if n.op_type in ("Conv", "Gemm") and n.name not in model.plan.kept_float
    }
    count = "1 node" if len(biased) == 1 else f"{len(biased)} nodes"
    told = [note.message for note in corrected.notes if note.pass_name == "bias_correction"]
    expected = f"biases of {count} corrected for the mean error of rounded weights"
    assert told == ([expected] if biased else [])
    assert set(corrected.constants) == set(model.constants)
    check_fused(qdq_graph(corrected), in_floats=net.float_in_onnxruntime)
    check_equals_onnxruntime(corrected, qdq_graph(corrected), net.feeds(2))


def test_a_float_node_is_not_touched() -> None:
    config = QuantConfig(nodes_to_exclude=("last",))
    model, table = quantized(NETWORKS["mobile"], config)
    assert correct_biases(model, table).notes[-1].message.startswith("biases of 4 nodes")


@given(st.integers(0, 2**32 - 1), st.integers(-8, 6), st.integers(-8, 6))
def test_no_bound_leaves_int32(seed: int, weight_exponent: int, bias_exponent: int) -> None:
    rng = np.random.default_rng(seed)
    text = "(float[N,4] x, float[4,3] w, float[3] b) => (float[N,3] y) { y = Gemm(x, w, b) }"
    weight = rng.normal(0, 10.0**weight_exponent, (4, 3)) * 10.0 ** rng.integers(-12, 1, 3)
    constants = {"w": weight, "b": rng.normal(0, 10.0**bias_exponent, 3)}
    prepared, table = calibrated(float_model(text, constants=constants), (4,), samples=2)
    config = QuantConfig(per_channel=bool(seed % 2))
    model = correct_biases(quantize_model(prepared, make_plan(prepared, table), config), table)
    for node in model.prepared.program.nodes:
        bound = node_bound(node, model.prepared.program, model.plan, model.constants)
        assert bound is not None
        assert bound == model.accumulator_bounds[node.name]
        assert bound <= ACCUMULATOR_MAX


def test_a_correction_that_would_overflow_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    model, table = quantized(NETWORKS["softmax"])
    monkeypatch.setattr("quantkit.recovery.bias_correction.accumulator_max", lambda params: 0)
    corrected = correct_biases(model, table)
    assert corrected.notes == model.notes
    assert dict(corrected.accumulator_bounds) == dict(model.accumulator_bounds)
