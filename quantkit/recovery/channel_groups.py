"""Which values must have their channels scaled together, so that the network stays the same.

A channel c of a value may be multiplied by f > 0 where the layers that make the value multiply row
c of their weights and biases by f, and the layers that read it divide column c by f. Everything in
between has to pass the factor on: Relu and its like do (they are positively homogeneous), and so
do pooling and Add, whose operands then share the factors. Clip does as far as its bounds are not
reached, which is for the equalizations to see to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, prod

import numpy as np

from quantkit.graph.program import Node, Program

# y(f x) = f y(x) for f > 0, channel by channel.
_HOMOGENEOUS = ("Relu", "LeakyRelu", "PRelu", "Identity", "Dropout")
_POOLING = ("GlobalAveragePool", "GlobalMaxPool", "AveragePool", "MaxPool")
_RESHAPING = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")
_SUMS = ("Add", "Sub", "Sum")
_PRODUCTS = ("Conv", "Gemm")


@dataclass(frozen=True, slots=True, eq=False)
class ChannelGroup:
    """Values whose channels are scaled together, and the layers that make and read them.

    Attributes:
        values: Their names, in graph order; channels are axis 1.
        channels: How many factors there are.
        producers: Layers whose output rows carry the factors.
        consumers: Layers whose input columns take them away.
        has_sum: Whether values are added up, so that several layers make them.
        bound: The least upper bound of the Clips in between; infinite without one.
    """

    values: tuple[str, ...]
    channels: int
    producers: tuple[Node, ...]
    consumers: tuple[Node, ...]
    has_sum: bool
    bound: float

    def is_free(self, program: Program) -> bool:
        """Whether every consumer is depthwise: per-channel weight scales absorb any factor."""
        return all(
            is_depthwise(node, program) for node in self.consumers if node.op_type == "Conv"
        ) and all(node.op_type == "Conv" for node in self.consumers)


def is_depthwise(node: Node, program: Program) -> bool:
    """Whether every output channel of the Conv reads one input channel."""
    weight = program.constants[node.inputs[1]]
    return node.op_type == "Conv" and weight.shape[1] == 1 and node.integer("group", 1) > 1


def channel_groups(program: Program) -> tuple[ChannelGroup, ...]:
    """All groups that can be scaled, in graph order.

    Values that any other op reads or makes (Concat, Mul, Softmax ...) stay as they are, and so do
    inputs and outputs of the graph. A network with subgraphs has none: what they read of the
    graph around them is not known here.
    """
    if any(node.has_subgraph for node in program.nodes):
        return ()
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    fixed = {spec.name for spec in (*program.inputs, *program.outputs)}
    for node in program.nodes:
        data = [name for name in node.inputs if name and name not in program.constants]
        names = (*data, *filter(None, node.outputs))
        for name in names:
            root(name)
        if _is_product(node, program):
            continue
        if _passes_factors(node, program):
            for name in names[1:]:
                parent[root(name)] = root(names[0])
        else:
            fixed.update(names)
    members: dict[str, list[str]] = {}
    for name in parent:
        members.setdefault(root(name), []).append(name)
    return tuple(
        group
        for values in members.values()
        if fixed.isdisjoint(values) and (group := _group(values, program)) is not None
    )


def _is_product(node: Node, program: Program) -> bool:
    """Whether rows and columns of the weight can be scaled."""
    if node.op_type not in _PRODUCTS or node.domain:
        return False
    names = [name for name in node.inputs[1:] if name]
    if any(name not in program.constants or name in program.feedable for name in names):
        return False
    if node.op_type == "Conv":
        return True
    rows = rows_of(node, program)
    # A matrix or a column is no bias per channel.
    has_row = len(names) == 1 or program.constants[names[1]].shape in ((rows,), (1, rows))
    return not node.integer("transA", 0) and has_row


def _passes_factors(node: Node, program: Program) -> bool:
    names = [name for name in node.inputs if name]
    if node.domain or not program.feedable.isdisjoint(names):
        return False
    data = [name for name in names if name not in program.constants]
    if node.op_type in _SUMS:
        shapes = [_shape(name, program) for name in data]
        same = all(shape is not None and shape == shapes[0] for shape in shapes)
        return same and len(data) == len(names)
    if data != [node.inputs[0]] or len([name for name in node.outputs if name]) != 1:
        return False
    if node.op_type == "Clip":
        low, high = (bound_of(node, position, program) for position in (1, 2))
        return low in (0.0, -inf) and high is not None and high > 0
    if node.op_type in _RESHAPING:
        return _keeps_channels(_shape(data[0], program), _shape(node.outputs[0], program))
    return node.op_type in (*_HOMOGENEOUS, *_POOLING)


def bound_of(node: Node, position: int, program: Program) -> float | None:
    """A Clip's bound (1: lower, 2: upper): infinite where absent, None where it is computed."""
    name = node.inputs[position] if position < len(node.inputs) else ""
    if not name:
        return -inf if position == 1 else inf
    array = program.constants.get(name)
    return None if array is None else float(np.ravel(array)[0])


def _keeps_channels(before: tuple[object, ...] | None, after: tuple[object, ...] | None) -> bool:
    """Whether (N, C, ...) becomes (N, C, ...) or, all C blocks whole, (N, C * ...)."""
    if before is None or after is None or min(len(before), len(after)) < 2:
        return False
    old, new = _sizes(before[1:]), _sizes(after[1:])
    if old is None or new is None or prod(old) != prod(new):
        return False
    return new[0] == old[0] or len(new) == 1


def _sizes(dimensions: Sequence[object]) -> list[int] | None:
    # Some exporters write -1 for a dynamic dimension.
    sizes = [size for size in dimensions if isinstance(size, int) and size > 0]
    return sizes if len(sizes) == len(dimensions) else None


def _group(values: list[str], program: Program) -> ChannelGroup | None:
    inside = set(values)
    producers, consumers = [], []
    bound, has_sum = inf, False
    for node in program.nodes:
        reads, makes = bool(inside.intersection(node.inputs)), inside.intersection(node.outputs)
        if _is_product(node, program):
            if makes:
                producers.append(node)
            if reads:
                consumers.append(node)
        elif makes:
            has_sum = has_sum or node.op_type in _SUMS
            if node.op_type == "Clip":
                bound = min(bound, bound_of(node, 2, program) or inf)
    if not producers or not consumers:
        return None
    channels = rows_of(producers[0], program)
    if any(rows_of(node, program) != channels for node in producers):
        return None
    if any(columns_of(node, program) % channels for node in consumers):
        return None
    ordered = tuple(name for node in program.nodes for name in node.outputs if name in inside)
    return ChannelGroup(ordered, channels, tuple(producers), tuple(consumers), has_sum, bound)


def rows_of(node: Node, program: Program) -> int:
    """How many channels a Conv or Gemm makes."""
    weight = program.constants[node.inputs[1]]
    transposed = node.op_type == "Conv" or node.integer("transB", 0)
    return int(weight.shape[0 if transposed else 1])


def columns_of(node: Node, program: Program) -> int:
    """How many channels a Conv or Gemm reads; behind Flatten, a block for each."""
    weight = program.constants[node.inputs[1]]
    if node.op_type == "Conv":
        return int(weight.shape[1]) * node.integer("group", 1)
    return int(weight.shape[1 if node.integer("transB", 0) else 0])


def _shape(name: str, program: Program) -> tuple[object, ...] | None:
    spec = program.specs.get(name)
    return None if spec is None else spec.shape
