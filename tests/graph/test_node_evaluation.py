"""Single nodes on arrays."""

import numpy as np
import pytest

from quantkit.errors import UnsupportedOpError
from quantkit.graph.node_evaluation import evaluate_node
from quantkit.graph.program import Array, AttributeValue, Node
from tests.models import normal


def node(
    op_type: str, inputs: int, outputs: tuple[str, ...] = ("y",), **attributes: AttributeValue
) -> Node:
    names = tuple(f"i{position}" for position in range(inputs))
    return Node("it", op_type, "", 17, names, outputs, attributes)


def test_attributes_of_every_kind() -> None:
    x = normal(2, 3)
    (y,) = evaluate_node(node("Transpose", 1, perm=(1, 0)), [x])
    np.testing.assert_array_equal(y, x.T)
    (y,) = evaluate_node(node("Cast", 1, to=7), [x])
    assert y.dtype == np.int64
    (y,) = evaluate_node(node("LeakyRelu", 1, alpha=0.5), [x])
    np.testing.assert_array_equal(y, np.where(x < 0, x / 2, x))
    fill = np.array([3], np.int8)
    (y,) = evaluate_node(node("ConstantOfShape", 1, value=fill), [np.array([2, 2])])
    np.testing.assert_array_equal(y, np.full((2, 2), 3, np.int8))
    (y,) = evaluate_node(node("Resize", 3, mode="nearest"), [x, None, np.array([2, 1], np.float32)])
    np.testing.assert_array_equal(y, np.repeat(x, 2, axis=0))


def test_outputs_that_are_left_out() -> None:
    array = np.array([2.0, 1.0, 2.0])
    values, indices, inverse = evaluate_node(node("Unique", 1, ("y", "", "inverse")), [array])
    assert indices.size == 0
    np.testing.assert_array_equal(values[inverse], array)


@pytest.mark.parametrize(
    ("op_type", "array", "reason"),
    [
        ("NoSuchOp", normal(2), "NoSuchOp"),
        ("Cast", np.array(["a"], object), "it reads strings"),
        ("SplitToSequence", normal(2), "it gives no array of numbers"),
    ],
)
def test_what_cannot_be_evaluated(op_type: str, array: Array, reason: str) -> None:
    with pytest.raises(UnsupportedOpError, match=r"node 'it' \(.*cannot be evaluated") as error:
        _ = evaluate_node(node(op_type, 1), [array])
    assert reason in str(error.value)


def test_types_that_numpy_lacks() -> None:
    with pytest.raises(UnsupportedOpError, match="cannot be evaluated"):
        _ = evaluate_node(node("Cast", 1, to=16), [normal(2)])
