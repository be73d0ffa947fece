"""Verdicts against Python integers, layer by layer and pair by pair."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from quantkit.calibration.dataset import Dataset, open_dataset
from quantkit.config import QuantConfig
from quantkit.errors import ConfigError
from quantkit.evaluation.hardware import LayerVerdict, hardware_verdicts
from quantkit.evaluation.product_pairs import product_pairs
from quantkit.graph.program import Array, Node
from quantkit.integer_session import open_integer_session
from quantkit.numerics.affine import QuantizedTensor, per_tensor
from quantkit.quantized_model.model import QuantizedModel
from tests.small_networks import NETWORKS, Network, quantized, quantized_network

# Odd and even K, borders, strides, groups, dilations, one dimension and a matrix product.
LAYERS = {
    "odd": Network(
        """(float[N,3,6,5] x, float[4,3,3,3] w, float[4] b) => (float[N,4,3,3] y) {
          [layer] y = Conv<pads = [1,1,1,1], strides = [2,2]>(x, w, b)
        }""",
        (3, 6, 5),
    ),
    "grouped": Network(
        """(float[N,6,6,6] x, float[4,3,3,2] w) => (float[N,4,2,4] y) {
          [layer] y = Conv<group = 2, dilations = [2,1], pads = [0,0,0,0]>(x, w)
        }""",
        (6, 6, 6),
    ),
    "one_dimension": Network(
        """(float[N,4,12] x, float[6,2,3] w) => (float[N,6,12] y) {
          [layer] y = Conv<group = 2, pads = [2,0]>(x, w)
        }""",
        (4, 12),
    ),
    "windows_apart": Network(
        """(float[N,5,10,12] x, float[4,5,1,1] w) => (float[N,4,2,2] y) {
          [layer] y = Conv<auto_pad = "SAME_UPPER", strides = [5,6]>(x, w)
        }""",
        (5, 10, 12),
    ),
    "gemm": Network(
        """(float[N,11] x, float[5,11] w, float[5] b) => (float[N,5] y) {
          [layer] y = Gemm<transB = 1>(x, w, b)
        }""",
        (11,),
    ),
    "matmul": Network(
        """(float[N,4,10] x, float[10,3] w) => (float[N,4,3] y) { [layer] y = MatMul(x, w) }""",
        (4, 10),
    ),
}
DEPTHWISE = Network(
    """(float[N,4,6,6] x, float[4,1,3,3] w) => (float[N,4,4,4] y) {
      [layer] y = Conv<group = 4>(x, w)
    }""",
    (4, 6, 6),
)


def samples(network: Network, model: QuantizedModel, count: int = 2) -> Dataset:
    """Large values: many codes lie at either end."""
    feeds = {name: 3.0 * array for name, array in network.feeds(count, seed=5).items()}
    return open_dataset(feeds, model.prepared.program.inputs, preprocessing=None)


def codes_of(network: Network, model: QuantizedModel, count: int = 2) -> dict[str, Array]:
    """All values of the same samples as one batch."""
    feeds = {name: 3.0 * array for name, array in network.feeds(count, seed=5).items()}
    program = model.prepared.program
    names = [*feeds, *(output for node in program.nodes for output in node.outputs)]
    return open_integer_session(model).run_codes(feeds, names)


def with_large_weights(model: QuantizedModel, seed: int = 0) -> QuantizedModel:
    """Weight codes uniform over int8: pairs that saturate are frequent."""
    rng = np.random.default_rng(seed)
    name = model.prepared.program.nodes[0].inputs[1]
    weight = model.constants[name]
    data = rng.integers(-127, 128, weight.data.shape).astype(np.int8)
    return replace(model, constants={**model.constants, name: QuantizedTensor(data, weight.params)})


def verdict(model: QuantizedModel, data: Dataset | None = None) -> LayerVerdict:
    (found,) = [one for one in hardware_verdicts(model, data) if one.node == "layer"]
    return found


def rows(
    node: Node, x: Array, weight: Array, zero_point: int
) -> Iterator[tuple[list[int], list[int]]]:
    """Of every output: the input codes and the weights along K, taps first, channels inside."""
    if node.op_type != "Conv":
        columns = weight if node.integer("transB", 0) else weight.T
        for row in x.reshape(-1, x.shape[-1]):
            for column in columns:
                yield row.tolist(), column.tolist()
        return
    rank = x.ndim - 2
    strides = node.integers("strides", (1,) * rank)
    dilations = node.integers("dilations", (1,) * rank)
    pads = node.integers("pads", (-1, -2, 0, 0) if node.text("auto_pad", "") else (0,) * 2 * rank)
    kernel = weight.shape[2:]
    outputs = [
        (x.shape[2 + i] + pads[i] + pads[rank + i] - dilations[i] * (kernel[i] - 1) - 1)
        // strides[i]
        + 1
        for i in range(rank)
    ]
    per_group = len(weight) // node.integer("group", 1)
    for sample in x:
        for channel in range(len(weight)):
            first = channel // per_group * weight.shape[1]
            for window in np.ndindex(*outputs):
                codes, factors = [], []
                for tap in np.ndindex(*kernel):
                    at = tuple(
                        window[i] * strides[i] + tap[i] * dilations[i] - pads[i]
                        for i in range(rank)
                    )
                    inside = all(0 <= at[i] < x.shape[2 + i] for i in range(rank))
                    for c in range(weight.shape[1]):
                        codes.append(int(sample[(first + c, *at)]) if inside else zero_point)
                        factors.append(int(weight[(channel, c, *tap)]))
                yield codes, factors


@pytest.mark.parametrize("name", LAYERS)
def test_pairs_and_sums_of_every_output(name: str) -> None:
    network = LAYERS[name]
    model = with_large_weights(quantized(network)[0])
    (node,) = model.prepared.program.nodes
    x_q = codes_of(network, model)["x"]
    weight = model.constants[node.inputs[1]].data
    zero_point = int(model.plan.params["x"].zero_point)
    saturated = total = largest = 0
    bias = model.constants[node.inputs[2]].data.tolist() if len(node.inputs) > 2 else None
    for codes, factors in rows(node, x_q, weight, zero_point):
        padded = zip([*codes, 0], [*factors, 0], strict=True)
        products = [code * factor for code, factor in padded][: len(codes) + len(codes) % 2]
        sums = [sum(products[i : i + 2]) for i in range(0, len(products), 2)]
        saturated += sum(not -(2**15) <= s < 2**15 for s in sums)
        total += len(sums)
        if bias is None:
            exact = sum((c - zero_point) * f for c, f in zip(codes, factors, strict=True))
            largest = max(largest, abs(exact))
    found = verdict(model, samples(network, model))
    pairs = found.vpmaddubsw_pairs
    assert pairs is not None
    assert (pairs.observed_saturated, pairs.observed_sums) == (saturated, total)
    assert saturated > 0
    assert found.can_saturate
    assert found.saturates_on_samples
    assert found.needs_reduced_range
    assert found.advice == "--reduce-range-node layer"
    if bias is None:
        assert found.observed_accumulator == largest


@pytest.mark.parametrize("name", LAYERS)
def test_what_is_proved_to_fit_fits_and_what_may_saturate_does(name: str) -> None:
    """Each pair with the inputs that suit its weights best."""
    model = with_large_weights(quantized(LAYERS[name])[0])
    (node,) = model.prepared.program.nodes
    pairs = product_pairs(node, model)
    assert pairs is not None
    assert 0 < pairs.can_saturate.sum() < pairs.can_saturate.size
    for (a, b), expected in zip(
        pairs.weight.reshape(-1, 2).tolist(), pairs.can_saturate.reshape(-1), strict=True
    ):
        extremes = [x * a + y * b for x in (0, 255) for y in (0, 255)]
        assert expected == any(not -(2**15) <= s < 2**15 for s in extremes)


@pytest.mark.parametrize("name", LAYERS)
def test_a_reduced_range_cures_exactly_the_nodes_named(name: str) -> None:
    network = LAYERS[name]
    full, _ = quantized(network)
    reduced, _ = quantized(network, QuantConfig(nodes_to_reduce_range=("layer",)))
    found = verdict(reduced, samples(network, reduced)).vpmaddubsw_pairs
    assert found is not None
    assert (found.can_saturate, found.observed_saturated) == (0, 0)
    assert found.observed_sums > 0
    assert verdict(reduced).advice is None
    assert np.abs(full.constants["w"].data.astype(int)).max() == 127
    assert np.abs(reduced.constants["w"].data.astype(int)).max() == 64


def test_other_nodes_keep_their_range() -> None:
    config = QuantConfig(nodes_to_reduce_range=("stem", "classes"))
    model, _ = quantized(NETWORKS["mobile"], config)
    largest = {
        node.name: int(np.abs(model.constants[node.inputs[1]].data.astype(int)).max())
        for node in model.prepared.program.nodes
        if node.op_type in ("Conv", "Gemm")
    }
    assert largest == {"stem": 64, "depthwise": 127, "project": 127, "last": 127, "classes": 64}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stemm", "--reduce-range-node: no node is called 'stemm'; `quantkit inspect` lists"),
        ("class", "no node is called 'class'; did you mean classes"),
        ("join", "--reduce-range-node: 'join' has no constant weight to reduce"),
    ],
)
def test_names_of_nodes_are_checked(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        quantized(NETWORKS["mobile"], QuantConfig(nodes_to_reduce_range=(name,)))


def test_kernels_that_widen_first_are_not_concerned() -> None:
    model, _ = quantized(DEPTHWISE)
    assert verdict(with_large_weights(model), samples(DEPTHWISE, model)).vpmaddubsw_pairs is None
    dense, _ = quantized(LAYERS["odd"])
    weight = dense.constants["w"]
    unsigned = QuantizedTensor(
        (weight.data.astype(np.int16) + 128).astype(np.uint8),
        replace(
            weight.params,
            zero_point=np.full(weight.params.zero_point.shape, 128, np.int32),
            dtype=np.dtype(np.uint8),
        ),
    )
    changed = replace(dense, constants={**dense.constants, "w": unsigned})
    assert verdict(changed).vpmaddubsw_pairs is None
    products = quantized_network("two_activations")
    by_name = {one.node: one for one in hardware_verdicts(products)}
    dynamic = [node for node in products.prepared.program.nodes if node.inputs[-1] == "t"]
    assert by_name[dynamic[0].name].vpmaddubsw_pairs is None
    assert by_name[dynamic[0].name].accumulator_bound is not None


def test_signed_activations_count_as_the_unsigned_ones_onnxruntime_makes_of_them() -> None:
    network = LAYERS["odd"]
    model = with_large_weights(quantized(network)[0])
    x = model.plan.params["x"]
    signed = per_tensor(float(x.scale), int(x.zero_point) - 128, np.int8)
    plan = replace(model.plan, params={**model.plan.params, "x": signed})
    data = samples(network, model)
    unsigned, other = verdict(model, data), verdict(replace(model, plan=plan), data)
    assert other.vpmaddubsw_pairs == unsigned.vpmaddubsw_pairs
    assert other.observed_accumulator == unsigned.observed_accumulator


@pytest.mark.parametrize("name", ["mobile", "residual", "two_activations", "matmul"])
def test_observed_sums_stay_below_the_proved_bound(name: str) -> None:
    model = quantized_network(name)
    for one in hardware_verdicts(model, samples(NETWORKS[name], model, 4)):
        if one.accumulator_bound is None:
            assert one.accumulator_bits is None
            continue
        assert one.observed_accumulator is not None
        assert one.accumulator_bits is not None
        assert one.observed_bits is not None
        assert 0 < one.observed_accumulator <= one.accumulator_bound
        assert 2 ** (one.accumulator_bits - 2) <= one.accumulator_bound
        assert one.accumulator_bound < 2 ** (one.accumulator_bits - 1)
        assert one.observed_bits <= one.accumulator_bits
        assert one.mantissa is not None
        assert one.shift is not None
        assert 2**30 <= one.mantissa[0] <= one.mantissa[1] < 2**31


def test_zeros_of_a_relu_are_no_loss() -> None:
    """Codes at the ends, counted by hand; a ReLU6's sixes are none where 6 is in the range."""
    model = quantized_network("mobile")
    data = samples(NETWORKS["mobile"], model, 3)
    values = codes_of(NETWORKS["mobile"], model, 3)
    for one, node in zip(hardware_verdicts(model, data), model.prepared.program.nodes, strict=True):
        codes = values[node.outputs[0]]
        low, high = int((codes == 0).sum()), int((codes == 255).sum())
        assert one.codes.total == codes.size
        assert one.codes.low + one.codes.high + one.codes.clamped == low + high
        if int(model.plan.params[node.outputs[0]].zero_point) == 0:
            assert one.codes.low == 0
            assert one.codes.clamped >= low
        else:
            assert (one.codes.low, one.codes.high, one.codes.clamped) == (low, high, 0)
    seen = {one.node: one.codes for one in hardware_verdicts(model, data)}
    assert seen["stem"].clamped > 0
    assert seen["classes"].saturated_share is not None


