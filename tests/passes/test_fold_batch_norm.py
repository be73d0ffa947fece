"""BatchNormalization folded into what comes before it, and every reason not to."""

import numpy as np
import onnx_ir as ir
import pytest

from quantkit.passes.fold_batch_norm import fold_batch_norm
from quantkit.passes.prepare import prepare
from tests.models import batch_norm_weights, network, normal
from tests.passes.checks import assert_prepared, notes_of, op_types, random_feeds, refusal

BN = "y = BatchNormalization (c, gamma, beta, mean, variance)"
BN_OF = "(c, gamma, beta, mean, variance)"


@pytest.mark.parametrize(
    ("inputs", "weight", "attributes", "channels"),
    [
        ("float[N,3,12] x", (4, 3, 3), "pads = [1, 0]", 4),
        ("float[N,3,8,8] x", (4, 3, 3, 3), "strides = [2, 2]", 4),
        ("float[N,4,8,8] x", (4, 1, 3, 3), "group = 4", 4),
        ("float[N,4,8,8] x", (6, 2, 3, 3), "group = 2", 6),
        ("float[N,2,5,5,5] x", (3, 2, 2, 2, 2), "dilations = [1, 2, 1]", 3),
    ],
)
@pytest.mark.parametrize("has_bias", [False, True])
def test_conv(
    inputs: str, weight: tuple[int, ...], attributes: str, channels: int, has_bias: bool
) -> None:
    weights = {"w": normal(*weight), **batch_norm_weights(channels)}
    weights |= {"b": normal(channels)} if has_bias else {}
    sizes = ",".join(f"D{axis}" for axis in range(len(weight) - 1))
    model = network(
        f"c = Conv <{attributes}> (x, w{', b' if has_bias else ''})\n{BN}",
        weights,
        inputs=inputs,
        outputs=f"float[N,{sizes}] y",
    )
    prepared = assert_prepared(model)
    assert op_types(prepared) == ["Conv"]
    assert [note.applied for note in notes_of(prepared, "fold_batch_norm")] == [True]


@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_conv_transpose(group: int, has_bias: bool, spatial: int) -> None:
    channels = 3 * group
    weights = {"w": normal(4, 3, *[2] * spatial), **batch_norm_weights(channels)}
    weights |= {"b": normal(channels)} if has_bias else {}
    sizes = ",".join(f"D{axis}" for axis in range(spatial + 1))
    model = network(
        f"c = ConvTranspose <group = {group}> (x, w{', b' if has_bias else ''})\n{BN}",
        weights,
        inputs=f"float[N,4{',5' * spatial}] x",
        outputs=f"float[N,{sizes}] y",
    )
    assert op_types(assert_prepared(model)) == ["ConvTranspose"]


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("shape", [None, (), (1,), (4,), (1, 4), (1, 1)])
def test_gemm(trans_a: int, trans_b: int, shape: tuple[int, ...] | None) -> None:
    weights = {"w": normal(*(4, 5) if trans_b else (5, 4)), **batch_norm_weights(4)}
    if shape is not None:
        weights["b"] = np.asarray(normal(*shape), np.float32)
    model = network(
        f"c = Gemm <transA = {trans_a}, transB = {trans_b}, alpha = 0.5, beta = 3.0> "
        f"(x, w{'' if shape is None else ', b'})\n{BN}",
        weights,
        inputs="float[5,N] x" if trans_a else "float[N,5] x",
        outputs="float[N,4] y",
    )
    feeds = {"x": normal(5, 3) if trans_a else normal(3, 5)}
    prepared = assert_prepared(model, feeds=feeds)
    assert op_types(prepared) == ["Gemm"]
    node = prepared.program.nodes[0]
    assert node.number("alpha", 1.0) == node.number("beta", 1.0) == 1.0


@pytest.mark.parametrize("shape", [(4, 1), (4, 4)])
def test_gemm_with_a_column_or_a_matrix_stays(shape: tuple[int, ...]) -> None:
    """As many rows as channels: the column must not be taken for a row."""
    model = network(
        f"c = Gemm <beta = 2.0> (x, w, b)\n{BN}",
        {"w": normal(5, 4), "b": normal(*shape), **batch_norm_weights(4)},
        inputs="float[4,5] x",
        outputs="float[4,4] y",
    )
    prepared = assert_prepared(model)
    assert "is a matrix of shape (4," in refusal(prepared, "fold_batch_norm")
    assert op_types(prepared) == ["Gemm", "BatchNormalization"]


