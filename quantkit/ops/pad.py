"""Pad: constant, edge, reflected or wrapped borders; the constant 0.0 becomes the zero point.

Negative pads crop; an axis is cropped first and then padded, so that edge, reflect and wrap repeat
what is left, as onnxruntime 1.32 does. It runs Pad on dequantized values; the codes are the same.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from quantkit.errors import ShapeMismatchError
from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import IntegerArray, quantize
from quantkit.numerics.code_table import requantize_codes
from quantkit.ops.contract import OPS, Kernel, Lowering, Op, QuantRule, optional_input, real_input

Number = TypeVar("Number", bound=np.generic)

_MODES = ("constant", "edge", "reflect", "wrap")
_PADS, _VALUE, _AXES = 1, 2, 3


class Pad(Op):
    """Widen or crop a tensor at its borders (ONNX Pad)."""

    rule = QuantRule("same_as_input", data_inputs=(0,))

    def refusal(self, node: Node, constants: Sequence[Array | None]) -> str | None:
        """Why this node cannot have an integer kernel, or None."""
        if node.text("mode", "constant") not in _MODES:
            return f"padding mode {node.text('mode', 'constant')!r} is not supported"
        for position, name in ((_PADS, "pads"), (_VALUE, "value"), (_AXES, "axes")):
            is_given = position < len(node.inputs) and node.inputs[position]
            if is_given and constants[position] is None:
                return f"the {name} are computed, not a constant"
        return None

    def has_onnxruntime_kernel(self, node: Node) -> bool:
        """Never: onnxruntime pads dequantized values."""
        return False

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Float padding."""
        value = _constant_value(node, optional_input(inputs, _VALUE))
        return (
            _pad(
                real_input(inputs, 0),
                node,
                optional_input(inputs, _PADS),
                optional_input(inputs, _AXES),
                value,
            ),
        )

    def lower(self, lowering: Lowering) -> Kernel:
        """Pad the codes."""
        node = lowering.node
        pads, axes = lowering.array(_PADS), lowering.array(_AXES)
        value = _constant_value(node, lowering.array(_VALUE))
        y = lowering.outputs[0]
        code = int(quantize(np.array([value], np.float32), y)[0])
        convert = requantize_codes(lowering.params(0), y)

        def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
            return (_pad(convert(inputs[0]), node, pads, axes, code),)

        return kernel


def _sizes(node: Node, pads: Array | None) -> tuple[int, ...]:
    """Before opset 11 an attribute, then input 1."""
    return node.integers("pads", ()) if pads is None else tuple(int(size) for size in pads)


def _constant_value(node: Node, value: Array | None) -> float:
    """Before opset 11 an attribute, then input 2; absent means 0."""
    return node.number("value", 0.0) if value is None else float(value.reshape(-1)[0])


def _pad(
    x: npt.NDArray[Number], node: Node, pads: Array | None, axes: Array | None, value: float
) -> npt.NDArray[Number]:
    sizes = _sizes(node, pads)
    chosen = range(x.ndim) if axes is None else [int(axis) for axis in axes]
    widths = [(0, 0)] * x.ndim
    interior = [slice(None)] * x.ndim
    for index, axis in enumerate(chosen):
        before, after = sizes[index], sizes[len(sizes) // 2 + index]
        interior[axis] = slice(max(-before, 0), x.shape[axis] - max(-after, 0))
        widths[axis] = (max(before, 0), max(after, 0))
    x = x[tuple(interior)]
    mode = node.text("mode", "constant")
    if mode == "constant":
        return np.pad(x, widths, mode="constant", constant_values=value)
    for axis, width in enumerate(widths):
        size = x.shape[axis]
        if (mode == "reflect" and max(width) >= size) or (max(width) and not size):
            raise ShapeMismatchError(
                f"{node.name}: Pad cannot take {max(width)} values ({mode}) from axis {axis}, "
                f"of which {size} are left"
            )
    if mode == "edge":
        return np.pad(x, widths, mode="edge")
    return np.pad(x, widths, mode="reflect" if mode == "reflect" else "wrap")


OPS.register("Pad")(Pad())