def test_sixes_of_a_relu6_are_told_from_a_range_that_is_too_small() -> None:
    text = """(float[N,2,3,3] x, float[2,2,1,1] w) => (float[N,2,3,3] y) {
      zero = Constant<value = float {0.0}>()
      six = Constant<value = float {6.0}>()
      [layer] c = Conv(x, w)
      y = Clip(c, zero, six)
    }"""
    for magnitude, is_clamp in ((20.0, True), (1.0, False)):
        network = Network(text, (2, 3, 3), constants={"w": magnitude * np.eye(2)[:, :, None, None]})
        model, _ = quantized(network)
        found = verdict(model, samples(network, model)).codes
        ends = int((codes_of(network, model)["c"] == 255).sum())
        assert ends > 0
        assert found.high == (0 if is_clamp else ends)
        assert found.clamped >= (ends if is_clamp else 0)


def test_live_bytes_by_hand() -> None:
    """x lives until the sum has read it; the ReLU behind the sum works in place."""
    model = quantized_network("residual")
    found = {one.node: one.live_bytes for one in hardware_verdicts(model)}
    x, small = 4 * 8 * 8, 4 * 4 * 4
    nodes = [node.name for node in model.prepared.program.nodes]
    assert [found[name] for name in nodes] == [2 * x, 3 * x, x, 2 * x, 3 * x, x + small]
    observed = hardware_verdicts(model, samples(NETWORKS["residual"], model))
    assert [one.live_bytes for one in observed] == [found[name] for name in nodes]