def test_matmul_on_two_axes_becomes_gemm() -> None:
    model = network(
        f"[mul] c = MatMul (x, w)\n{BN}",
        {"w": normal(5, 4), **batch_norm_weights(4)},
        inputs="float[N,5] x",
        outputs="float[N,4] y",
    )
    prepared = assert_prepared(model)
    assert [(node.name, node.op_type) for node in prepared.program.nodes] == [("mul", "Gemm")]


def test_matmul_on_three_axes_stays() -> None:
    model = network(
        f"c = MatMul (x, w)\n{BN}",
        {"w": normal(5, 6), **batch_norm_weights(4)},
        inputs="float[N,4,5] x",
        outputs="float[N,4,6] y",
    )
    prepared = assert_prepared(model)
    assert "multiplies more than two axes" in refusal(prepared, "fold_batch_norm")
    assert op_types(prepared) == ["MatMul", "Conv"]


def test_epsilon_is_honoured() -> None:
    weights = {"w": normal(4, 3, 1, 1), **batch_norm_weights(4)}
    outputs = []
    for epsilon in (1e-5, 0.5):
        line = f"y = BatchNormalization <epsilon = {epsilon}> {BN_OF}"
        prepared = assert_prepared(network(f"c = Conv (x, w)\n{line}", weights))
        outputs.append(prepared.program.constants["w"])
    assert np.abs(outputs[0] - outputs[1]).max() > 0.1


def test_shared_weight_is_copied_not_changed() -> None:
    weights = {"w": normal(3, 3, 1, 1), "b": normal(3), **batch_norm_weights(3)}
    model = network(f"c = Conv (x, w, b)\n{BN}\nz = Conv (x, w, b)", weights, outputs=TWO)
    prepared = assert_prepared(model)
    assert op_types(prepared) == ["Conv", "Conv"]
    constants = prepared.program.constants
    np.testing.assert_array_equal(constants["w"], weights["w"])
    assert len({name for name in constants if constants[name].ndim == 4}) == 2


def test_two_folds_into_one_shared_weight() -> None:
    weights = {"w": normal(3, 3, 1, 1)}
    weights |= batch_norm_weights(3) | batch_norm_weights(3, prefix="other_")
    weights["other_gamma"] = normal(3)
    model = network(
        f"c = Conv (x, w)\n{BN}\nd = Conv (x, w)\n"
        "z = BatchNormalization (d, other_gamma, other_beta, other_mean, other_variance)",
        weights,
        outputs=TWO,
    )
    assert op_types(assert_prepared(model)) == ["Conv", "Conv"]


def test_weight_that_is_a_graph_output_is_kept() -> None:
    weights = {"w": normal(3, 3, 1, 1), **batch_norm_weights(3)}
    model = network(f"c = Conv (x, w)\n{BN}\nz = Identity (w)", weights, outputs=TWO)
    prepared = assert_prepared(model)
    assert op_types(prepared).count("Conv") == 1


TWO = "float[N,C,H,W] y, float[M,D,K,L] z"


@pytest.mark.parametrize("name", ["w", "gamma", "variance", "b"])
def test_weight_a_caller_may_feed_is_refused(name: str) -> None:
    weights = {"w": normal(4, 3, 1, 1), "b": normal(4), **batch_norm_weights(4)}
    model = network(f"c = Conv (x, w, b)\n{BN}", weights)
    model.graph.inputs.append(model.graph.initializers[name])
    feeds = random_feeds(model)
    prepared = assert_prepared(model, feeds=feeds)
    reason = refusal(prepared, "fold_batch_norm")
    assert "graph input" in reason if name != "b" else "bias" in reason
    # The caller's own value counts, in the prepared model as in the source.
    other = np.abs(weights[name]) + np.float32(1)
    _ = assert_prepared(model, feeds={**feeds, name: other})


def test_several_readers_are_refused() -> None:
    model = network(
        f"[conv] c = Conv (x, w)\n{BN}\nz = Relu (c)",
        {"w": normal(4, 3, 1, 1), **batch_norm_weights(4)},
        outputs=TWO,
    )
    prepared = assert_prepared(model)
    assert refusal(prepared, "fold_batch_norm") == (
        "the output of conv has other readers or is a graph output"
    )
    assert op_types(prepared).count("Conv") == 2


def test_a_producer_that_is_an_output_is_refused() -> None:
    model = network(
        f"[conv] c = Conv (x, w)\n{BN}",
        {"w": normal(4, 3, 1, 1), **batch_norm_weights(4)},
        outputs="float[N,C,H,W] y, float[N,C,H,W] c",
    )
    assert "is a graph output" in refusal(assert_prepared(model), "fold_batch_norm")


