"""The few edits of an ``onnx_ir`` graph that passes and exporters share.

Traps of onnx_ir that callers must know:

1. ``model.clone()`` shares tensors: never write into ``const_value.numpy()``; make a new constant.
2. A value with a ``const_value`` is no initializer before ``graph.register_initializer(value)``,
   and names must be unique: :func:`add_constant` does both.
3. ``replace_all_uses_with`` on a graph output loses the output's name: use :func:`bypass`.
4. Take ``tuple(value.uses())`` *before* inserting a reader of ``value``, or the reader is rewired
   onto itself.
5. New values have no dtype and shape before shape inference.
"""

import numpy as np
import onnx_ir as ir

from quantkit.graph.program import Array


def constant_array(value: ir.Value | None) -> Array | None:
    """The array of a constant, or None for a computed value or one a caller may feed."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    array: Array = value.const_value.numpy()
    return array


def add_constant(
    graph: ir.Graph, name: str, array: Array, taken: set[str] | None = None
) -> ir.Value:
    """Register an initializer under an :func:`unused_name`."""
    return _register_constant(graph, unused_name(graph, name, taken), array)


def _register_constant(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    value = ir.Value(
        name=name,
        type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
        shape=ir.Shape(array.shape),
        const_value=ir.tensor(np.array(array, order="C"), name=name),
    )
    graph.register_initializer(value)
    return value


def replace_constant_input(node: ir.Node, position: int, array: Array, name: str) -> None:
    """Give a node a new constant input; other readers of the old constant are not touched.

    The old constant's name is kept where the node was its only reader.
    """
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    old = node.inputs[position] if position < len(node.inputs) else None
    if position >= len(node.inputs):
        node.resize_inputs(position + 1)
    is_ours = old is not None and old.is_initializer() and not old.is_graph_output()
    if old is not None and is_ours and old.name and len(old.uses()) == 1:
        node.replace_input_with(position, None)
        graph.initializers.pop(old.name)
        constant = _register_constant(graph, old.name, array)
    else:
        constant = add_constant(graph, name, array)
    node.replace_input_with(position, constant)


def taken_names(graph: ir.Graph) -> set[str]:
    """The names of all values, those of graphs inside nodes included."""
    values = [*graph.inputs, *graph.initializers.values()]
    for node in graph.all_nodes():
        values += node.outputs
    return {value.name for value in values if value.name is not None}


def unused_name(graph: ir.Graph, name: str, taken: set[str] | None = None) -> str:
    """``name``, with a number added where a value of the graph has it already.

    Args:
        graph: The graph.
        name: The name wanted.
        taken: Its :func:`taken_names`, for who makes many: collecting them takes long in a large
            graph. What is returned is added.
    """
    if taken is None:
        taken = taken_names(graph)
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    taken.add(candidate)
    return candidate


def sole_consumer(value: ir.Value) -> ir.Node | None:
    """The one node that reads ``value``; None if several do, none does, or it is a graph output."""
    if value.is_graph_output():
        return None
    uses = tuple(value.uses())
    return uses[0].node if len(uses) == 1 else None


def bypass(node: ir.Node, replacement: ir.Value) -> None:
    """Remove a one-output node; whoever read its output reads ``replacement``.

    A graph output keeps its name: the replacement takes it over, or, where the replacement is a
    graph input, an initializer or an output itself, an Identity stays.
    """
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    output = node.outputs[0]
    if output.is_graph_output():
        if (
            replacement.is_graph_output()
            or replacement.is_graph_input()
            or replacement.is_initializer()
        ):
            identity = ir.node("Identity", [replacement], name=node.name)
            new = identity.outputs[0]
            new.type, new.shape = output.type, output.shape
            graph.insert_before(node, identity)
            replacement = new
        name = output.name
        output.name = f"{name}_replaced"
        replacement.name = name
        if output.shape is not None:
            replacement.shape = output.shape
    ir.convenience.replace_all_uses_with(output, replacement, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def known_dimension(value: ir.Value | None, axis: int) -> int | None:
    """A static dimension of a value, or None."""
    if value is None or value.shape is None or axis >= len(value.shape):
        return None
    dimension = value.shape[axis]
    return dimension if isinstance(dimension, int) else None


def replace_node(old: ir.Node, new: ir.Node) -> None:
    """Put ``new`` in the place of ``old``; its first output takes over name, type and shape."""
    graph = old.graph
    assert isinstance(graph, ir.Graph)
    output, replacement = old.outputs[0], new.outputs[0]
    name, replacement.type, replacement.shape = output.name, output.type, output.shape
    graph.insert_before(old, new)
    ir.convenience.replace_all_uses_with(output, replacement, replace_graph_outputs=True)
    graph.remove(old, safe=True)
    replacement.name = name
