"""Ops that move or clamp codes, as nodes on the codes themselves."""

import numpy as np
import onnx_ir as ir

from quantkit.graph.program import Array
from quantkit.graph.surgery import add_constant, constant_array
from quantkit.numerics.affine import QuantParams, quantize

# Since then all of them take 8-bit codes.
_OPSET = 13
_MOVING = frozenset(
    {"DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Reshape", "Slice"}
    | {"SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
_PAD_VALUE = 2


def moves_codes(node: ir.Node, opset: int) -> bool:
    """Whether the op moves or clamps 8-bit codes, bit for bit, in this opset."""
    if opset < _OPSET or node.domain != "":
        return False
    if node.op_type == "Resize":
        return _text(node, "mode", "nearest") == "nearest"
    return node.op_type in _MOVING or node.op_type in ("Clip", "Pad", "Relu")


def moving_node(
    node: ir.Node, codes: ir.Value, scale: ir.Value, zero_point: ir.Value
) -> ir.Node | None:
    """The node on codes: bounds and border values are codes too. A Relu becomes a Clip.

    Args:
        node: A node for which :func:`moves_codes` says yes.
        codes: What it reads.
        scale: Of the codes, a constant scalar; the output's too.
        zero_point: Alike.

    Returns:
        The new node, not yet in the graph; None where a bound is computed.
    """
    op_type, inputs = node.op_type, [codes, *node.inputs[1:]]
    params = _params(scale, zero_point)
    if op_type == "Relu":
        op_type, inputs = "Clip", [codes, _code(node, "min", np.zeros(()), params)]
    elif op_type == "Clip":
        for position, name in ((1, "min"), (2, "max")):
            bound = inputs[position] if position < len(inputs) else None
            if bound is not None:
                array = constant_array(bound)
                if array is None:
                    return None
                inputs[position] = _code(node, name, array, params)
    elif op_type == "Pad" and _text(node, "mode", "constant") == "constant":
        inputs += [None] * (_PAD_VALUE + 1 - len(inputs))
        given = inputs[_PAD_VALUE]
        array = np.zeros(()) if given is None else constant_array(given)
        if array is None:
            return None
        inputs[_PAD_VALUE] = _code(node, "value", array, params)
    return ir.Node(
        "",
        op_type,
        inputs,
        node.attributes.values(),
        num_outputs=len(node.outputs),
        name=node.name,
    )


def _params(scale: ir.Value, zero_point: ir.Value) -> QuantParams:
    scales, zeros = constant_array(scale), constant_array(zero_point)
    assert scales is not None
    assert zeros is not None
    return QuantParams(scales, zeros.astype(np.int32), zeros.dtype)


def _code(node: ir.Node, name: str, real: Array, params: QuantParams) -> ir.Value:
    assert isinstance(node.graph, ir.Graph)
    code = quantize(real.astype(np.float32).reshape(()), params)
    return add_constant(node.graph, f"{node.name}_{name}_quantized", np.asarray(code))


def _text(node: ir.Node, name: str, default: str) -> str:
    return node.attributes[name].as_string() if name in node.attributes else default
