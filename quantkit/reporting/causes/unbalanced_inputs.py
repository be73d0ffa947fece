"""Tensors of very different ranges that are added up, or put side by side, in the same codes."""

from collections.abc import Iterator

from quantkit.reporting.causes.findings import Findings
from quantkit.reporting.causes.noise import harmful_layers, noise_percents, so_far
from quantkit.reporting.causes.remedies import sixteen_bits
from quantkit.reporting.report import Cause

_JOINS = {"Add": "added up", "Sub": "subtracted", "Sum": "added up", "Concat": "put side by side"}
# Residual branches of networks that train well differ by 10 at most.
_UNBALANCED = 20.0
# Of 255: 3 bits. Below, the smaller input is hardly told from noise.
_FEW_STEPS = 8.0
# The join need not be loud: what it takes from the small input may be missed later only ...
_LEAST_PERCENT = 1.0
# ... and where next to nothing is left of an input, that is a fault whatever it costs here.
_LOST_STEPS = 4.0
_LOST_RATIO = 50.0


def unbalanced_inputs(findings: Findings) -> Iterator[Cause]:
    """Joins of which one input is left a few codes."""
    percents, nodes = noise_percents(findings), findings.nodes()
    harmful = {layer.node for layer in harmful_layers(findings, _LEAST_PERCENT)}
    for layer in findings.layers:
        if layer.node not in nodes:
            continue
        node = nodes[layer.node]
        if node.op_type not in _JOINS or node.domain != "" or layer.output is None:
            continue
        reach = {
            name: max(abs(found.minimum), abs(found.maximum))
            for name, found in findings.statistics.items()
            if name in node.inputs and found.minimum != found.maximum
        }
        if len(reach) < 2:
            continue
        small, large = min(reach, key=reach.__getitem__), max(reach, key=reach.__getitem__)
        steps = reach[small] / layer.output.scale
        ratio = reach[large] / reach[small]
        is_lost = ratio >= _LOST_RATIO and steps <= _LOST_STEPS
        is_small = ratio >= _UNBALANCED and steps <= _FEW_STEPS
        if not is_lost and not (is_small and layer.node in harmful):
            continue
        kind = "concat" if node.op_type == "Concat" else "add"
        yield Cause(
            node=layer.node,
            cause=f"unbalanced {kind}",
            evidence=f"{large} reaches to {reach[large]:.4g} and {small} to {reach[small]:.4g}, "
            f"{ratio:.0f} times less: {_JOINS[node.op_type]}, it is left "
            f"{steps:.1f} steps; {so_far(layer)}",
            remedy=sixteen_bits(findings, layer.value, large, small),
            noise_percent=percents.get(layer.node),
        )
