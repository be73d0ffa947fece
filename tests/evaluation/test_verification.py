"""Equal codes pass; a wrong kernel, a damaged output or nothing to compare does not."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnxruntime.quantization import QuantType

import quantkit
from quantkit import integer_session
from quantkit.errors import NonFiniteRangeError, UnsupportedModelError
from quantkit.evaluation.exact_codes import ExactCodes
from quantkit.evaluation.verification import CodeDifference
from quantkit.numerics.affine import IntegerArray
from quantkit.ops.contract import OPS, Kernel, Lowering
from tests.evaluation.qdq_files import write_text
from tests.quantized_model.test_other_tools import quantized_by_onnxruntime
from tests.reporting.networks import CLASSIFIER, TWO_OUTPUTS, samples, write
from tests.small_networks import NETWORKS

# LRN has no integer kernel.
WITH_ISLAND = """(float[N, 3, 6, 6] x, float[4, 3, 3, 3] w1, float[4, 4, 1, 1] w2)
    => (float[N, 4, 4, 4] y) {
    [first] h = Conv (x, w1)
    [island] e = LRN <size = 3> (h)
    [second] y = Conv (e, w2)
}"""


def sabotage(monkeypatch: pytest.MonkeyPatch, op_type: str, share: float) -> None:
    """The first ``share`` of the op's codes is off by one."""
    kind = type(OPS[op_type])
    lower = kind.lower

    def wrong(self: object, lowering: Lowering) -> Kernel:
        kernel = lower(self, lowering)  # type: ignore[arg-type]

        def off_by_one(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
            (codes,) = kernel(inputs)
            flat = codes.reshape(-1).copy()
            flat[: int(share * flat.size)] ^= 1
            return (flat.reshape(codes.shape),)

        return off_by_one

    monkeypatch.setattr(kind, "lower", wrong)


@pytest.mark.parametrize("text", [CLASSIFIER, TWO_OUTPUTS])
@pytest.mark.parametrize("strict_integer", [False, True])
def test_equal_codes_pass(tmp_path: Path, text: str, strict_integer: bool) -> None:
    _, quantized = write(tmp_path, text)
    found = quantkit.verify(quantized, samples(4), strict_integer=strict_integer)
    assert found.passed
    assert found.samples == 4
    assert found.not_compared == {}
    assert (found.differing_outputs, found.largest_output_difference) == (0, 0.0)
    assert found.first_divergence is None
    assert (found.oracle_difference, found.default_difference) == (0.0, None)
    for layer in found.layers:
        assert layer.isolated.total > 0
        assert layer.isolated.mismatches == layer.accumulated.mismatches == 0
        assert layer.accumulated.total == layer.isolated.total == layer.float_reference.total
        assert (layer.tolerance, layer.remark) == (0, "")


def test_fixed_point_is_at_most_one_code_off(tmp_path: Path) -> None:
    _, quantized = write(tmp_path, CLASSIFIER)
    found = quantkit.verify(quantized, samples(16), arithmetic="fixed_point")
    assert found.passed
    assert {layer.tolerance for layer in found.layers} == {1}
    assert max(layer.isolated.largest for layer in found.layers) <= 1


@pytest.mark.parametrize(("op_type", "first"), [("Gemm", "last"), ("GlobalAveragePool", "pool")])
def test_one_wrong_code_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, op_type: str, first: str
) -> None:
    _, quantized = write(tmp_path, CLASSIFIER)
    sabotage(monkeypatch, op_type, share=0.15)
    found = quantkit.verify(quantized, samples(1))
    assert not found.passed
    assert found.first_failure is not None
    assert found.first_failure.node == first
    assert (found.first_failure.isolated.mismatches, found.first_failure.isolated.largest) == (1, 1)
    # Isolated: only the wrong layer itself differs. Accumulated: so may those behind it.
    others = [layer for layer in found.layers if layer.node != first]
    assert sum(layer.isolated.mismatches for layer in others) == 0


