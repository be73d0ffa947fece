"""Activations with a scale per channel between a Conv and depthwise Convs, made per tensor.

``x_q = x / s[c] + z`` are also the codes of ``x' = x r[c]`` with ``r[c] = s / s[c]``, which has
one scale s. A ReLU lets positive factors pass, so the producer (a Conv, or its
BatchNormalization) makes x' where its weights are multiplied by r, and a depthwise Conv reads it
where its weights are divided by r: the scales of the weights change, and no codes do.

1. All zero points are equal, and nothing but depthwise Convs with quantized weights reads x.
2. A Clip may stand in the place of the ReLU where saturation does what its bounds do in every
   channel; a ReLU is left of it.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from quantkit.graph.surgery import (
    constant_array,
    replace_constant_input,
    replace_node,
    sole_consumer,
)
from quantkit.numerics.affine import QuantizedTensor, QuantParams
from quantkit.quantized_model.qdq_pairs import Found

Float32Array = npt.NDArray[np.float32]
_CHANNEL_AXIS = 1
_MADE_WITH = {"Conv": (1, 2), "BatchNormalization": (1, 2)}
"""What makes x -> the inputs that its output is proportional to, together."""


def spread_scales(model: ir.Model, found: Found) -> None:
    """Make every such activation per tensor; edits the graph and what was found in place."""
    for node in tuple(model.graph):
        for value in node.outputs:
            params = found.params.get(str(value.name))
            if params is not None and params.axis == _CHANNEL_AXIS:
                _spread(value, params, found)


def _spread(value: ir.Value, params: QuantParams, found: Found) -> None:
    readers = [use.node for use in value.uses()]
    is_read_alike = readers and all(_is_depthwise(node, value, found) for node in readers)
    if not is_read_alike or value.is_graph_output() or np.ptp(params.zero_point):
        return
    clamps, maker = [], value.producer()
    while maker is not None and maker.op_type in ("Relu", "Clip") and maker.domain == "":
        clamps.append(maker)
        source = maker.inputs[0]
        maker = source.producer() if source is not None else None
        if source is None or sole_consumer(source) is not clamps[-1]:
            return
    if maker is None or maker.domain != "" or not _can_scale(maker, found):
        return
    if not all(_is_relu(clamp, params) for clamp in clamps):
        return
    scale = params.scale.max()
    factor = (scale / params.scale).astype(np.float32)
    for position in _MADE_WITH[maker.op_type]:
        _multiply(maker, position, factor, found)
    for reader in readers:
        _multiply(reader, 1, np.float32(1) / factor, found)
    for clamp in clamps:
        if clamp.op_type == "Clip":
            replace_node(clamp, ir.node("Relu", [clamp.inputs[0]], name=clamp.name))
    found.params[str(value.name)] = QuantParams(
        np.asarray(scale), np.asarray(params.zero_point[0]), params.dtype
    )


def _is_depthwise(node: ir.Node, value: ir.Value, found: Found) -> bool:
    if node.op_type != "Conv" or node.domain != "" or node.inputs[0] is not value:
        return False
    weight = node.inputs[1]
    tensor = found.constants.get(str(weight.name)) if weight is not None else None
    group = node.attributes["group"].as_int() if "group" in node.attributes else 1
    return tensor is not None and tensor.data.shape[:2] == (group, 1) and _is_ours(weight)


def _can_scale(maker: ir.Node, found: Found) -> bool:
    if maker.op_type not in _MADE_WITH:
        return False
    values = [maker.inputs[at] for at in _MADE_WITH[maker.op_type] if at < len(maker.inputs)]
    if any(value is not None and not _is_ours(value) for value in values):
        return False
    return maker.op_type != "Conv" or str(values[0] and values[0].name) in found.constants


def _is_ours(value: ir.Value | None) -> bool:
    """A constant that no other node reads."""
    return value is not None and constant_array(value) is not None and len(value.uses()) == 1


def _is_relu(clamp: ir.Node, params: QuantParams) -> bool:
    """Whether it does what a ReLU and saturation to these codes do."""
    if clamp.op_type == "Relu":
        return True
    bounds = [constant_array(value) for value in (*clamp.inputs[1:], None, None)[:2]]
    if clamp.attributes or bounds[0] is None or bounds[0].any():
        return False
    if bounds[1] is None:
        return len(clamp.inputs) < 3 or clamp.inputs[2] is None
    highest = np.rint(bounds[1].reshape(()) / params.scale) + params.zero_point
    return bool((highest >= params.qmax).all())


def _multiply(node: ir.Node, position: int, factor: Float32Array, found: Found) -> None:
    """Multiply a constant by one factor per channel of axis 0; codes stay, their scale changes."""
    value = node.inputs[position] if position < len(node.inputs) else None
    array = constant_array(value)
    if value is None or array is None:
        return
    name = str(value.name)
    tensor = found.constants.get(name)
    if tensor is None:
        column = factor.reshape(-1, *[1] * (array.ndim - 1))
        replace_constant_input(node, position, (array * column).astype(array.dtype), name)
        return
    channels = len(tensor.data)
    params = replace(
        tensor.params,
        scale=np.broadcast_to(tensor.params.scale, channels) * factor,
        zero_point=np.broadcast_to(tensor.params.zero_point, channels).copy(),
        axis=0,
    )
    found.constants[name] = QuantizedTensor(tensor.data, params)
    found.params[name] = params
    value.const_value = ir.tensor(found.constants[name].dequantize(), name=name)
