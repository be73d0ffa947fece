"""Constant nodes of every kind, names, open dimensions."""

import numpy as np
import onnx_ir as ir
import pytest

from quantkit.graph.program import Array
from quantkit.passes.lift_constants import lift_constants
from tests.models import network
from tests.passes.checks import assert_prepared, notes_of, op_types

HEADER = '<ir_version: 8, opset_import: ["" : 17]>\n'


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ("value = float[3] {1, 2, 3}", np.array([1, 2, 3], np.float32)),
        ("value = double {0.5}", np.array(0.5)),
        ("value = int8[2] {-1, 1}", np.array([-1, 1], np.int8)),
        ("value_float = 0.5", np.array(0.5, np.float32)),
        ("value_floats = [0.5, 1.5]", np.array([0.5, 1.5], np.float32)),
        ("value_int = 3", np.array(3)),
        ("value_ints = [3, 4]", np.array([3, 4])),
        ('value_string = "a"', np.array(b"a", object)),
        ('value_strings = ["a", "b"]', np.array([b"a", b"b"], object)),
        ('value = string[2] {"a", "b"}', np.array([b"a", b"b"], object)),
    ],
)
def test_each_kind(attribute: str, expected: Array) -> None:
    model = ir.from_onnx_text(
        f"{HEADER}network (float[3] x) => (float[3] y)"
        f"{{ c = Constant <{attribute}> () s = Shape (c) y = Reshape (x, s) }}"
    )
    assert lift_constants(model) == []
    value = model.graph.initializers["c"]
    assert value.const_value is not None
    array = value.const_value.numpy()
    np.testing.assert_array_equal(array, expected)
    assert expected.dtype.hasobject or array.dtype == expected.dtype
    assert value.dtype == value.const_value.dtype


def test_constant_that_is_an_output_stays() -> None:
    model = ir.from_onnx_text(
        f"{HEADER}network (float[N,3] x) => (float[N,3] y, float[1] c)"
        "{ c = Constant <value_floats = [2.0]> () y = Mul (x, c) }"
    )
    prepared = assert_prepared(model)
    (note,) = notes_of(prepared, "lift_constants")
    assert (note.applied, note.message) == (False, "is a graph output")
    assert op_types(prepared) == ["Constant", "Mul"]


def test_strings_are_not_folded() -> None:
    model = ir.from_onnx_text(
        f"{HEADER}network (float[N,2] x) => (float[N,2] y)"
        '{ c = Constant <value_strings = ["1", "2"]> () f = Cast <to = 1> (c) y = Add (x, f) }'
    )
    assert op_types(assert_prepared(model)) == ["Cast", "Add"]


def test_every_node_gets_a_name_of_its_own() -> None:
    model = network("[a] b = Relu (x)\n[a] c = Relu (b)\n a = Relu (c)\n [a_2] y = Relu (a)", {})
    _ = lift_constants(model)
    assert [node.name for node in model.graph] == ["a", "a_3", "a_4", "a_2"]


def test_nodes_out_of_order_are_sorted() -> None:
    model = network("y = Relu (a)\na = Neg (x)", {})
    _ = lift_constants(model)
    assert [node.op_type for node in model.graph] == ["Neg", "Relu"]


def test_negative_dimensions_are_open() -> None:
    """Paddle writes -1; folded as a number it would fix the batch."""
    model = network(
        "s = Shape (x)\nf = Reshape (x, s)\ny = Relu (f)", {}, outputs="float[A,B,C,D] y"
    )
    model.graph.inputs[0].shape = ir.Shape([-1, 3, -1, -1])
    prepared = assert_prepared(model)
    assert prepared.program.inputs[0].shape == (None, 3, None, None)
    assert op_types(prepared)[0] == "Shape"
