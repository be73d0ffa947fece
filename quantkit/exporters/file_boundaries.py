"""Inputs and outputs that are codes in the file a model was read from stay codes.

The model has real values there (``quantized_model.code_boundaries``), so the Q/DQ graph has a
QuantizeLinear behind such an input and a DequantizeLinear before such an output: both are taken
out again.
"""

from collections.abc import Collection

import onnx_ir as ir


def restore_code_boundaries(graph: ir.Graph, names: Collection[str]) -> None:
    """Edit the graph in place.

    Args:
        graph: With Q/DQ pairs around its inputs and outputs.
        names: Of the inputs and outputs that are codes.
    """
    for value in graph.inputs:
        if value.name in names:
            _take_codes(graph, value)
    for position, value in enumerate(graph.outputs):
        if value.name in names:
            _give_codes(graph, position)


def _take_codes(graph: ir.Graph, value: ir.Value) -> None:
    readers = [use.node for use in value.uses()]
    if len(readers) != 1 or readers[0].op_type != "QuantizeLinear":
        return
    codes = readers[0].outputs[0]
    value.type = codes.type
    ir.convenience.replace_all_uses_with(codes, value, replace_graph_outputs=True)
    graph.remove(readers[0], safe=True)


def _give_codes(graph: ir.Graph, position: int) -> None:
    real = graph.outputs[position]
    dequantize = real.producer()
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return
    codes = dequantize.inputs[0]
    if codes is None or codes.is_graph_output() or codes.is_graph_input():
        return
    codes.shape = real.shape
    graph.outputs[position] = codes
    name = real.name
    if real.uses():
        real.name = f"{name}_DequantizeLinear_Output"
    else:
        graph.remove(dequantize, safe=True)
    codes.name = name