def test_a_wrong_clamped_convolution_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime shows the codes behind the Relu only; the layer is the convolution."""
    _, quantized = write(tmp_path, CLASSIFIER)
    sabotage(monkeypatch, "Conv", share=1.0)
    found = quantkit.verify(quantized, samples(1))
    assert found.first_failure is not None
    assert (found.first_failure.node, found.first_failure.op_type) == ("first", "Conv")
    assert [layer.node for layer in found.layers] == ["first", "second", "pool", "flat", "last"]
    assert found.first_divergence is not None
    assert found.first_divergence.node == "first"
    assert found.first_divergence.reason.endswith("codes differ given equal inputs")
    assert found.differing_outputs > 0


@pytest.mark.parametrize(
    ("node", "is_taken_out"),
    [
        ("Identity(d1)", True),
        ("Expand(d1, ones)", True),
        ("Transpose<perm = [0,2,3,1]>(d1)", True),
        ("Relu(d1)", False),
        ("Reshape(d1, same)", False),
        ("MaxPool<kernel_shape = [1,1]>(d1)", False),
    ],
)
def test_pairs_that_onnxruntime_joins_across_a_node(
    tmp_path: Path, node: str, is_taken_out: bool
) -> None:
    """The last Transpose draws the first one behind the second pair."""
    path = write_text(tmp_path / "moved.onnx", MOVED.replace("MOVED", node))
    x = np.random.default_rng(0).normal(0.0, 1.5, (1, 4, 6, 6)).astype(np.float32)
    found = quantkit.verify(path, {"x": x})
    assert found.passed
    layers = {layer.node: layer for layer in found.layers}
    assert ("joins the two Q/DQ pairs" in layers["moved"].remark) == is_taken_out
    assert (found.differing_outputs > 0) == is_taken_out


MOVED = """(float[N,4,6,6] x) => (float[N,C,H,W] y)
<float s1={0.02}, uint8 z1={120}, float s2={0.03}, uint8 z2={150}, int64[4] ones={1,1,1,1},
 int64[4] same={0,0,0,0}> {
 q1 = QuantizeLinear(x, s1, z1)
 d1 = DequantizeLinear(q1, s1, z1)
 [moved] m = MOVED
 q2 = QuantizeLinear(m, s2, z2)
 d2 = DequantizeLinear(q2, s2, z2)
 y = Transpose<perm = [0,3,1,2]>(d2)
}"""


def test_float_islands_are_listed_and_refused_when_strict(tmp_path: Path) -> None:
    _, quantized = write(tmp_path, WITH_ISLAND)
    found = quantkit.verify(quantized, samples(2))
    assert found.passed
    assert list(found.float_islands) == ["island"]
    assert [layer.node for layer in found.layers] == ["first", "second"]
    with pytest.raises(UnsupportedModelError, match="'island' stays float"):
        quantkit.verify(quantized, samples(2), strict_integer=True)


def test_nothing_to_compare_is_no_pass(tmp_path: Path) -> None:
    """A file with Q-DQ pairs, but with float weights: no node is integer."""
    _, quantized = write(tmp_path, WITH_ISLAND)
    model = ir.load(quantized)
    for node in tuple(model.graph):
        if node.op_type == "Conv":
            weight = node.inputs[1]
            assert weight is not None
            assert weight.shape is not None
            zeros = ir.tensor(np.zeros(weight.shape.numpy(), np.float32))
            value = ir.Value(name=f"{node.name}_float", const_value=zeros)
            model.graph.register_initializer(value)
            node.replace_input_with(1, value)
    ir.save(model, quantized)
    with pytest.raises(UnsupportedModelError, match=r"has no integer node to verify; .*'first'"):
        quantkit.verify(quantized, samples(2))


def test_no_codes_to_compare_are_no_pass(tmp_path: Path) -> None:
    text = """(float[N,8] x) => (float[N,8] y) <float s={0.02}, uint8 z={120}> {
     q = QuantizeLinear(x, s, z)
     [back] y = DequantizeLinear(q, s, z)
    }"""
    path = write_text(tmp_path / "pair.onnx", text)
    with pytest.raises(UnsupportedModelError, match="no integer node whose codes can be compared"):
        quantkit.verify(path, np.zeros((2, 8), np.float32))


@pytest.mark.filterwarnings("ignore:(invalid value|divide by zero):RuntimeWarning")
def test_nan_is_neither_pass_nor_score(tmp_path: Path) -> None:
    files = write(
        tmp_path,
        WITH_ISLAND.replace("y = Conv (e, w2)", "y = LRN <size = 3, bias = -1000000.0> (h)"),
    )
    with pytest.raises(NonFiniteRangeError, match=r"output 'y' holds NaN or infinity on 'array"):
        quantkit.verify(files[1], samples(2))
    with pytest.raises(NonFiniteRangeError, match=r"^float: output 'y' on 'array\[0\]'"):
        quantkit.report(*files, samples(2))


def test_sixteen_samples_unless_asked(tmp_path: Path) -> None:
    _, quantized = write(tmp_path, TWO_OUTPUTS)
    assert quantkit.verify(quantized, samples(40)).samples == 16
    assert quantkit.verify(quantized, samples(40), num_samples=20).samples == 20
    assert quantkit.verify(quantized, samples(3)).samples == 3


def test_classes_are_counted(tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    assert quantkit.verify(write(tmp_path, CLASSIFIER)[1], samples(5)).same_class == 5
    assert quantkit.verify(write(tmp_path / "two", TWO_OUTPUTS)[1], samples(5)).same_class is None


def test_counts_of_differences() -> None:
    found = CodeDifference()
    oracle = np.array([0, 0, 10, 20, 255, 255], np.uint8)
    found.add(np.array([0, 3, 10, 22, 255, 254], np.uint8), oracle)
    assert (found.saturated, found.unsaturated, found.total) == (4, 2, 6)
    assert (found.saturated_mismatches, found.unsaturated_mismatches) == (2, 1)
    assert (found.mismatches, found.largest) == (3, 3)
    found.add(np.array([250], np.uint8), np.array([0], np.uint8))
    assert found.largest == 250


def test_ties_are_counted_apart() -> None:
    exact = ExactCodes(
        np.array([0, 2, 2, 4], np.uint8),
        np.array([True, True, False, False]),
        np.array([True, True, False, True]),
    )
    found = CodeDifference()
    found.add(np.array([1, 2, 2, 4], np.uint8), np.array([0, 2, 2, 3], np.uint8), exact)
    assert (found.mismatches, found.ties) == (2, 2)
    assert (found.tie_mismatches, found.near_tie_mismatches) == (1, 2)
    assert (found.exact_mismatches, found.largest_from_exact) == (1, 1)


def test_the_float_island_is_named_where_codes_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A float node that computes something else: the layers behind it are right by themselves."""
    _, quantized = write(tmp_path, WITH_ISLAND)
    monkeypatch.setattr(
        integer_session, "run_float_node", lambda node, inputs: (np.sin(inputs[0]) / 2,)
    )
    found = quantkit.verify(quantized, samples(2))
    assert found.passed
    assert found.first_divergence is not None
    assert found.first_divergence.node == "second"
    assert found.first_divergence.reason == ("its inputs come from the float node 'island' (LRN)")
    assert found.differing_outputs > 0


