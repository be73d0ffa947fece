"""What a file is that has no QuantizeLinear or DequantizeLinear node in its main graph."""

import onnx_ir as ir

from quantkit.quantized_model.qdq_params import is_dequantize, is_quantize
from quantkit.quantized_model.qoperator_rewrite import RUN_TIME_OPS

_QUANTIZE_FLOAT = "quantize the float model with `quantkit quantize`"
_INTEGER_PRODUCTS = frozenset({"ConvInteger", "MatMulInteger", "MatMulIntegerToFloat"})
# Codes of weights that are multiplied with floats.
_WEIGHT_ONLY_OPS = frozenset(
    {"GatherBlockQuantized", "MatMulBnb4", "MatMulFpQ4", "MatMulNBits", "QMoE"}
)


def why_not_quantized(model: ir.Model) -> str:
    """A sentence that follows the file's name: "is not quantized: ..."."""
    nodes = tuple(model.graph.all_nodes())
    for node in nodes:
        if node.op_type in RUN_TIME_OPS or node.op_type in _INTEGER_PRODUCTS:
            return (
                f"is dynamically quantized: {_named(node)} gets scales that are known only at run "
                f"time, so there are no fixed integers to read; {_QUANTIZE_FLOAT}"
            )
        if node.op_type in _WEIGHT_ONLY_OPS:
            return (
                f"quantizes weights only: {_named(node)} multiplies them with floats; "
                f"{_QUANTIZE_FLOAT}"
            )
    if any(is_quantize(node) or is_dequantize(node) for node in nodes):
        holder = next(node for node in model.graph if _holds_graph(node))
        return (
            "has QuantizeLinear and DequantizeLinear nodes only in graphs that other nodes hold "
            f"({_named(holder)}), which are not read here; export the model without control flow"
        )
    return (
        "is not quantized: it has no QuantizeLinear or DequantizeLinear node; "
        "`quantkit quantize` makes a quantized model of it"
    )


def _named(node: ir.Node) -> str:
    return f"node {node.name!r} ({node.op_type})"


def _holds_graph(node: ir.Node) -> bool:
    kinds = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    return any(attribute.type in kinds for attribute in node.attributes.values())
