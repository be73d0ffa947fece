"""The edits that passes and exporters share."""

import numpy as np
import onnx_ir as ir
import pytest

from quantkit.graph.surgery import (
    add_constant,
    bypass,
    constant_array,
    known_dimension,
    replace_constant_input,
    replace_node,
    sole_consumer,
    taken_names,
    unused_name,
)
from tests.models import network, normal


def nodes(model: ir.Model) -> dict[str, ir.Node]:
    return {node.name or "": node for node in model.graph}


def test_constants_are_told_from_values_and_inputs() -> None:
    model = network("[a] y = Conv (x, w, b)", {"w": normal(3, 3, 1, 1), "b": normal(3)})
    model.graph.inputs.append(model.graph.initializers["b"])
    x, w, b = nodes(model)["a"].inputs
    assert constant_array(None) is None
    assert constant_array(x) is None
    assert constant_array(b) is None
    np.testing.assert_array_equal(constant_array(w), normal(3, 3, 1, 1))


def test_a_new_constant_has_a_name_of_its_own_and_its_own_memory() -> None:
    model = network("t = Relu (x)\ny = Neg (t)", {"w": normal(2)})
    array = normal(3)
    names = [add_constant(model.graph, name, array).name for name in ("w", "t", "x", "w", "new")]
    assert names == ["w_2", "t_2", "x_2", "w_3", "new"]
    array[:] = 0
    np.testing.assert_array_equal(constant_array(model.graph.initializers["new"]), normal(3))


def test_names_inside_branches_are_taken_too() -> None:
    model = network(
        "y = If (k) <then_branch = a () => (float[N] t) { t = Relu (x) },"
        " else_branch = b () => (float[N] e) { e = Neg (x) }>",
        {},
        inputs="float[N] x, bool k",
        outputs="float[N] y",
    )
    assert unused_name(model.graph, "t") == "t_2"
    taken = taken_names(model.graph)
    assert [unused_name(model.graph, "t", taken) for _ in range(2)] == ["t_2", "t_3"]


def test_replacing_a_shared_constant_leaves_the_other_reader() -> None:
    model = network("[a] t = Mul (x, w)\n[b] y = Mul (t, w)", {"w": normal(3, 1, 1)})
    replace_constant_input(nodes(model)["a"], 1, np.zeros((3, 1, 1), np.float32), "new")
    assert [node.inputs[1].name for node in model.graph if node.inputs[1]] == ["new", "w"]
    replace_constant_input(nodes(model)["b"], 1, np.ones((3, 1, 1), np.float32), "other")
    assert [node.inputs[1].name for node in model.graph if node.inputs[1]] == ["new", "w"]
    np.testing.assert_array_equal(constant_array(model.graph.initializers["w"]), np.ones((3, 1, 1)))


def test_replacing_a_constant_that_is_an_output_keeps_the_output() -> None:
    model = network("[a] y = Mul (x, w)", {"w": normal(3, 1, 1)})
    model.graph.outputs.append(model.graph.initializers["w"])
    replace_constant_input(nodes(model)["a"], 1, np.zeros((3, 1, 1), np.float32), "new")
    np.testing.assert_array_equal(constant_array(model.graph.initializers["w"]), normal(3, 1, 1))


def test_an_absent_input_is_appended() -> None:
    model = network("[a] y = Conv (x, w)", {"w": normal(3, 3, 1, 1)})
    replace_constant_input(nodes(model)["a"], 2, normal(3), "bias")
    assert [value.name for value in nodes(model)["a"].inputs if value] == ["x", "w", "bias"]


def test_sole_consumer() -> None:
    model = network("[a] t = Relu (x)\n[b] u = Neg (t)\n[c] y = Add (u, u)", {})
    found = nodes(model)
    assert sole_consumer(found["a"].outputs[0]) is found["b"]
    assert sole_consumer(found["b"].outputs[0]) is None
    assert sole_consumer(found["c"].outputs[0]) is None


@pytest.mark.parametrize("source", ["x", "t"])
def test_bypass_keeps_the_output(source: str) -> None:
    model = network(f"[a] t = Relu (x)\n[b] y = Neg ({source})", {}, outputs="float[N,3,8,8] y")
    node = nodes(model)["b"]
    assert node.inputs[0] is not None
    bypass(node, node.inputs[0])
    (output,) = model.graph.outputs
    assert (output.name, str(output.shape)) == ("y", "[N,3,8,8]")
    assert output.producer() is not None


def test_replace_node_keeps_name_type_and_shape() -> None:
    model = network("[a] y = Relu (x)", {}, outputs="float[N,3,8,8] y")
    old = nodes(model)["a"]
    replace_node(old, ir.node("Neg", [old.inputs[0]], name="new"))
    (output,) = model.graph.outputs
    assert (output.name, str(output.shape), output.dtype) == ("y", "[N,3,8,8]", ir.DataType.FLOAT)


def test_known_dimension() -> None:
    value = network("y = Relu (x)", {}).graph.inputs[0]
    assert [known_dimension(value, axis) for axis in range(5)] == [None, 3, 8, 8, None]
    assert known_dimension(None, 0) is None
