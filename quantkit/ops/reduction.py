"""ArgMax, ArgMin, ReduceMax, ReduceMin and ReduceMean over codes.

Codes are ordered as the values they stand for, so maxima, minima and their positions are found on
codes. Values that share a code are equal for ArgMax and ArgMin: the first (or last) one wins. A
mean is the requantized integer sum, ``Arithmetic.average_requantizer``.

onnxruntime 1.32 runs ArgMax, ReduceMax and ReduceMin on 8-bit codes. It computes ArgMin on
dequantized values (the indices are the same) and ReduceMean too (at most 1 code away).
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import IntegerArray
from quantkit.numerics.code_table import requantize_codes
from quantkit.ops.contract import OPS, Kernel, Lowering, Op, QuantRule, optional_input, real_input
from quantkit.ops.movement import computed_operand
from quantkit.ops.pooling import sums
from quantkit.ops.weights import require_factor

_AXES = 1

Search = Callable[[Array, int], Array]
"""(values, axis) -> the position of the first largest (or smallest) value, the axis kept."""

Extreme = Callable[[Array, tuple[int, ...]], Array]
"""(values, axes) -> the largest (or smallest) value, the axes kept."""


class ArgExtreme(Op):
    """The position of the largest or smallest value along one axis (ONNX ArgMax, ArgMin).

    Args:
        search: Finds the first.
        runs_on_codes: Whether onnxruntime runs the op on codes.
    """

    rule = QuantRule("plain")

    def __init__(self, search: Search, *, runs_on_codes: bool) -> None:
        self._search, self._runs_on_codes = search, runs_on_codes

    def has_onnxruntime_kernel(self, node: Node) -> bool:
        """Whether onnxruntime runs it on codes."""
        return self._runs_on_codes

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Positions of float values."""
        return (self._positions(real_input(inputs, 0), node),)

    def lower(self, lowering: Lowering) -> Kernel:
        """Positions of codes: int64, no quantized value."""
        return lambda inputs: (self._positions(inputs[0], lowering.node),)

    def _positions(self, x: Array, node: Node) -> Array:
        axis = node.integer("axis", 0)
        if node.integer("select_last_index", 0):
            found: Array = x.shape[axis] - 1 - self._search(np.flip(x, axis), axis)
        else:
            found = self._search(x, axis)
        return found if node.integer("keepdims", 1) else np.squeeze(found, axis)


class ReduceExtreme(Op):
    """The largest or smallest value over axes (ONNX ReduceMax, ReduceMin, GlobalMaxPool).

    Args:
        extreme: The function.
        is_global_pool: Whether the axes are the spatial ones instead of those of the node.
    """

    rule = QuantRule("same_as_input", data_inputs=(0,))

    def __init__(self, extreme: Extreme, *, is_global_pool: bool = False) -> None:
        self._extreme, self._is_global_pool = extreme, is_global_pool

    def refusal(self, node: Node, constants: Sequence[Array | None]) -> str | None:
        """Why this node cannot have an integer kernel, or None."""
        return computed_operand(node, constants)

    def has_onnxruntime_kernel(self, node: Node) -> bool:
        """Whether onnxruntime runs it on codes."""
        return not self._is_global_pool

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """The extreme of float values."""
        return (self._reduced(real_input(inputs, 0), node, optional_input(inputs, _AXES)),)

    def lower(self, lowering: Lowering) -> Kernel:
        """The extreme of the codes."""
        node, given = lowering.node, lowering.array(_AXES)
        convert = requantize_codes(lowering.params(0), lowering.outputs[0])
        return lambda inputs: (convert(self._reduced(inputs[0], node, given)),)

    def _reduced(self, x: Array, node: Node, given: Array | None) -> Array:
        if self._is_global_pool:
            return self._extreme(x, tuple(range(2, x.ndim)))
        axes = reduced_axes(node, given, x.ndim)
        return _without(self._extreme(x, axes), axes, node)


class ReduceMean(Op):
    """The mean over axes (ONNX ReduceMean)."""

    rule = QuantRule("own", data_inputs=(0,))

    def refusal(self, node: Node, constants: Sequence[Array | None]) -> str | None:
        """Why this node cannot have an integer kernel, or None."""
        return computed_operand(node, constants)

    def has_onnxruntime_kernel(self, node: Node) -> bool:
        """Never: onnxruntime averages dequantized values."""
        return False

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Float mean."""
        x = real_input(inputs, 0)
        axes = reduced_axes(node, optional_input(inputs, _AXES), x.ndim)
        return (_without(np.asarray(np.mean(x, axis=axes, keepdims=True)), axes, node),)

    def lower(self, lowering: Lowering) -> Kernel:
        """Sums of the codes, requantized by how many there are."""
        node, given = lowering.node, lowering.array(_AXES)
        x = lowering.params(0)
        require_factor(node, x)
        average = lowering.arithmetic.average_requantizer(x, lowering.outputs[0])

        def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
            x_q = inputs[0]
            axes = reduced_axes(node, given, x_q.ndim)
            count = math.prod(x_q.shape[axis] for axis in axes)
            return (_without(average(sums(x_q, axes), count), axes, node),)

        return kernel


def reduced_axes(node: Node, given: Array | None, ndim: int) -> tuple[int, ...]:
    """The axes a Reduce op works on: an input since opset 18 (ReduceMean, -Max, -Min), or all."""
    axes = node.integers("axes", ()) if given is None else tuple(int(a) for a in given.reshape(-1))
    if not axes:
        return () if node.integer("noop_with_empty_axes", 0) else tuple(range(ndim))
    return tuple(axis % ndim for axis in axes)


def _without(kept: Array, axes: tuple[int, ...], node: Node) -> Array:
    return kept if node.integer("keepdims", 1) else np.squeeze(kept, axes)


def _maximum(x: Array, axes: tuple[int, ...]) -> Array:
    return np.asarray(np.max(x, axis=axes, keepdims=True))


def _minimum(x: Array, axes: tuple[int, ...]) -> Array:
    return np.asarray(np.min(x, axis=axes, keepdims=True))


def _first_largest(x: Array, axis: int) -> Array:
    return np.asarray(np.argmax(x, axis, keepdims=True))


def _first_smallest(x: Array, axis: int) -> Array:
    return np.asarray(np.argmin(x, axis, keepdims=True))


OPS.register("ArgMax")(ArgExtreme(_first_largest, runs_on_codes=True))
OPS.register("ArgMin")(ArgExtreme(_first_smallest, runs_on_codes=False))
OPS.register("ReduceMax")(ReduceExtreme(_maximum))
OPS.register("ReduceMin")(ReduceExtreme(_minimum))
OPS.register("GlobalMaxPool")(ReduceExtreme(_maximum, is_global_pool=True))
OPS.register("ReduceMean")(ReduceMean())
