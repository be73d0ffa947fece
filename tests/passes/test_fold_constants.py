"""What is folded, and what is not."""

import numpy as np
import onnx_ir as ir
import pytest

from quantkit.passes.fold_constants import fold_constants
from quantkit.passes.lift_constants import lift_constants
from tests.models import network, normal, view_chain
from tests.passes.checks import (
    assert_prepared,
    assert_same_function,
    op_types,
    random_feeds,
)

HEADER = '<ir_version: 8, opset_import: ["" : 17]>\n'


@pytest.mark.parametrize("batch", [1, 5])
def test_the_view_of_pytorch_keeps_an_open_batch(batch: int) -> None:
    model = view_chain()
    prepared = assert_prepared(model)
    assert op_types(prepared) == ["Reshape", "Gemm"]
    feeds = random_feeds(model, batch=batch)
    assert_same_function(model, prepared.model, feeds, relative=1e-5)


def test_a_static_shape_chain_vanishes() -> None:
    model = network(
        """
        s = Shape (x)
        c = Slice (s, two, four)
        d = Mul (c, doubled)
        b = Slice (s, zero, two)
        t = Concat <axis = 0> (b, d)
        y = Resize <mode = "nearest"> (x, , , t)
        """,
        {
            "zero": np.array([0]),
            "two": np.array([2]),
            "four": np.array([4]),
            "doubled": np.array([2, 2]),
        },
        inputs="float[1,3,4,5] x",
    )
    assert op_types(assert_prepared(model)) == ["Resize"]


def test_a_shape_known_only_after_folding() -> None:
    """Shape inference cannot see through Floor: the second Shape is known in a second round."""
    model = network(
        """
        s = Shape (x)
        f = Cast <to = 1> (s)
        h = Floor (f)
        i = Cast <to = 7> (h)
        a = Reshape (x, i)
        t = Shape (a)
        y = Expand (one, t)
        z = Relu (a)
        """,
        {"one": np.array([1], np.float32)},
        inputs="float[2,3,4,4] x",
        outputs="float[A,B,C,D] y, float[E,F,G,H] z",
    )
    prepared = assert_prepared(model)
    assert op_types(prepared) == ["Reshape", "Expand", "Relu"]


def test_pad_chains_of_pytorch() -> None:
    """``F.pad`` exports its pads as ConstantOfShape, Concat, Reshape, Slice, Transpose, Cast."""
    model = network(
        """
        z = ConstantOfShape <value = int64[1] {0}> (four)
        a = Concat <axis = 0> (spatial, z)
        r = Reshape (a, pairs)
        e = Slice (r, last, first, zero, back)
        t = Transpose <perm = [1, 0]> (e)
        g = Reshape (t, flat)
        p = Cast <to = 7> (g)
        d = Pad (x, p, nothing)
        y = Conv (d, w)
        """,
        {
            "four": np.array([4]),
            "spatial": np.array([1, 2, 3, 0]),
            "pairs": np.array([-1, 2]),
            "last": np.array([-1]),
            "first": np.array([-(2**63) + 1]),
            "zero": np.array([0]),
            "back": np.array([-1]),
            "flat": np.array([-1]),
            "nothing": np.array(0, np.float32),
            "w": normal(4, 3, 3, 3),
        },
    )
    prepared = assert_prepared(model)
    assert op_types(prepared) == ["Conv"]
    assert prepared.program.nodes[0].integers("pads", ()) == (3, 1, 0, 2)


@pytest.mark.parametrize(
    "line",
    [
        "r = RandomNormalLike (c)",
        "r = Bernoulli (c)",
        "t = Constant <value = bool {1}> () r = Dropout (c, , t)",
    ],
)
def test_random_ops_are_not_folded(line: str) -> None:
    model = ir.from_onnx_text(
        f"{HEADER}network (float[N,2] x) => (float[N,2] y)"
        f"{{ c = Constant <value_floats = [0.5, 0.5]> () {line} y = Add (x, r) }}"
    )
    _ = lift_constants(model)
    _ = fold_constants(model)
    assert len(tuple(model.graph)) == 2


def test_huge_results_are_not_folded() -> None:
    model = network(
        "c = ConstantOfShape (s)\nt = Shape (x)\ny = Add (x, c)",
        {"s": np.array([5000, 5000])},
        inputs="float[5000,5000] x",
        outputs="float[5000,5000] y",
    )
    _ = fold_constants(model)
    assert [node.op_type for node in model.graph] == ["ConstantOfShape", "Add"]


def test_sequences_are_not_folded() -> None:
    model = network(
        "s = SplitToSequence <axis = 0, keepdims = 0> (c)\ne = SequenceAt (s, one)\ny = Add (x, e)",
        {"c": normal(3, 4), "one": np.array(1)},
        inputs="float[N,4] x",
        outputs="float[N,4] y",
    )
    prepared = assert_prepared(model)
    assert op_types(prepared) == ["SplitToSequence", "SequenceAt", "Add"]


def test_types_numpy_lacks_are_not_folded() -> None:
    model = network(
        "b = Cast <to = 16> (c)\nf = Cast <to = 1> (b)\ny = Add (x, f)",
        {"c": normal(4)},
        inputs="float[N,4] x",
        outputs="float[N,4] y",
    )
    assert op_types(assert_prepared(model)) == ["Cast", "Cast", "Add"]


def test_constants_a_caller_may_feed_are_not_folded() -> None:
    model = network("d = Neg (c)\ny = Add (x, d)", {"c": normal(3, 1, 1)})
    model.graph.inputs.append(model.graph.initializers["c"])
    assert op_types(assert_prepared(model)) == ["Neg", "Add"]


def test_constant_output_stays_computed() -> None:
    model = network(
        "z = Neg (c)\ny = Relu (x)", {"c": normal(3)}, outputs="float[N,3,8,8] y, float[3] z"
    )
    assert op_types(assert_prepared(model)) == ["Neg", "Relu"]


def test_a_node_that_fails_is_left_for_the_runtime() -> None:
    model = network("d = Reshape (c, s)\ny = Add (x, d)", {"c": normal(3), "s": np.array([7])})
    assert fold_constants(model) == []


def test_a_wrong_static_output_shape_does_not_fix_the_batch() -> None:
    """Exporters note the traced batch of 1 although the input is open."""
    model = network(
        "s = Shape (x)\nb = Gather <axis = 0> (s, zero)\nt = Concat <axis = 0> (b, rest)\n"
        "f = Reshape (x, t)\ny = Relu (f)",
        {"zero": np.array([0]), "rest": np.array([-1])},
        outputs="float[N,192] y",
    )
    for node in model.graph:
        if node.op_type == "Reshape":
            node.outputs[0].shape = ir.Shape([1, 192])
            node.outputs[0].dtype = ir.DataType.FLOAT
    _ = fold_constants(model)
    assert "Concat" in [node.op_type for node in model.graph]
