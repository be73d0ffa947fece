"""How far each output channel of a weight reaches, from the user's file to the codes."""

import numpy as np

from quantkit.graph.program import Array, Node, Program
from quantkit.ops.contract import OPS
from quantkit.quantized_model.model import QuantizedModel, weight_and_bias
from quantkit.reporting.layer import WeightRanges
from quantkit.reporting.layer_groups import LayerGroup

# Preparation makes one of the other where a bias comes in.
_PRODUCTS = ("Gemm", "MatMul")


def weight_ranges(
    layer: LayerGroup, model: QuantizedModel, folded: Program | None, source: Program | None
) -> WeightRanges | None:
    """The ranges of a layer's weight; None without a weight that has codes.

    Args:
        layer: Of the quantized network.
        model: The quantized network.
        folded: The float network, prepared.
        source: The float network as the user's file has it.
    """
    node = layer.nodes[0] if layer.nodes else None
    if node is None or not _is_known(node):
        return None
    codes = model.constants.get(weight_and_bias(node)[0])
    if codes is None:
        return None
    quantized = channel_reach(node, codes.dequantize())
    # Preparing keeps names; other tools may not, but for those of values.
    same = None if folded is None else _named(node, node.name, folded) or _making(layer, folded)
    name = node.name if same is None else same.name
    there = None if source is None else _named(node, name, source)

    def reach(found: Node | None, program: Program | None) -> tuple[float, ...] | None:
        weight = None if found is None or program is None else _weight(found, program)
        if found is None or weight is None:
            return None
        ranges = channel_reach(found, weight)
        return ranges if len(ranges) == len(quantized) else None

    return WeightRanges(
        source=reach(there, source),
        folded=reach(same, folded),
        quantized=quantized,
        scales=tuple(codes.params.scale.reshape(-1).astype(np.float64).tolist()),
    )


def channel_reach(node: Node, weight: Array) -> tuple[float, ...]:
    """``max|w|`` of every output channel of a node's weight."""
    axis = OPS[node.op_type].weight_axis(node, weight.ndim)
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    reach: list[float] = np.abs(rows).max(axis=1, initial=0.0).astype(np.float64).tolist()
    return tuple(reach)


def _is_known(node: Node) -> bool:
    return node.domain == "" and node.op_type in OPS and OPS[node.op_type].rule.weight is not None


def _named(node: Node, name: str, program: Program) -> Node | None:
    """The first node of a name, if it does the same; preparing renames later ones."""
    return _alike(node, next((other for other in program.nodes if other.name == name), None))


def _making(layer: LayerGroup, program: Program) -> Node | None:
    """The node that makes a layer's tensor, before any clamps, if it does the same."""
    producers = program.producers()
    found = producers.get(layer.value)
    while found is not None and found.op_type in OPS and OPS[found.op_type].rule.clamps:
        found = producers.get(found.inputs[0])
    return _alike(layer.nodes[0], found)


def _alike(node: Node, found: Node | None) -> Node | None:
    if found is None or not _is_known(found):
        return None
    kinds = {node.op_type, found.op_type}
    return found if len(kinds) == 1 or kinds == set(_PRODUCTS) else None


def _weight(node: Node, program: Program) -> Array | None:
    """The float weight of a node, also where a Constant node holds it."""
    name, _ = weight_and_bias(node)
    weight = program.constants.get(name)
    if weight is None:
        producer = program.producers().get(name)
        if producer is not None and producer.op_type == "Constant":
            value = producer.attributes.get("value")
            weight = value if isinstance(value, np.ndarray) else None
    return weight if weight is not None and weight.ndim and weight.dtype.kind == "f" else None