def test_a_reader_inside_a_branch_counts() -> None:
    model = network(
        f"""
        [conv] c = Conv (x, w)
        {BN}
        s = ReduceMax <keepdims = 0> (x)
        k = Greater (s, limit)
        z = If (k) <then_branch = a () => (float[N,D,K,L] t) {{ t = Relu (c) }},
                    else_branch = b () => (float[N,D,K,L] e) {{ e = Neg (c) }}>
        """,
        {"w": normal(4, 3, 1, 1), "limit": np.array(0, np.float32), **batch_norm_weights(4)},
        outputs=TWO,
    )
    assert "has other readers" in refusal(assert_prepared(model), "fold_batch_norm")


def test_training_mode_is_refused() -> None:
    model = network(
        "c = Conv (x, w)\n"
        "y, m, v = BatchNormalization <training_mode = 1> (c, gamma, beta, mean, variance)",
        {"w": normal(4, 3, 1, 1), **batch_norm_weights(4)},
    )
    prepared = prepare(model)
    assert refusal(prepared, "fold_batch_norm") == "runs in training mode"
    assert refusal(prepared, "batch_norm_to_affine") == "runs in training mode"


def test_computed_parameters_are_refused() -> None:
    model = network(
        f"c = Conv (x, w)\ngamma = ReduceMax <axes = [0, 2, 3], keepdims = 0> (c)\n{BN}",
        {"w": normal(4, 3, 1, 1)}
        | {name: array for name, array in batch_norm_weights(4).items() if name != "gamma"},
    )
    assert "its scale is computed" in refusal(assert_prepared(model), "fold_batch_norm")


def test_follows_something_else() -> None:
    model = network(f"[relu] c = Relu (x)\n{BN}", batch_norm_weights(3), outputs="float[N,3,8,8] y")
    prepared = assert_prepared(model)
    assert "follows relu (Relu)" in refusal(prepared, "fold_batch_norm")


def test_negative_variance_is_refused() -> None:
    weights = {"w": normal(4, 3, 1, 1), **batch_norm_weights(4)}
    weights["variance"] = np.array([1, -2, 1, 1], np.float32)
    prepared = prepare(network(f"c = Conv (x, w)\n{BN}", weights))
    assert refusal(prepared, "fold_batch_norm") == "a variance is not positive"


def test_overflowing_float16_is_refused() -> None:
    weights = {"w": normal(4, 3, 1, 1, dtype=np.float16) * 300}
    weights |= batch_norm_weights(4, dtype=np.float16)
    weights["gamma"] = np.full(4, 60000, np.float16)
    model = network(
        f"[conv] c = Conv (x, w)\n{BN}",
        weights,
        inputs="float16[N,3,8,8] x",
        outputs="float16[N,C,H,W] y",
    )
    prepared = prepare(model)
    reason = refusal(prepared, "fold_batch_norm")
    assert reason == "the folded weight of conv would not be finite"
    assert op_types(prepared) == ["Conv", "BatchNormalization"]
    assert "not finite as float16" in refusal(prepared, "batch_norm_to_affine")


def test_float16() -> None:
    weights = {"w": normal(4, 3, 3, 3, dtype=np.float16)}
    weights |= batch_norm_weights(4, dtype=np.float16)
    model = network(
        f"c = Conv (x, w)\n{BN}",
        weights,
        inputs="float16[N,3,8,8] x",
        outputs="float16[N,C,H,W] y",
    )
    prepared = assert_prepared(model, relative=4e-3)
    assert op_types(prepared) == ["Conv"]
    assert prepared.program.constants["w"].dtype == np.float16


def test_running_statistics_that_are_read_are_refused() -> None:
    model = network(
        "c = Conv (x, w)\n"
        "y, m, v = BatchNormalization (c, gamma, beta, mean, variance)\nz = Relu (m)",
        {"w": normal(4, 3, 1, 1), **batch_norm_weights(4)},
        outputs="float[N,C,H,W] y, float[D] z",
    )
    (note,) = fold_batch_norm(model)
    assert note.message == "its running statistics are read"


def test_names_keep_their_meaning() -> None:
    """The folded Conv's output is the BN's output, and carries that name inside the graph too."""
    model = network(
        "[conv] c = Conv (x, w)\nn = BatchNormalization (c, gamma, beta, mean, variance)\n"
        "y = Sigmoid (n)",
        {"w": normal(4, 3, 1, 1), **batch_norm_weights(4)},
    )
    prepared = assert_prepared(model)
    assert prepared.program.nodes[0].outputs == ("n",)
    assert isinstance(prepared.model, ir.Model)
