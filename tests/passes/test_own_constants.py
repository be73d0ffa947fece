"""Own weights, zero biases, plain Gemms."""

import numpy as np
import pytest

from quantkit.passes.prepare import prepare
from tests.models import network, normal
from tests.passes.checks import assert_prepared, notes_of, op_types


@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("shape", [None, (), (1,), (4,), (1, 4), (1, 1)])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, 3.0), (-2.0, 0.0)])
def test_gemm_becomes_plain(
    trans_b: int, shape: tuple[int, ...] | None, alpha: float, beta: float
) -> None:
    weights = {"w": normal(*(4, 5) if trans_b else (5, 4))}
    if shape is not None:
        weights["b"] = np.asarray(normal(*shape), np.float32)
    model = network(
        f"y = Gemm <transB = {trans_b}, alpha = {alpha}, beta = {beta}> "
        f"(x, w{'' if shape is None else ', b'})",
        weights,
        inputs="float[N,5] x",
        outputs="float[N,4] y",
    )
    prepared = assert_prepared(model)
    (node,) = prepared.program.nodes
    assert node.number("alpha", 1.0) == node.number("beta", 1.0) == 1.0
    assert prepared.program.constants[node.inputs[2]].shape == (4,)


@pytest.mark.parametrize("shape", [(4, 1), (4, 4)])
def test_a_column_is_no_row(shape: tuple[int, ...]) -> None:
    """As many rows as channels: sizes alone cannot tell a column from a row."""
    model = network(
        "y = Gemm <alpha = 0.5, beta = 2.0> (x, w, b)",
        {"w": normal(5, 4), "b": normal(*shape)},
        inputs="float[4,5] x",
        outputs="float[4,4] y",
    )
    prepared = assert_prepared(model)
    assert prepared.program.nodes[0].number("beta", 1.0) == 2.0


def test_integer_gemm_is_left_alone() -> None:
    model = network(
        "y = Gemm (x, w)",
        {"w": np.ones((5, 4), np.int32)},
        inputs="int32[N,5] x",
        outputs="int32[N,4] y",
    )
    assert op_types(prepare(model)) == ["Gemm"]


def test_zero_bias() -> None:
    model = network("y = Conv <group = 3> (x, w)", {"w": normal(6, 1, 3, 3)})
    prepared = assert_prepared(model)
    (node,) = prepared.program.nodes
    np.testing.assert_array_equal(prepared.program.constants[node.inputs[2]], np.zeros(6))


def test_computed_bias_is_kept() -> None:
    model = network(
        "b = ReduceMax <axes = [0, 2, 3], keepdims = 0> (x)\ny = Conv (x, w, b)",
        {"w": normal(3, 3, 1, 1)},
    )
    assert op_types(assert_prepared(model)) == ["ReduceMax", "Conv"]


def test_each_node_owns_its_weight_and_bias() -> None:
    model = network(
        "a = Conv (x, w, b)\nc = Conv (a, w, b)\ny = Conv (c, w, b)",
        {"w": normal(3, 3, 1, 1), "b": normal(3)},
    )
    prepared = assert_prepared(model)
    read = [name for node in prepared.program.nodes for name in node.inputs[1:]]
    assert len(set(read)) == len(read) == 6
    assert len(notes_of(prepared, "own_constants")) == 2


def test_names_that_are_taken() -> None:
    """``conv.bias`` exists already, as a value of something else."""
    model = network(
        "[conv] a = Conv (x, w)\n[other] y = Mul (a, conv_bias)",
        {"w": normal(3, 3, 1, 1), "conv_bias": normal(3, 1, 1)},
    )
    model.graph.initializers["conv_bias"].name = "conv.bias"
    prepared = assert_prepared(model)
    assert {"conv.bias", "conv.bias_2"} <= set(prepared.program.constants)