def test_int8_activations_are_compared_with_int8_kernels(tmp_path: Path) -> None:
    """By default onnxruntime computes the Add, whose operand has two readers, in floats."""
    path = quantized_by_onnxruntime(
        NETWORKS["residual"], tmp_path, per_channel=True, activation_type=QuantType.QInt8
    )
    data = np.concatenate([NETWORKS["residual"].feeds(1, seed=seed)["x"] for seed in range(3)])
    found = quantkit.verify(path, data)
    assert found.passed
    assert (found.oracle_difference, found.differing_outputs) == (0.0, 0)
    assert found.default_difference is not None
    assert found.default_difference > 0.0
    assert found.default_in_floats == ("Add (2)", "Conv (2)")


def test_where_onnxruntime_computes_in_floats_differences_must_be_roundings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Relu behind codes that another node reads too."""
    network = NETWORKS["relu_read_twice"]
    path = quantized_by_onnxruntime(network, tmp_path)
    sabotage(monkeypatch, "Relu", share=1.0)
    found = quantkit.verify(path, network.feeds(1)["x"])
    (relu,) = (layer for layer in found.layers if layer.op_type == "Relu")
    assert (relu.tolerance, relu.remark) == (1, "onnxruntime computes it in floats")
    assert relu.isolated.mismatches == relu.isolated.total
    assert relu.isolated.unexplained == relu.isolated.total
    assert found.first_failure is relu
    assert found.first_divergence is not None
    assert found.first_divergence.node == relu.node
    assert found.first_divergence.reason.startswith("onnxruntime computes it in floats: ")


def test_where_onnxruntime_is_no_judge_the_exact_value_is(tmp_path: Path) -> None:
    """16 bits: onnxruntime quantizes the activations of a MatMul to 8 bits on the way."""
    network = NETWORKS["matmul"]
    path = quantized_by_onnxruntime(network, tmp_path, activation_type=QuantType.QUInt16)
    data = np.concatenate([network.feeds(1, seed=seed)["x"] for seed in range(3)])
    found = quantkit.verify(path, data)
    assert found.passed
    first = found.layers[0]
    assert first.remark == "onnxruntime computes it in floats (MatMulNBits)"
    assert first.isolated.largest > 1
    assert first.isolated.exact_mismatches == first.isolated.mismatches


WIDE = """(float[N,8] x, int8[8,5] wq) => (float[N,5] y)
<float sx={0.0001}, uint16 zx={30000}, float sw={0.01}, int8 zw={0}, float sy={0.0003},
 uint16 zy={32000}> {
 xq = com.microsoft.QuantizeLinear(x, sx, zx)
 xd = com.microsoft.DequantizeLinear(xq, sx, zx)
 w = DequantizeLinear(wq, sw, zw)
 [product] m = MatMul(xd, w)
 yq = com.microsoft.QuantizeLinear(m, sy, zy)
 y = com.microsoft.DequantizeLinear(yq, sy, zy)
}"""


def test_codes_of_16_bits_are_judged_by_the_exact_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime multiplies them in floats of few bits; one code off is no rounding of ours."""
    path = write_text(tmp_path / "wide.onnx", WIDE)
    data = np.random.default_rng(1).normal(size=(8, 8)).astype(np.float32)
    found = quantkit.verify(path, data)
    (layer,) = found.layers
    assert layer.passed
    assert layer.is_float_in_onnxruntime
    assert layer.must_be_exact
    assert layer.is_judged_by_exact_value
    assert layer.isolated.largest > 1
    assert layer.isolated.exact_mismatches == layer.isolated.mismatches > 0
    sabotage(monkeypatch, "MatMul", share=1.0)
    (wrong,) = quantkit.verify(path, data).layers
    assert not wrong.passed
    assert wrong.isolated.largest_from_exact == 1
    assert wrong.isolated.unexplained > 0