def test_an_absorbed_clamp_works_in_place() -> None:
    model = quantized_network("clip_inside_the_range")
    size = 3 * 8 * 8
    assert [one.live_bytes for one in hardware_verdicts(model)] == [2 * size, size, 2 * size]


def test_a_float_island_holds_float32() -> None:
    model = quantized_network("float_island")
    island = next(one for one in hardware_verdicts(model) if one.node == "island")
    assert not island.is_integer
    assert (island.vpmaddubsw_pairs, island.shift, island.accumulator_bits) == (None,) * 3
    assert island.live_bytes is not None
    assert island.live_bytes >= 2 * 4 * 64


def test_without_samples_nothing_is_observed() -> None:
    found = verdict(quantized(LAYERS["odd"])[0])
    assert found.observed_accumulator is found.observed_bits is found.codes.saturated_share is None
    assert found.vpmaddubsw_pairs is not None
    assert found.vpmaddubsw_pairs.observed_share is None
    assert found.live_bytes == 3 * 6 * 5 + 4 * 3 * 3


def test_a_pair_that_did_not_saturate_may_still_do_so() -> None:
    """Without samples the proof advises; with samples both are told."""
    network = LAYERS["odd"]
    model = with_large_weights(quantized(network)[0])
    proved = verdict(model)
    assert proved.can_saturate
    assert proved.saturates_on_samples is None
    assert proved.advice == "--reduce-range-node layer"
    zeros = {name: np.zeros_like(array) for name, array in network.feeds(1).items()}
    # Codes of zero are the zero point: small sums only.
    low = {**model.plan.params, "x": per_tensor(float(model.plan.params["x"].scale), 0, np.uint8)}
    model = replace(model, plan=replace(model.plan, params=low))
    seen = verdict(model, open_dataset(zeros, model.prepared.program.inputs, preprocessing=None))
    assert seen.can_saturate
    assert seen.saturates_on_samples is False
    assert seen.advice is None
