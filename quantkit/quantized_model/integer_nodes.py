"""Which nodes of a QDQ file are integer, and why the others are not.

A node is integer when every value it reads and writes has parameters that its kernel takes, as
onnxruntime decides it. A bias that the file leaves in floats is quantized on the way, to
``s_x * s_w``, as onnxruntime does it (``weight_bias_quantization.cc``).
"""

from collections.abc import Mapping

import numpy as np

from quantkit.graph.program import Node
from quantkit.numerics.affine import QuantizedTensor, QuantParams, quantize
from quantkit.ops.clamp import clamp_is_implied
from quantkit.ops.contract import OPS
from quantkit.passes.prepare import Prepared
from quantkit.plan import data_values, op_refusal, quantized_outputs
from quantkit.quantized_model.constants import quantize_operand

Params = dict[str, QuantParams]
Constants = dict[str, QuantizedTensor]

# onnxruntime takes a bias for one at ``s_x * s_w`` where their scales differ by less than this.
_BIAS_SCALE_TOLERANCE = 0.01


def float_nodes(
    prepared: Prepared, params: Params, constants: Constants, kept: Mapping[str, str]
) -> dict[str, str]:
    """Name of every node that stays float -> the reason.

    Args:
        prepared: The graph without its Q/DQ nodes.
        params: Of the values that are quantized in the file; those of clamped values are added.
        constants: Codes of the file's constants; operands and float biases of integer nodes are
            added.
        kept: Nodes that the file keeps float, with the reason.
    """
    passed = _pass_params_through_clamps(prepared, params)
    reasons: dict[str, str] = {}
    for node in prepared.program.nodes:
        absorber = prepared.clamps.get(node.name)
        if absorber in reasons and node.inputs[0] in passed:
            del params[node.inputs[0]]
            reasons[node.name] = f"clamps {absorber}, which stays float"
            continue
        reason = kept.get(node.name) or op_refusal(node, prepared.program)
        if reason is None:
            reason = _data_refusal(node, prepared, params, constants)
        if reason is None:
            reason = _weight_refusal(node, prepared, params, constants)
        if reason is not None:
            reasons[node.name] = reason
    return reasons


def _pass_params_through_clamps(prepared: Prepared, params: Params) -> set[str]:
    """``Conv -> Relu -> Q``: the Conv writes the codes of the Relu's output.

    Only where saturating to those codes is the clamp; onnxruntime leaves any other pair in floats.
    """
    passed: set[str] = set()
    for node in reversed(prepared.program.nodes):
        source, output = node.inputs[0] if node.inputs else "", node.outputs[0]
        if node.name not in prepared.clamps or source in params or output not in params:
            continue
        constants = [prepared.program.constants.get(name) for name in node.inputs]
        if clamp_is_implied(node, constants, params[output]):
            params[source] = params[output]
            passed.add(source)
    return passed


def _data_refusal(
    node: Node, prepared: Prepared, params: Mapping[str, QuantParams], constants: Constants
) -> str | None:
    arrays = prepared.program.constants
    data = data_values(node, arrays)
    for name in (*data, *quantized_outputs(node)):
        if name not in params:
            return f"{name!r} is not quantized in the file"
        if params[name].axis is not None:
            return f"{name!r} is quantized per channel"
        if params[name].dtype.itemsize != 1:
            return f"{name!r} has {params[name].dtype} codes; integer kernels take 8 bits"
    for name in data:
        if name in arrays and name not in constants:
            constants[name] = quantize_operand(arrays[name], params[name])
    return None


def _weight_refusal(
    node: Node, prepared: Prepared, params: Mapping[str, QuantParams], constants: Constants
) -> str | None:
    rule, arrays = OPS[node.op_type].rule, prepared.program.constants
    if rule.weight is None or node.inputs[rule.weight] not in arrays:
        return None
    name = node.inputs[rule.weight]
    weight = constants.get(name)
    if weight is None:
        return f"its weight {name!r} is not quantized in the file"
    if weight.data.dtype.itemsize != 1:
        return f"its weight {name!r} has {weight.data.dtype} codes; integer kernels take 8 bits"
    axis = OPS[node.op_type].weight_axis(node, weight.data.ndim)
    if weight.params.axis not in (None, axis):
        return (
            f"its weight {name!r} is quantized along axis {weight.params.axis}; output channels "
            f"are axis {axis}"
        )
    if rule.bias is None or rule.bias >= len(node.inputs) or not node.inputs[rule.bias]:
        return None
    scale = params[node.inputs[0]].scale * weight.params.scale
    return _bias_refusal(node.inputs[rule.bias], scale, prepared, constants)


def _bias_refusal(
    name: str, scale: np.ndarray, prepared: Prepared, constants: Constants
) -> str | None:
    scale = np.asarray(scale, np.float32)
    bias = constants.get(name)
    if bias is None:
        axis = None if scale.ndim == 0 else 0
        codes = QuantParams(scale, np.zeros(scale.shape, np.int32), np.dtype(np.int32), axis)
        constants[name] = QuantizedTensor(quantize(prepared.program.constants[name], codes), codes)
        return None
    if bias.data.dtype != np.int32:
        return f"its bias {name!r} is quantized to {bias.data.dtype}, not int32"
    if bias.params.zero_point.any():
        return f"its bias {name!r} has a zero point other than 0"
    if (np.abs(bias.params.scale - scale) > _BIAS_SCALE_TOLERANCE * scale).any():
        return f"the scale of its bias {name!r} is not that of input times weight"
    return None
