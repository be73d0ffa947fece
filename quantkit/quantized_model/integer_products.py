"""ConvInteger and MatMulInteger: products of codes whose int32 sums are the result.

``sum (x_q - z_x) (w_q - z_w)`` is a Conv or MatMul whose output codes are int32 with scale 1 and
zero point 0. The weight gets the scale ``1 / s_x``, so that the real values agree with that; a
Cast of the sums to float is a DequantizeLinear.
"""

import numpy as np
import onnx_ir as ir

from quantkit.graph.surgery import add_constant, constant_array, replace_node
from quantkit.quantized_model.code_movement import (
    CodeParams,
    Known,
    dequantized,
    graph_of,
    real_name,
)

INTEGER_PRODUCTS = {"ConvInteger": "Conv", "MatMulInteger": "MatMul"}
"""The ops and what they compute."""

_CODE_TYPES = (ir.DataType.UINT8, ir.DataType.INT8)


def rewrite_integer_product(node: ir.Node, known: Known) -> None:
    """DQ -> Conv or MatMul -> Q; unchanged where the origin of the codes is not known.

    Args:
        node: A ConvInteger or MatMulInteger.
        known: Parameters of code tensors; those of the sums are added.
    """
    graph = graph_of(node)
    x, weight, x_zero, weight_zero = (*node.inputs, None, None)[:4]
    codes = constant_array(weight)
    if x is None or weight is None or codes is None:
        return
    if any(zero is not None and constant_array(zero) is None for zero in (x_zero, weight_zero)):
        return
    params = known.get(x)
    if params is None and not (x.is_graph_input() and x.dtype in _CODE_TYPES):
        return
    x_scale = np.ones((), np.float32) if params is None else constant_array(params.scale)
    if x_scale is None or x_scale.size != 1:
        return
    if x_zero is None:
        known_zero = None if params is None else constant_array(params.zero_point)
        dtype = x.dtype.numpy() if x.dtype is not None else np.dtype(np.uint8)
        zero = np.zeros((), dtype if known_zero is None else known_zero.dtype)
        x_zero = add_constant(graph, f"{node.name}_x_zero_point", zero)
    if weight_zero is None:
        zero = np.zeros((), codes.dtype)
        weight_zero = add_constant(graph, f"{node.name}_w_zero_point", zero)
    zeros = constant_array(weight_zero)
    assert zeros is not None
    scale = np.full(zeros.shape, np.float32(1) / np.float32(x_scale.reshape(())), np.float32)
    if params is None:
        stated = CodeParams(add_constant(graph, f"{node.name}_x_scale", x_scale), x_zero)
    else:
        stated = CodeParams(params.scale, x_zero)
    weight_params = CodeParams(add_constant(graph, f"{node.name}_w_scale", scale), weight_zero)
    op_type = INTEGER_PRODUCTS[node.op_type]
    channels = 0 if op_type == "Conv" else codes.ndim - 1
    inputs = [
        dequantized(node, 0, x, stated),
        dequantized(node, 1, weight, weight_params, channels if zeros.size > 1 else None),
    ]
    computed = ir.Node("", op_type, inputs, node.attributes.values(), name=node.name)
    computed.outputs[0].name = real_name(graph, node.outputs[0])
    sums = CodeParams(
        add_constant(graph, f"{node.name}_scale", np.ones((), np.float32)),
        add_constant(graph, f"{node.name}_zero_point", np.zeros((), np.int32)),
    )
    graph.insert_before(node, computed)
    quantize = ir.node(
        "QuantizeLinear",
        [computed.outputs[0], sums.scale, sums.zero_point],
        name=f"{node.name}_output",
    )
    replace_node(node, quantize)
    known[quantize.outputs[0]] = sums


def is_cast_of_sums(node: ir.Node, known: Known) -> bool:
    """Whether the node turns int32 sums into float32."""
    source = node.inputs[0] if node.inputs else None
    if node.op_type != "Cast" or node.domain != "" or source is None or source not in known:
        return False
    zero_point = constant_array(known[source].zero_point)
    is_sum = zero_point is not None and zero_point.dtype == np.int32
    return is_sum and node.attributes["to"].as_int() == ir.DataType.FLOAT


def cast_sums(node: ir.Node, known: Known) -> None:
    """A DequantizeLinear of scale 1 in the place of the Cast."""
    source = node.inputs[0]
    assert source is not None
    params = known[source]
    new = ir.node("DequantizeLinear", [source, params.scale, params.zero_point], name=node.name)
    replace_node(node, new)
