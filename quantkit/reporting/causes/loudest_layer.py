"""A layer that ruins the outputs alone, for no reason that is known."""

from collections.abc import Iterator

from quantkit.reporting.causes.findings import Findings
from quantkit.reporting.causes.noise import mean_square, noise_percents, so_far
from quantkit.reporting.causes.remedies import keep_float, sixteen_bits
from quantkit.reporting.layer import Layer
from quantkit.reporting.report import Cause, Remedy

LOUDEST = "more noise than all other layers together"

# Half and more is often one layer's even in healthy networks; four times all others' is not.
_STANDS_OUT_PERCENT = 80.0
# Layers of healthy networks alone leave more than this.
_HEALTHY_DB = 30.0
_FEWEST_LAYERS = 3


def loudest_layer(findings: Findings) -> Iterator[Cause]:
    """The layer that makes several times the noise of all others together, if it does harm."""
    percents = noise_percents(findings)
    if len(percents) < _FEWEST_LAYERS:
        return
    ends = _ends(findings)
    for layer in findings.layers:
        percent = percents.get(layer.node, 0.0)
        if layer.node in ends and layer.output is not None and layer.output.clipped_percent > 0.0:
            continue  # larger than any in calibration, of which few values say little
        if percent >= _STANDS_OUT_PERCENT and (layer.network_sqnr_db or 0.0) < _HEALTHY_DB:
            yield Cause(
                node=layer.node,
                cause=LOUDEST,
                evidence=f"{percent:.0f} % of the outputs' noise is its own; {so_far(layer)}",
                remedy=_remedy(findings, layer),
                noise_percent=percent,
            )


def _ends(findings: Findings) -> set[str]:
    """Layers that make an output, or what a Softmax makes one of."""
    program = findings.model.prepared.program
    values = program.output_names() | {
        node.inputs[0] for node in program.nodes if node.op_type in ("Softmax", "LogSoftmax")
    }
    return {layer.node for layer in findings.layers if layer.value in values}


def _remedy(findings: Findings, layer: Layer) -> Remedy:
    """Finer codes where the output's rounding alone explains half of its noise."""
    statistics = findings.statistics.get(layer.value)
    is_inner = layer.value not in findings.reference.program.output_names()
    if layer.output is not None and statistics is not None and is_inner:
        rounding = layer.output.scale**2 / 12.0
        lost = mean_square(statistics) * 10.0 ** (-(layer.isolated_sqnr_db or 0.0) / 10.0)
        if rounding >= lost / 2.0:
            return sixteen_bits(findings, layer.value)
    return keep_float(findings, layer.node)
