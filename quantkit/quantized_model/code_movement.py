"""Nodes that work on codes as they are: MaxPool, Reshape, Clip ... of a uint8 tensor.

``op(codes)`` becomes ``Q(op(DQ(codes)))`` with the scale and zero point of the codes, which gives
the same codes: dequantizing is monotone, and quantizing undoes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from quantkit.errors import UnsupportedModelError
from quantkit.graph.surgery import add_constant, constant_array, unused_name
from quantkit.quantized_model.qdq_params import (
    check_node,
    constant_codes,
    is_quantize,
    obstacle,
    pair_params,
    read_params,
)

MOVED_INPUTS: Mapping[str, tuple[int, ...] | None] = {
    **dict.fromkeys(
        ("DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity"),
        (0,),
    ),
    **dict.fromkeys(
        ("MaxPool", "Reshape", "Resize", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile"), (0,)
    ),
    **dict.fromkeys(("Transpose", "Unsqueeze"), (0,)),
    "Clip": (0, 1, 2),
    "Concat": None,
    "Pad": (0, 2),
    "Where": (1, 2),
}
"""ONNX ops that move or clamp codes -> the inputs that hold codes; None: all of them."""

READ_AS_REAL = frozenset({"ArgMax", "ArgMin", "Shape", "Size"})
"""Ops whose result is the same for codes as for the real values they stand for."""

_PAD_VALUE = 2


@dataclass(frozen=True, slots=True, eq=False)
class CodeParams:
    """The graph values that hold a code tensor's scale and zero point."""

    scale: ir.Value
    zero_point: ir.Value | None


Known = dict[ir.Value, CodeParams]
"""Code tensors whose parameters are known."""


def dequantized(
    node: ir.Node, position: int, codes: ir.Value, params: CodeParams, axis: int | None = None
) -> ir.Value:
    """The real values of codes that ``node`` reads at ``position``, through a new node before it.

    Args:
        node: The reader.
        position: Only for the new node's name.
        codes: What is dequantized.
        params: Its parameters.
        axis: Of a scale per channel.

    Raises:
        ModelError: The parameters are malformed or not those of the codes; ``node`` is named.
    """
    graph = graph_of(node)
    inputs = [codes, params.scale, *([] if params.zero_point is None else [params.zero_point])]
    attributes = {} if axis is None else {"axis": axis}
    new = ir.node("DequantizeLinear", inputs, attributes, name=node.name)
    # While it has the name of a node that the file holds.
    _check_dequantize(new, codes)
    new.name = f"{node.name}_input_{position}"
    new.outputs[0].name = unused_name(graph, f"{new.name}_real")
    graph.insert_before(node, new)
    return new.outputs[0]


def _check_dequantize(node: ir.Node, codes: ir.Value) -> None:
    check_node(node)
    if obstacle(node) is not None:
        return
    array, writer = constant_array(codes), codes.producer()
    if array is not None:
        constant_codes(node, array, read_params(node))
    elif writer is not None and is_quantize(writer) and obstacle(writer) is None:
        pair_params(writer, node)


def real_name(graph: ir.Graph, codes: ir.Value) -> str:
    """A name for the real values of a code tensor."""
    return unused_name(graph, str(codes.name).removesuffix("_quantized"))


def move_codes(node: ir.Node, known: Known) -> str | None:
    """Let a node that moves codes move their real values, between DQ and Q.

    Returns:
        Why the node cannot do it with codes bit for bit, or None.

    Raises:
        UnsupportedModelError: The op is not known to move codes.
    """
    is_known = node.op_type in MOVED_INPUTS or node.op_type in READ_AS_REAL
    if node.domain != "" or not is_known:
        domain = f"{node.domain}." if node.domain else ""
        raise UnsupportedModelError(
            f"node {node.name!r}: {domain}{node.op_type} on integer codes is not supported; "
            "put DequantizeLinear before it and QuantizeLinear behind it"
        )
    positions = MOVED_INPUTS.get(node.op_type)
    present = [at for at, value in enumerate(node.inputs) if value is not None]
    moved = [at for at in present if positions is None or at in positions]
    params = next(known[value] for at in moved if (value := node.inputs[at]) in known)
    if node.op_type == "Pad":
        moved = _with_pad_value(node, moved, params)
    for position in moved:
        codes = node.inputs[position]
        assert codes is not None
        # All of them are read as codes of the output: other parameters are found out as an error.
        node.replace_input_with(position, dequantized(node, position, codes, params))
    if node.op_type not in READ_AS_REAL:
        outputs = node.outputs if node.op_type == "Split" else node.outputs[:1]
        for output in outputs:
            known[_requantize(node, output, params)] = params
    if node.op_type == "Resize" and _text(node, "mode", "nearest") != "nearest":
        return "interpolates codes, which onnxruntime rounds in its own way; in floats here"
    return None


def _requantize(node: ir.Node, output: ir.Value, params: CodeParams) -> ir.Value:
    """Q behind an output; its readers, and its name, go to the codes."""
    graph = graph_of(node)
    uses = tuple(output.uses())
    inputs = [output, params.scale, *([] if params.zero_point is None else [params.zero_point])]
    quantize = ir.node("QuantizeLinear", inputs, name=f"{output.name}_QuantizeLinear")
    codes = quantize.outputs[0]
    codes.type, codes.shape = output.type, output.shape
    output.type = ir.TensorType(ir.DataType.FLOAT)
    graph.insert_after(node, quantize)
    for use in uses:
        use.node.replace_input_with(use.idx, codes)
    for position, value in enumerate(graph.outputs):
        if value is output:
            graph.outputs[position] = codes
    name, output.name = output.name, real_name(graph, output)
    codes.name = name
    return codes


def _with_pad_value(node: ir.Node, moved: list[int], params: CodeParams) -> list[int]:
    """ONNX pads with the code 0 where no value is given; its real value is seldom 0."""
    if _PAD_VALUE in moved or _text(node, "mode", "constant") != "constant":
        return moved
    zero_point = constant_array(params.zero_point)
    dtype = np.dtype(np.uint8) if zero_point is None else zero_point.dtype
    node.resize_inputs(max(len(node.inputs), _PAD_VALUE + 1))
    value = add_constant(graph_of(node), f"{node.name}_value", np.zeros((), dtype))
    node.replace_input_with(_PAD_VALUE, value)
    return [*moved, _PAD_VALUE]


def graph_of(node: ir.Node) -> ir.Graph:
    """The graph that holds the node."""
    assert isinstance(node.graph, ir.Graph)
    return node.graph


def _text(node: ir.Node, name: str, default: str) -> str:
    return node.attributes[name].as_string() if name in node.attributes else default
