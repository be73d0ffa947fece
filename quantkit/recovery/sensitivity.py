"""How much each layer loses in integers: it alone quantized, and all but it.

A layer is a node with multiply-accumulates and the nodes without any that follow it (an Add, an
activation, a pooling), because they share its codes: if the node alone were kept out of the
integers, what it makes would be quantized for the next one all the same. A clamp is part of the
node before it, and what only moves codes is exact and belongs to no layer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from quantkit.config import QuantConfig
from quantkit.graph.cost import model_cost
from quantkit.passes.prepare import Prepared
from quantkit.plan import candidate_refusals, data_values, quantized_outputs
from quantkit.plan.refusals import rule_of

Keep = Literal["float", "16bit"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Layer:
    """Nodes that are quantized together or not at all.

    Attributes:
        name: Of its first node.
        op_type: Of its first node.
        nodes: Their names, in graph order.
        tensors: Names of the activations that they read and write.
        macs: Multiply-accumulates for one sample; None where shapes are unknown.
    """

    name: str
    op_type: str
    nodes: tuple[str, ...]
    tensors: tuple[str, ...]
    macs: int | None


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What quantizing a layer costs.

    Attributes:
        layer: The layer.
        alone_db: SQNR of the outputs where it alone is quantized.
        without_db: SQNR of the outputs where all layers but it are quantized.
    """

    layer: Layer
    alone_db: float
    without_db: float

    @property
    def noise(self) -> float:
        """Noise power that it makes alone, as a share of the outputs' power."""
        return float(10.0 ** (-self.alone_db / 10.0))


def quantized_layers(prepared: Prepared, config: QuantConfig) -> tuple[Layer, ...]:
    """The layers of a network that a configuration quantizes, in graph order.

    Raises:
        ConfigError: See ``plan.candidate_refusals``.
    """
    program = prepared.program
    refused = candidate_refusals(prepared, config)
    macs = {node.name: node.macs for node in model_cost(program).nodes}
    layers: dict[str, Layer] = {}
    layer_of: dict[str, str] = {}  # by value name
    position = {node.name: index for index, node in enumerate(program.nodes)}
    for node in program.nodes:
        before = [layer_of[name] for name in node.inputs if name in layer_of]
        latest = max(before, key=position.__getitem__, default=None)
        rule = rule_of(node)
        is_head = node.name not in refused and macs[node.name] != 0
        computes = (
            node.name not in refused
            and node.name not in prepared.clamps
            and rule is not None
            and rule.output not in ("same_as_input", "plain")
        )
        if computes and (is_head or latest is None):
            layers[node.name] = Layer(node.name, node.op_type, (), (), macs[node.name])
            latest = node.name
        if latest is None or node.name in refused:
            continue
        layer_of |= dict.fromkeys((name for name in node.outputs if name), latest)
        if computes:
            layer = layers[latest]
            data = (n for n in data_values(node, program.constants) if n not in program.constants)
            tensors = dict.fromkeys((*layer.tensors, *data, *quantized_outputs(node)))
            layers[latest] = replace(layer, nodes=(*layer.nodes, node.name), tensors=tuple(tensors))
        elif node.name in prepared.clamps:
            layer = layers[latest]
            tensors = dict.fromkeys((*layer.tensors, *quantized_outputs(node)))
            layers[latest] = replace(layer, tensors=tuple(tensors))
    return tuple(layers.values())


def keeping(config: QuantConfig, layers: Sequence[Layer], keep: Keep = "float") -> QuantConfig:
    """The configuration with layers out of the 8-bit integers."""
    if keep == "float":
        names = (*config.nodes_to_exclude, *(name for each in layers for name in each.nodes))
        return config.model_copy(update={"nodes_to_exclude": tuple(dict.fromkeys(names))})
    names = (*config.tensors_in_16_bits, *(name for each in layers for name in each.tensors))
    return config.model_copy(update={"tensors_in_16_bits": tuple(dict.fromkeys(names))})


def sensitivities(
    layers: Sequence[Layer],
    config: QuantConfig,
    sqnr_db: Callable[[QuantConfig], float],
    *,
    keep: Keep = "float",
    progress: Progress | None = None,
) -> tuple[Sensitivity, ...]:
    """Measure every layer; the one that makes most noise alone comes first.

    Args:
        layers: The layers.
        config: Quantizes all of them.
        sqnr_db: SQNR of the outputs with a configuration.
        keep: What "all but it" makes of the layer; it alone is quantized among layers in float.
        progress: Told after every layer.
    """
    found: list[Sensitivity] = []
    for layer in layers:
        others = [other for other in layers if other is not layer]
        alone = sqnr_db(keeping(config, others))
        found.append(Sensitivity(layer, alone, sqnr_db(keeping(config, [layer], keep))))
        if progress is not None:
            progress(len(found), len(layers))
    return tuple(sorted(found, key=lambda each: each.alone_db))


def keep_costs(layers: Sequence[Layer]) -> dict[str, float]:
    """What it costs to keep each layer: its multiply-accumulates, or 1 where some are unknown."""
    known = {layer.name: layer.macs for layer in layers}
    if None in known.values():
        return dict.fromkeys(known, 1.0)
    return {name: float(macs or 0) for name, macs in known.items()}


def order_of_keeping(ranking: Sequence[Sensitivity]) -> tuple[str, ...]:
    """Names of the layers, those that make most noise per multiply-accumulate first."""
    cost = keep_costs([each.layer for each in ranking])
    ordered = sorted(ranking, key=lambda each: -each.noise / max(cost[each.layer.name], 1.0))
    return tuple(each.layer.name for each in ordered)
