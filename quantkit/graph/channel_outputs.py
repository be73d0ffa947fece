"""Minimum, maximum and mean per channel, computed by onnxruntime where the tensors are made.

There they are still in the processor's cache, and no Python thread waits for another; afterwards
the same three numbers cost a pass over memory each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from quantkit.graph.ort_session import with_outputs

# From here on the axes of a reduction are an input.
_AXES_INPUT_OPSET = 18


@dataclass(frozen=True, slots=True)
class ChannelOutputs:
    """Names of a session's outputs, float32, of shape (first axis, channels).

    Attributes:
        minimum: Over all axes but the first two.
        maximum: Likewise; neither tells of NaN.
        mean: Likewise, the reduced axes kept; not finite where a value is not.
    """

    minimum: str
    maximum: str
    mean: str


def with_channel_outputs(
    model: ir.Model, names: Sequence[str]
) -> tuple[ir.Model, dict[str, ChannelOutputs]]:
    """A copy of the model with more outputs: the named values, and their channels' numbers.

    Args:
        model: Is not changed.
        names: float32 values.

    Returns:
        The model, and the channels' outputs by value name; values of rank 2 and less, or of unknown
        rank, have none.

    Raises:
        ModelError: A name is no value of the graph.
    """
    extended = with_outputs(model, names)
    graph = extended.graph
    wanted = set(names)
    values = [value for value in graph.outputs if value.name in wanted]
    found: dict[str, ChannelOutputs] = {}
    for number, value in enumerate(values):
        rank = 0 if value.shape is None else len(value.shape)
        if rank < 3 or value.name is None:
            continue
        made: list[str] = []
        for op in ("ReduceMin", "ReduceMax", "GlobalAveragePool"):
            is_mean = op == "GlobalAveragePool"  # twice as fast as ReduceMean
            node = ir.node(op, [value]) if is_mean else _reduction(graph, op, value, range(2, rank))
            output = node.outputs[0]
            output.name = f"quantkit_{op}_{number}"
            output.type = value.type
            graph.append(node)
            graph.outputs.append(output)
            made.append(output.name)
        found[value.name] = ChannelOutputs(*made)
    return extended, found


def _reduction(graph: ir.Graph, op: str, value: ir.Value, axes: range) -> ir.Node:
    if graph.opset_imports[""] < _AXES_INPUT_OPSET:
        return ir.node(op, [value], {"axes": list(axes), "keepdims": 0})
    name = f"quantkit_axes_of_rank_{axes.stop}"
    if name not in graph.initializers:
        tensor = ir.tensor(list(axes), dtype=ir.DataType.INT64, name=name)
        graph.register_initializer(ir.Value(name=name, const_value=tensor))
    return ir.node(op, [value, graph.initializers[name]], {"keepdims": 0})


def output_names(channels: Mapping[str, ChannelOutputs]) -> list[str]:
    """All outputs' names."""
    return [name for own in channels.values() for name in (own.minimum, own.maximum, own.mean)]
