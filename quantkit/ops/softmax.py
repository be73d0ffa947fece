"""Softmax over one axis, or before opset 13 over all axes from ``axis`` on."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from quantkit.errors import UnsupportedOpError
from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import IntegerArray
from quantkit.ops.contract import OPS, Kernel, Lowering, Op, QuantRule, real_input
from quantkit.reference.activations import softmax

_COERCING_OPSETS_END = 13
Number = TypeVar("Number", bound=np.generic)


class Softmax(Op):
    """``exp(x) / sum(exp(x))`` (ONNX Softmax); the range of probabilities is fixed."""

    rule = QuantRule("fixed", fixed_range=(0.0, 1.0))

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Float softmax."""
        return (_along_rows(node, real_input(inputs, 0), softmax),)

    def lower(self, lowering: Lowering) -> Kernel:
        """Softmax of rows of codes."""
        node, y = lowering.node, lowering.outputs[0]
        try:
            rows = lowering.arithmetic.softmax(
                lowering.params(0), y, strict_integer=lowering.strict_integer
            )
        except UnsupportedOpError as error:
            raise UnsupportedOpError(f"node {node.name!r} ({node.op_type}): {error}") from error

        def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
            x_q = inputs[0]
            if x_q.size == 0:
                return (np.empty(x_q.shape, y.dtype),)
            return (_along_rows(node, x_q, rows),)

        return kernel


def _along_rows(
    node: Node,
    x: npt.NDArray[Number],
    function: Callable[[npt.NDArray[Number]], npt.NDArray[Number]],
) -> npt.NDArray[Number]:
    """Apply ``function`` to rows: the op's axis last, or coerced to two axes (opset < 13)."""
    if node.version < _COERCING_OPSETS_END:
        axis = node.integer("axis", 1) % max(1, x.ndim)
        rows = x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))
        return function(rows).reshape(x.shape)
    axis = node.integer("axis", -1)
    return np.asanyarray(np.moveaxis(function(np.moveaxis(x, axis, -1)), -1, axis), order="C")


OPS.register("Softmax")(Softmax())
