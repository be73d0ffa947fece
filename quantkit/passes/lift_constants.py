"""Constant nodes become initializers, local functions are inlined, every node gets a name.

Dimensions of -1, which some exporters write for an open dimension, become open ones.
"""

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from quantkit.passes.note import PassNote

# Before this IR version every initializer had to be listed as a graph input as well.
_IR_VERSION_OF_OPTIONAL_INPUTS = 4


def lift_constants(model: ir.Model) -> list[PassNote]:
    """Bring the graph into the form the other passes expect; one note per Constant that stays."""
    if model.functions:
        common.InlinePass()(model)
    if model.ir_version < _IR_VERSION_OF_OPTIONAL_INPUTS:
        common.RemoveInitializersFromInputsPass()(model)
        model.ir_version = _IR_VERSION_OF_OPTIONAL_INPUTS
    common.TopologicalSortPass()(model)
    _name_nodes(model.graph)
    _open_negative_dimensions(model)
    notes: list[PassNote] = []
    for node in tuple(model.graph.all_nodes()):
        if node.op_type == "Constant" and node.domain == "" and node.graph is not None:
            reason = _lift(node, node.graph)
            if reason is not None:
                name = node.name or ""
                notes.append(PassNote("lift_constants", name, "Constant", False, reason))
    return notes


def _lift(node: ir.Node, graph: ir.Graph | ir.Function) -> str | None:
    """Put an initializer in the place of a Constant node; the reason where that is not possible."""
    output = node.outputs[0]
    if output.is_graph_output():
        return "is a graph output"
    tensor = _tensor_of(node)
    if tensor is None or not isinstance(graph, ir.Graph):
        return "is sparse, or its value is no tensor"
    value = ir.Value(
        name=output.name,
        type=ir.TensorType(tensor.dtype),
        shape=ir.Shape(tensor.numpy().shape),
        const_value=tensor,
    )
    graph.register_initializer(value)
    ir.convenience.replace_all_uses_with(output, value)
    graph.remove(node, safe=True)
    return None


def _tensor_of(node: ir.Node) -> ir.TensorProtocol | None:
    """A tensor of its own: the source model keeps the attribute's, name included."""
    name = node.outputs[0].name
    for attribute in node.attributes.values():
        match attribute.name:
            case "value":
                tensor = attribute.as_tensor()
                if tensor.dtype == ir.DataType.STRING:
                    return ir.StringTensor(tensor.numpy(), name=name)
                return ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=name)
            case "value_int" | "value_ints":
                return ir.Tensor(np.array(attribute.value, np.int64), name=name)
            case "value_float" | "value_floats":
                return ir.Tensor(np.array(attribute.value, np.float32), name=name)
            case "value_string":
                return ir.StringTensor(np.array(attribute.as_string().encode(), object), name=name)
            case "value_strings":
                strings = [text.encode() for text in attribute.as_strings()]
                return ir.StringTensor(np.array(strings, object), name=name)
    return None


def _open_negative_dimensions(model: ir.Model) -> None:
    values = [value for graph in model.graphs() for value in (*graph.inputs, *graph.outputs)]
    values += [output for node in model.graph.all_nodes() for output in node.outputs]
    for value in values:
        if value.shape is not None and any(isinstance(d, int) and d < 0 for d in value.shape):
            value.shape = ir.Shape(
                [None if isinstance(size, int) and size < 0 else size for size in value.shape]
            )


def _name_nodes(graph: ir.Graph) -> None:
    taken = {node.name for node in graph if node.name}
    seen: set[str] = set()
    for node in graph:
        if not node.name or node.name in seen:
            base = node.name or node.outputs[0].name or node.op_type
            name, number = base, 1
            while name in taken:
                number += 1
                name = f"{base}_{number}"
            node.name = name
            taken.add(name)
        seen.add(node.name)
