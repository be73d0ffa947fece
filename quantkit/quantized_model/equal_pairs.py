"""QuantizeLinear and DequantizeLinear nodes that do the same to the same value become one.

onnxruntime's optimizer merges them (``common_subexpression_elimination.cc``) before it fuses
integer kernels. It does not where their results are outputs of the graph.
"""

import onnx_ir as ir

from quantkit.quantized_model.qdq_params import is_dequantize, is_quantize


def merge_equal_pairs(model: ir.Model) -> dict[str, str]:
    """Edit the main graph in place.

    Args:
        model: Nodes in topological order.

    Returns:
        Value that is gone -> the equal one that is left.
    """
    gone: dict[str, str] = {}
    first: dict[object, ir.Value] = {}
    for node in tuple(model.graph):
        if not (is_quantize(node) or is_dequantize(node)) or not node.inputs:
            continue
        output = node.outputs[0]
        attributes = tuple(sorted((a.name, str(a.value)) for a in node.attributes.values()))
        # onnxruntime asks for the same constants; equal ones are not enough.
        key = (node.domain, node.op_type, tuple(node.inputs), attributes)
        left = first.setdefault(key, output)
        if left is output or output.is_graph_output():
            continue
        gone[str(output.name)] = str(left.name)
        ir.convenience.replace_all_uses_with(output, left)
        model.graph.remove(node, safe=True)
    return gone
