"""Weights whose codes are spent on a few of their channels.

With one scale for a weight, an output channel whose range is r times smaller than the largest is
left ``127 / r`` codes. With a scale per output channel the same happens within a channel, where the
weights of one input channel are much larger than the others; that is only a fault where that input
channel is dead, because then nothing is gained for what is lost.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from quantkit.graph.program import Array, Node
from quantkit.ops.contract import OPS
from quantkit.quantized_model.model import weight_and_bias
from quantkit.reporting.causes.findings import Findings
from quantkit.reporting.causes.noise import harmful_layers, noise_percents, so_far
from quantkit.reporting.causes.remedies import keep_float, per_channel
from quantkit.reporting.layer import Layer
from quantkit.reporting.report import Cause, Remedy

# With one scale for all, the median channel has 5 of 7 bits left.
_UNEVEN = 4.0
_FEW = 0.125
# What moves by less than this share of its tensor's extent says nothing.
_CONSTANT = 0.01

Float64Array = npt.NDArray[np.float64]


def weight_channels(findings: Findings) -> Iterator[Cause]:
    """Layers with one weight scale for uneven channels, or with large weights of a dead input."""
    percents, nodes = noise_percents(findings), findings.nodes()
    for layer in harmful_layers(findings):
        node = nodes[layer.node]
        found = _uneven_outputs(findings, layer, node) or _dead_input(findings, node)
        if found is not None:
            name, evidence, remedy = found
            yield Cause(
                node=layer.node,
                cause=name,
                evidence=f"{evidence}; {so_far(layer)}",
                remedy=remedy,
                noise_percent=percents.get(layer.node),
            )


def _uneven_outputs(findings: Findings, layer: Layer, node: Node) -> tuple[str, str, Remedy] | None:
    weight = _codes(findings, node)
    if weight is None or findings.model.constants[weight_and_bias(node)[0]].params.is_per_channel:
        return None
    axis = OPS[node.op_type].weight_axis(node, weight.ndim)
    top = _largest(weight, axis)
    alive = _alive(findings, node, axis, top)
    if top.size < 2 or alive.sum() < 2:
        return None
    ratio = float(top.max()) / max(float(np.median(top[alive])), 0.5)
    if ratio < _UNEVEN:
        return None
    can = OPS[node.op_type].has_channel_scales(node, weight.ndim)
    remedy = per_channel() if can else keep_float(findings, node.name)
    loud = np.flatnonzero(top * _UNEVEN >= top.max())
    evidence = (
        f"one scale for {top.size} channels, of which the largest reaches {ratio:.0f} times as far "
        f"as the median one, which is left {127 / ratio:.0f} of 127 steps"
    )
    if loud.size > max(1, int(_FEW * top.size)):
        return "one weight scale for uneven channels", evidence, remedy
    which = ", ".join(map(str, loud[:4]))
    is_dead = _is_constant(findings, layer.value, np.flatnonzero(top == top.max()))
    name = "dead channel" if is_dead else "one weight scale for uneven channels"
    more = ", though it says nothing" if is_dead else ""
    return name, f"{evidence}; channel {which} sets the scale{more}", remedy


def _dead_input(findings: Findings, node: Node) -> tuple[str, str, Remedy] | None:
    weight = _codes(findings, node)
    if weight is None or weight.ndim < 2 or node.integer("group", 1) != 1:
        return None
    axis = OPS[node.op_type].weight_axis(node, weight.ndim)
    inputs = np.moveaxis(weight, axis, 0).swapaxes(0, 1) if weight.ndim > 2 else weight
    rows = _largest(inputs, 0) if weight.ndim > 2 else _largest(weight, 1 - axis)
    statistics = findings.statistics.get(node.inputs[0])
    channels = None if statistics is None else statistics.channels
    if channels is None or channels.channels != rows.size:
        return None
    dead = channels.minimum == channels.maximum
    if not dead.any() or dead.all():
        return None
    ratio = float(rows[dead].max()) / max(float(rows[~dead].max()), 0.5)
    if ratio < _UNEVEN:
        return None
    channel = int(np.flatnonzero(dead)[np.argmax(rows[dead])])
    return (
        "dead channel",
        (
            f"channel {channel} of its input never changes, and the weights that read it are "
            f"{ratio:.0f} times as large as all others, which are left {127 / ratio:.0f} of 127 "
            "steps"
        ),
        keep_float(findings, node.name),
    )


def _codes(findings: Findings, node: Node) -> Array | None:
    name = weight_and_bias(node)[0] if node.op_type in OPS else ""
    return findings.model.constants[name].data if name in findings.model.constants else None


def _largest(weight: Array, axis: int) -> Float64Array:
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    largest: Float64Array = np.abs(rows.astype(np.float64)).max(axis=1)
    return largest


def _alive(findings: Findings, node: Node, axis: int, top: Float64Array) -> npt.NDArray[np.bool_]:
    """Channels with weights: in the float file, too, as small ones may have become 0 in codes."""
    constants = findings.reference.program.constants
    same = next((n for n in findings.reference.program.nodes if n.name == node.name), None)
    name = weight_and_bias(same)[0] if same is not None and same.op_type in OPS else ""
    if name not in constants or constants[name].shape[axis] != top.size:
        return top > 0
    return _largest(constants[name], axis) > 0


def _is_constant(findings: Findings, value: str, found: npt.NDArray[np.intp]) -> bool:
    statistics = findings.statistics.get(value)
    channels = None if statistics is None else statistics.channels
    if statistics is None or channels is None or channels.channels <= found.max():
        return False
    moves = channels.maximum[found] - channels.minimum[found]
    return bool((moves <= _CONSTANT * (statistics.maximum - statistics.minimum)).all())
