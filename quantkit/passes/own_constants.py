"""Every weight and bias belongs to one node; every Conv and Gemm has a bias; Gemm is plain.

Two nodes that share a weight may need different scales, and a bias is stored at the scale of its
node's input; a copy for each keeps that simple.
A zero bias changes nothing and gives corrections a place.
"""

import numpy as np
import onnx_ir as ir

from quantkit.graph.model_io import node_of
from quantkit.graph.program import Array
from quantkit.graph.surgery import add_constant, constant_array, replace_constant_input
from quantkit.ops.contract import OPS
from quantkit.passes.note import PassNote

_BIAS_FREE_OPS = ("Conv", "Gemm")


def own_constants(model: ir.Model) -> list[PassNote]:
    """Give every weighted node its own weight and bias; one note per copied weight."""
    notes: list[PassNote] = []
    for node in model.graph:
        if node.domain != "" or node.op_type not in OPS:
            continue
        rule = OPS[node.op_type].rule
        for position in (rule.weight, rule.bias):
            if position is None or position >= len(node.inputs):
                continue
            value = node.inputs[position]
            array = constant_array(value)
            if value is not None and array is not None and len(value.uses()) > 1:
                name = f"{node.name}.{'weight' if position == rule.weight else 'bias'}"
                node.replace_input_with(position, add_constant(model.graph, name, array))
                if position == rule.weight:
                    message = f"shares {value.name}: has its own copy"
                    notes.append(
                        PassNote("own_constants", node.name or "", node.op_type, True, message)
                    )
        if node.op_type == "Gemm":
            _make_plain(node)
        if node.op_type in _BIAS_FREE_OPS:
            _add_zero_bias(model.graph, node)
    return notes


def _make_plain(node: ir.Node) -> None:
    """``alpha A B + beta C`` as ``A B' + C'`` with C' one row, where B and C are constants."""
    alpha = node.attributes["alpha"].as_float() if "alpha" in node.attributes else 1.0
    beta = node.attributes["beta"].as_float() if "beta" in node.attributes else 1.0
    weight = constant_array(node.inputs[1])
    if weight is None or weight.dtype.kind != "f":
        return
    bias = constant_array(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is not None:
        channels = _output_channels(node, weight)
        is_row = bias.ndim < 2 or bias.shape[0] == 1
        if not is_row or bias.size not in (1, channels):
            return  # a matrix or column C stays as it is, and the Gemm stays float
        row = np.broadcast_to(bias.reshape(-1) * np.asarray(beta, bias.dtype), (channels,))
        if bias.shape != row.shape or beta != 1.0:
            replace_constant_input(node, 2, np.array(row), f"{node.name}.bias")
            node.attributes["beta"] = ir.AttrFloat32("beta", 1.0)
    elif len(node.inputs) > 2 and node.inputs[2] is not None:
        return
    if alpha != 1.0:
        scaled = weight * np.asarray(alpha, weight.dtype)
        replace_constant_input(node, 1, scaled, f"{node.name}.weight")
        node.attributes["alpha"] = ir.AttrFloat32("alpha", 1.0)


def _output_channels(node: ir.Node, weight: Array) -> int:
    axis = OPS[node.op_type].weight_axis(node_of(node, {}), weight.ndim)
    return int(weight.shape[axis])


def _add_zero_bias(graph: ir.Graph, node: ir.Node) -> None:
    weight = constant_array(node.inputs[1])
    if weight is None or (len(node.inputs) > 2 and node.inputs[2] is not None):
        return
    zeros = np.zeros(_output_channels(node, weight), weight.dtype)
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    node.replace_input_with(2, add_constant(graph, f"{node.name}.bias", zeros))
    if node.op_type == "Gemm":
        node.attributes["beta"] = ir.AttrFloat32("beta", 1.0)
