"""Float graphs of a quantized model in which only the weights, or only the activations, are codes.

They tell which of the two a network loses its accuracy by. No Q/DQ pair is in them: onnxruntime
would take the nodes between into integers, float weights and all. Where activations are quantized,
each value ``x`` of the float graph becomes

    ``y = s/f * (clip(round(x / (s/f) - d/s), qmin - z, qmax - z) + d/s)``

half to even: what QuantizeLinear and DequantizeLinear make of it in float32 where nothing was
rescaled (f = 1, d = 0), and otherwise exactly the network whose channels were rescaled to
``f x - d``, with float weights.

The quantized graph lacks the clamps that saturation to codes performs. They are those of the float
graph; where there is none, the ends of the codes.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from quantkit.graph.program import Array, Node, Program
from quantkit.graph.surgery import add_constant, taken_names, unused_name
from quantkit.ops.contract import OPS
from quantkit.passes.prepare import Prepared, finish
from quantkit.quantized_model.model import QuantizedModel

Changes = Mapping[str, tuple[Array, Array]]
"""Value -> factors and shifts of its channels: (C,), or () for all alike."""
_Operation = tuple[str, Sequence[Array | None]]


def activations_only(
    reference: Prepared, model: QuantizedModel, changes: Changes
) -> ir.Model | None:
    """The float network, every activation quantized that the quantized model quantizes.

    Args:
        reference: The prepared float network.
        model: The quantized one.
        changes: What equalization did to the channels of its values.

    Returns:
        None where the float network has no float32 value of that name, or an activation has a
        scale per channel.
    """
    result = reference.model.clone()
    values = _values(result.graph)
    constants = model.prepared.program.constants
    params = {name: each for name, each in model.plan.params.items() if name not in constants}
    if not params.keys() <= values.keys() or any(each.is_per_channel for each in params.values()):
        return None
    if any(values[name].dtype != ir.DataType.FLOAT for name in params):
        return None
    taken = taken_names(result.graph)
    for name, each in params.items():
        factors, shifts = changes.get(name, (np.ones(()), np.zeros(())))
        step = _along_channels(each.scale / factors, values[name])
        offset = _along_channels(shifts / each.scale, values[name])
        if step is None or offset is None:
            return None
        ends = [np.float32(end - int(each.zero_point)) for end in (each.qmin, each.qmax)]
        moved = [offset] if offset.any() else []
        operations: list[_Operation] = [
            ("Div", [step]),
            *(("Sub", [array]) for array in moved),
            ("Round", []),
            ("Clip", [np.asarray(end) for end in ends]),
            *(("Add", [array]) for array in moved),
            ("Mul", [step]),
        ]
        _insert(result.graph, values[name], operations, taken)
    return result


def weights_only(reference: Prepared, model: QuantizedModel, changes: Changes) -> ir.Model | None:
    """The quantized network with real activations: weights and biases are those of the codes.

    Args:
        reference: The prepared float network, for the clamps.
        model: The quantized one.
        changes: What equalization did to the channels of its values.

    Returns:
        None where the quantized network has no value to clamp as the float network does.
    """
    clamps = _absorbed_clamps(reference.program, model.prepared.program)
    if clamps is None:
        return None
    result = model.prepared.model.clone()
    values = _values(result.graph)
    taken = taken_names(result.graph)
    for name, ends in clamps.items():
        factors, shifts = changes.get(name, (np.ones(()), np.zeros(())))
        bounds = [_along_channels(end * factors - shifts, values[name]) for end in ends]
        if bounds[0] is None or bounds[1] is None:
            return None
        _insert(result.graph, values[name], _clamp(bounds[0], bounds[1]), taken)
    return result


def dequantized_network(model: QuantizedModel) -> Prepared:
    """The quantized network in floats: weights of the codes, values clipped where codes end.

    It is the reference where no float model is at hand. What the clip lines cut off cannot be seen
    with it: nothing tells a clamp of the float network from them.
    """
    result = model.prepared.model.clone()
    taken = taken_names(result.graph)
    for name, value in _values(result.graph).items():
        params = model.plan.params.get(name)
        if params is None or params.is_per_channel or value.is_graph_input():
            continue
        ends = (np.array([params.qmin, params.qmax]) - int(params.zero_point)) * params.scale
        bounds = [np.asarray(end, np.float32) for end in ends]
        _insert(result.graph, value, [("Clip", bounds)], taken)
    return finish(result, [], model.prepared.digest)


def _values(graph: ir.Graph) -> dict[str, ir.Value]:
    computed = (output for node in graph for output in node.outputs)
    return {str(value.name): value for value in (*graph.inputs, *computed) if value.name}


def _absorbed_clamps(
    reference: Program, quantized: Program
) -> dict[str, tuple[float, float]] | None:
    """The clamps of the float graph that the quantized one lacks, by the value they clamp there."""
    producers, consumers = quantized.producers(), reference.consumers()
    outputs = reference.output_names()
    found: dict[str, tuple[float, float]] = {}
    passed_on: dict[str, tuple[float, float]] = {}
    for node in reference.nodes:
        ends = _ends(node, reference)
        if ends is None:
            continue
        source, output = node.inputs[0], node.outputs[0]
        inner = passed_on.get(source, (-np.inf, np.inf))
        ends = (_clip(inner[0], ends), _clip(inner[1], ends))
        if output in producers:
            if not _is_clamp(producers[output]):
                found[output] = ends
            continue
        readers = consumers.get(output, [])
        if len(readers) == 1 and output not in outputs and _ends(readers[0], reference):
            passed_on[output] = ends
        elif source in producers:
            # Several read the unclamped value; all of them read the same codes.
            found[source] = ends
        else:
            return None
    return found


def _ends(node: Node, program: Program) -> tuple[float, float] | None:
    """What the node clamps to; None where it is no clamp, or its bounds are computed."""
    if not _is_clamp(node):
        return None
    if node.op_type == "Relu":
        return 0.0, np.inf
    low, high = (*node.inputs[1:], "", "")[:2]
    if any(bound and bound not in program.constants for bound in (low, high)):
        return None
    constants = program.constants
    return (
        float(constants[low].reshape(())) if low else -np.inf,
        float(constants[high].reshape(())) if high else np.inf,
    )


def _is_clamp(node: Node) -> bool:
    return node.domain == "" and node.op_type in OPS and OPS[node.op_type].rule.clamps


def _clip(number: float, ends: tuple[float, float]) -> float:
    return min(max(number, ends[0]), ends[1])


def _clamp(low: Array, high: Array) -> list[_Operation]:
    """A Clip takes one bound for all channels, and onnxruntime fuses it with what is before it."""
    if low.ndim == high.ndim == 0:
        return [("Clip", [low, high])]
    both = (("Max", low), ("Min", high))
    return [(op_type, [bound]) for op_type, bound in both if np.isfinite(bound).any()]


def _along_channels(array: Array, value: ir.Value) -> Array | None:
    """One number per channel, axis 1, shaped to be broadcast; None where the axis is not known."""
    array = np.asarray(array, np.float32)
    if (array == array.flat[0]).all():
        return np.asarray(array.flat[0])
    shape = value.shape
    if shape is None or len(shape) < 2:
        return None
    channels = shape[1]
    if not isinstance(channels, int) or channels % array.size:
        return None
    # Flattened channels lie in blocks.
    repeated = np.repeat(array, channels // array.size)
    return repeated.reshape(1, -1, *[1] * (len(shape) - 2))


def _insert(
    graph: ir.Graph, value: ir.Value, operations: Sequence[_Operation], taken: set[str]
) -> None:
    """Operations behind a value; all its readers read the last one's output, which has its name."""
    if not operations:
        return
    uses, name, producer = tuple(value.uses()), str(value.name), value.producer()
    nodes: list[ir.Node] = []
    last = value
    for op_type, operands in operations:
        constants = [
            None
            if array is None
            else add_constant(graph, f"{name}_{op_type}_operand", np.asarray(array), taken)
            for array in operands
        ]
        node = ir.node(op_type, [last, *constants], name=f"{name}_partial_{len(nodes)}")
        last = node.outputs[0]
        last.name = unused_name(graph, f"{name}_{op_type}_Output", taken)
        last.type, last.shape = value.type, value.shape
        nodes.append(node)
    if producer is None:
        first = next(iter(graph), None)
        if first is None:
            return
        graph.insert_before(first, nodes)
    else:
        graph.insert_after(producer, nodes)
    for use in uses:
        use.node.replace_input_with(use.idx, last)
    if producer is not None:
        value.name = unused_name(graph, f"{name}_real", taken)
        last.name = name
    for position, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[position] = last
