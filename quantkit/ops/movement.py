"""Ops that move values and change none: codes move, parameters stay.

Where another tool's model gives the output parameters of its own, the moved codes are converted by
:func:`requantize_codes`. Between a DequantizeLinear and a QuantizeLinear of equal parameters
onnxruntime 1.32 drops both and moves the codes, for every op that is registered through
:class:`Movement` with ``is_moved_by_onnxruntime``; the others it runs on dequantized values, which
gives the same codes.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from quantkit.errors import UnsupportedOpError
from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import IntegerArray
from quantkit.numerics.code_table import requantize_codes
from quantkit.ops.contract import OPS, Kernel, Lowering, Op, QuantRule, optional_input

Constants = Sequence[Array | None]
"""The inputs after the first: shapes, axes, indices, as arrays; None where absent."""

Move = Callable[[Array, Node, Constants], Array | list[Array]]
"""(values, node, constants) -> moved values, a list where the op has several outputs."""


def flatten(x: Array, node: Node, _: Constants) -> Array:
    """ONNX Flatten: two axes, split at ``axis``."""
    axis = node.integer("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def reshape(x: Array, node: Node, constants: Constants) -> Array:
    """ONNX Reshape: -1 is inferred, 0 copies the input's size unless ``allowzero``."""
    sizes = list(required(node, constants, 0))
    if not node.integer("allowzero", 0):
        sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


def transpose(x: Array, node: Node, _: Constants) -> Array:
    """ONNX Transpose: axes reversed where ``perm`` is absent."""
    return np.transpose(x, node.integers("perm", tuple(range(x.ndim))[::-1]))


def squeeze(x: Array, node: Node, constants: Constants) -> Array:
    """ONNX Squeeze: the given axes, or every axis of size 1."""
    given = _axes(node, constants)
    return np.squeeze(x) if given is None else np.squeeze(x, given)


def unsqueeze(x: Array, node: Node, constants: Constants) -> Array:
    """ONNX Unsqueeze: axes of the *result*."""
    given = _axes(node, constants)
    if given is None:
        raise UnsupportedOpError(f"{node.name}: Unsqueeze has no axes")
    return np.expand_dims(x, given)


def identity(x: Array, node: Node, _: Constants) -> Array:
    """ONNX Identity."""
    return x


class Movement(Op):
    """An op that moves values; its function works on codes and floats alike.

    Args:
        move: What the op does to an array of any dtype.
        is_moved_by_onnxruntime: Whether onnxruntime drops the Q/DQ nodes around it (8-bit codes,
            equal parameters).
    """

    def __init__(self, move: Move, *, is_moved_by_onnxruntime: bool = True) -> None:
        self.rule = QuantRule("same_as_input", data_inputs=(0,))
        self._move = move
        self._is_moved_by_onnxruntime = is_moved_by_onnxruntime

    def refusal(self, node: Node, constants: Sequence[Array | None]) -> str | None:
        """Why this node cannot have an integer kernel, or None."""
        return computed_operand(node, constants)

    def has_onnxruntime_kernel(self, node: Node) -> bool:
        """Whether onnxruntime moves the codes."""
        return self._is_moved_by_onnxruntime

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Move the values."""
        assert inputs[0] is not None
        return tuple(self._moved(inputs[0], node, inputs[1:]))

    def lower(self, lowering: Lowering) -> Kernel:
        """Move the codes; only of the outputs that are present."""
        node = lowering.node
        constants = [lowering.array(position) for position in range(1, len(node.inputs))]
        converters = [requantize_codes(lowering.params(0), y) for y in lowering.outputs]

        def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
            moved = self._moved(inputs[0], node, constants)
            present = [y for y, name in zip(moved, node.outputs, strict=True) if name]
            return tuple(
                convert(np.asanyarray(y, order="C"))
                for y, convert in zip(present, converters, strict=True)
            )

        return kernel

    def _moved(self, x: Array, node: Node, constants: Constants) -> list[Array]:
        moved = self._move(x, node, constants)
        return moved if isinstance(moved, list) else [moved]


def computed_operand(node: Node, constants: Sequence[Array | None]) -> str | None:
    """Why an input after the first, which must be a constant, refuses the node; or None."""
    for name, constant in zip(node.inputs[1:], constants[1:], strict=True):
        if name and constant is None:
            return f"its input {name!r} (a shape, axes, indices ...) is computed, not a constant"
    return None


def required(node: Node, constants: Constants, position: int) -> tuple[int, ...]:
    """The integers of a constant that has no default.

    Raises:
        UnsupportedOpError: It is absent.
    """
    given = optional(constants, position)
    if given is None:
        raise UnsupportedOpError(f"{node.name}: {node.op_type} lacks its input {position + 1}")
    return given


def optional(constants: Constants, position: int) -> tuple[int, ...] | None:
    """The integers of a constant, or None where absent."""
    array = optional_input(constants, position)
    return None if array is None else tuple(int(value) for value in array.reshape(-1))


def _axes(node: Node, constants: Constants) -> tuple[int, ...] | None:
    """An input since opset 13, before that an attribute."""
    given = optional(constants, 0)
    return given if given is not None else node.integers("axes", ()) or None


OPS.register("Flatten")(Movement(flatten))
OPS.register("Reshape")(Movement(reshape))
OPS.register("Transpose")(Movement(transpose))
OPS.register("Squeeze")(Movement(squeeze))
OPS.register("Unsqueeze")(Movement(unsqueeze))
OPS.register("Identity")(Movement(identity))
