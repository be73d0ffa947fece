"""Ops that move values and change none: codes move, parameters stay.

Where another tool's model gives the output parameters of its own, the moved codes are converted by
a table.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from quantkit.errors import UnsupportedOpError
from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import IntegerArray
from quantkit.numerics.code_table import requantize_codes
from quantkit.ops.contract import OPS, Kernel, Lowering, Op, QuantRule

Move = Callable[[Array, Node, Array | None], Array]
"""(values, node, constant second input) -> moved values."""


def flatten(x: Array, node: Node, _: Array | None) -> Array:
    """ONNX Flatten: two axes, split at ``axis``."""
    axis = node.integer("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), -1)


def reshape(x: Array, node: Node, shape: Array | None) -> Array:
    """ONNX Reshape: -1 is inferred, 0 copies the input's size unless ``allowzero``."""
    assert shape is not None
    sizes = [int(size) for size in shape]
    if not node.integer("allowzero", 0):
        sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


def transpose(x: Array, node: Node, _: Array | None) -> Array:
    """ONNX Transpose: axes reversed where ``perm`` is absent."""
    return np.transpose(x, node.integers("perm", tuple(range(x.ndim))[::-1]))


def squeeze(x: Array, node: Node, axes: Array | None) -> Array:
    """ONNX Squeeze: the given axes, or every axis of size 1."""
    given = _axes(node, axes)
    return np.squeeze(x) if given is None else np.squeeze(x, given)


def unsqueeze(x: Array, node: Node, axes: Array | None) -> Array:
    """ONNX Unsqueeze: axes of the *result*."""
    given = _axes(node, axes)
    if given is None:
        raise UnsupportedOpError(f"{node.name}: Unsqueeze has no axes")
    return np.expand_dims(x, given)


def identity(x: Array, node: Node, _: Array | None) -> Array:
    """ONNX Identity."""
    return x


class Movement(Op):
    """An op that moves values; ``move`` works on codes and floats alike.

    Args:
        move: The function of the op.
        has_constant: Whether input 1 (a shape or axes) may be present and must be constant.
    """

    def __init__(self, move: Move, *, has_constant: bool = False) -> None:
        self.rule = QuantRule("same_as_input", data_inputs=(0,))
        self._move = move
        self._has_constant = has_constant

    def refusal(self, node: Node, constants: Sequence[Array | None]) -> str | None:
        """Why this node cannot have an integer kernel, or None."""
        if self._has_constant and len(node.inputs) > 1 and node.inputs[1] and constants[1] is None:
            return "the shape or axes are computed, not a constant"
        return None

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Move the values."""
        assert inputs[0] is not None
        return (self._move(inputs[0], node, inputs[1] if len(inputs) > 1 else None),)

    def lower(self, lowering: Lowering) -> Kernel:
        """Move the codes."""
        node, constant = lowering.node, lowering.array(1)
        convert = requantize_codes(lowering.params(0), lowering.outputs[0])

        def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
            return (convert(np.ascontiguousarray(self._move(inputs[0], node, constant))),)

        return kernel


def _axes(node: Node, axes: Array | None) -> tuple[int, ...] | None:
    if axes is not None:
        return tuple(int(axis) for axis in axes.reshape(-1))
    return node.integers("axes", ()) or None


OPS.register("Flatten")(Movement(flatten))
OPS.register("Reshape")(Movement(reshape, has_constant=True))
OPS.register("Transpose")(Movement(transpose))
OPS.register("Squeeze")(Movement(squeeze, has_constant=True))
OPS.register("Unsqueeze")(Movement(unsqueeze, has_constant=True))
OPS.register("Identity")(Movement(identity))
