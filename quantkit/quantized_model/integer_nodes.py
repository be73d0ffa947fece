"""Which nodes of a quantized file are integer, and why the others are not.

A node is integer when every value it reads and writes has parameters that its kernel takes, as
onnxruntime decides it. What the file leaves in floats is quantized on the way as onnxruntime does
it (``weight_bias_quantization.cc``): a bias to ``s_x * s_w``; a float weight of Conv,
ConvTranspose or Gemm to int8 per tensor, where the bias is not quantized either.
"""

from collections.abc import Mapping

import numpy as np

from quantkit.errors import (
    ModelError,
    NonFiniteRangeError,
    ShapeMismatchError,
    UnsupportedOpError,
)
from quantkit.graph.program import Array, Node, Program
from quantkit.numerics.affine import QuantizedTensor, QuantParams, per_tensor, quantize
from quantkit.numerics.arithmetic import ARITHMETICS
from quantkit.ops.clamp import clamp_is_implied
from quantkit.ops.contract import OPS, Lowering
from quantkit.passes.prepare import Prepared
from quantkit.plan import data_values, op_refusal, quantized_outputs
from quantkit.quantized_model.constants import quantize_bias, quantize_operand
from quantkit.quantized_model.model import weight_and_bias
from quantkit.quantized_model.qdq_pairs import Found

# onnxruntime takes a bias for one at ``s_x * s_w`` where their scales differ by less than this.
_BIAS_SCALE_TOLERANCE = 0.01
# onnxruntime passes Q/DQ pairs through these and no others (``qdq_propagation.cc``); its optimizer
# removes Identity.
_PASSED_THROUGH = frozenset(
    {"Identity", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)
_QUANTIZED_WITH_FLOAT_WEIGHT = ("Conv", "ConvTranspose", "Gemm")


def float_nodes(
    prepared: Prepared, found: Found, told: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Name of every node that stays float -> the reason.

    Args:
        prepared: The graph without its Q/DQ nodes.
        found: What was read; parameters of clamped values and codes of operands, float weights and
            float biases of integer nodes are added.
        told: Nodes that the file says are float -> why it says so. Its reason replaces the one
            found here, and codes are not passed on through such a node.

    Raises:
        ModelError: A weight or bias does not fit its node, or scales make a multiplier infinite.
    """
    told = told or {}
    _pass_params_through_movement(prepared.program, found.params, told)
    passed = _pass_params_through_clamps(prepared, found.params)
    reasons: dict[str, str] = {}
    for node in prepared.program.nodes:
        absorber = prepared.clamps.get(node.name)
        if absorber in reasons and node.inputs[0] in passed:
            del found.params[node.inputs[0]]
            reasons[node.name] = f"clamps {absorber}, which stays float"
            continue
        reason = (
            found.kept_float.get(node.name)
            or op_refusal(node, prepared.program)
            or _data_refusal(node, prepared, found)
            or _weight_refusal(node, prepared, found)
            or _kernel_refusal(node, prepared, found)
        )
        if reason is not None:
            reasons[node.name] = reason
    return {name: told.get(name, reason) for name, reason in reasons.items()}


def _pass_params_through_movement(
    program: Program, params: dict[str, QuantParams], told: Mapping[str, str]
) -> None:
    """``Conv -> Reshape -> Q`` and ``DQ -> Reshape -> Conv``: both sides have the same codes."""
    moving = [
        node
        for node in program.nodes
        if node.domain == "" and node.op_type in _PASSED_THROUGH and len(node.outputs) == 1
    ]
    readers, outputs = program.consumers(), program.output_names()
    for node in reversed(moving):
        source, output = node.inputs[0], params.get(node.outputs[0])
        is_only_reader = len(readers[source]) == 1 and source not in outputs
        is_computed = source not in program.constants and source not in params
        if output is not None and output.axis is None and is_only_reader and is_computed:
            params[source] = output
    for node in moving:
        given = params.get(node.inputs[0])
        is_passed_on = node.name not in told and node.inputs[0] not in program.constants
        if given is not None and given.axis is None and is_passed_on:
            params.setdefault(node.outputs[0], given)


def _pass_params_through_clamps(prepared: Prepared, params: dict[str, QuantParams]) -> set[str]:
    """``Conv -> Relu -> Q``: the Conv writes the codes of the Relu's output.

    Only where saturating to those codes is the clamp; onnxruntime leaves any other pair in floats.
    """
    passed: set[str] = set()
    for node in reversed(prepared.program.nodes):
        source, output = node.inputs[0] if node.inputs else "", node.outputs[0]
        if node.name not in prepared.clamps or source in params or output not in params:
            continue
        constants = [prepared.program.constants.get(name) for name in node.inputs]
        if params[output].axis is None and clamp_is_implied(node, constants, params[output]):
            params[source] = params[output]
            passed.add(source)
    return passed


def _data_refusal(node: Node, prepared: Prepared, found: Found) -> str | None:
    arrays, params = prepared.program.constants, found.params
    data, outputs = data_values(node, arrays), quantized_outputs(node)
    for name in (*data, *outputs):
        if name in found.unfit:
            return f"{name!r} is quantized to {found.unfit[name]}, which no integer kernel takes"
        if name not in params:
            what = "its output " if name in outputs else ""
            return f"{what}{name!r} is not quantized in the file" + _batch_norm_hint(node, prepared)
        if params[name].axis is not None:
            return f"{name!r} is quantized per channel"
    for name in data:
        if name in arrays and name not in found.constants:
            found.constants[name] = quantize_operand(arrays[name], params[name])
    return None


def _batch_norm_hint(node: Node, prepared: Prepared) -> str:
    readers = prepared.program.consumers().get(node.outputs[0], [])
    if OPS[node.op_type].rule.weight is None or len(readers) != 1:
        return ""
    if readers[0].op_type != "BatchNormalization" or readers[0].domain != "":
        return ""
    return (
        f": {readers[0].name} (BatchNormalization) reads it; fold that with --fold-batch-norm "
        "(fold_batch_norm=True)"
    )


def _weight_refusal(node: Node, prepared: Prepared, found: Found) -> str | None:
    rule, arrays = OPS[node.op_type].rule, prepared.program.constants
    if rule.weight is None or node.inputs[rule.weight] not in arrays:
        return None
    name = node.inputs[rule.weight]
    _check_shapes(node, arrays[name], prepared)
    if name in found.unfit:
        return f"its weight {name!r} is quantized to {found.unfit[name]}"
    bias = node.inputs[rule.bias] if rule.bias is not None and rule.bias < len(node.inputs) else ""
    if name not in found.constants:
        if node.op_type not in _QUANTIZED_WITH_FLOAT_WEIGHT or bias in found.constants:
            return f"its weight {name!r} is not quantized in the file"
        found.constants[name] = _as_onnxruntime_quantizes(arrays[name])
    weight = found.constants[name]
    if weight.data.dtype.itemsize != 1:
        return f"its weight {name!r} has {weight.data.dtype} codes; integer kernels take 8 bits"
    axis = OPS[node.op_type].weight_axis(node, weight.data.ndim)
    if weight.params.axis not in (None, axis):
        return (
            f"its weight {name!r} is quantized along axis {weight.params.axis}; output channels "
            f"are axis {axis}"
        )
    if weight.params.is_per_channel and not OPS[node.op_type].has_channel_scales(
        node, weight.data.ndim
    ):
        return f"its weight {name!r} has a scale per channel; here it needs one for all"
    return _bias_refusal(bias, found.params[node.inputs[0]], weight.params, prepared, found)


def _check_shapes(node: Node, weight: Array, prepared: Prepared) -> None:
    """Refuse a weight or bias that onnxruntime would refuse when it runs."""
    spec = prepared.program.specs.get(node.inputs[0])
    shape = spec.shape if spec is not None else None
    got = f"node {node.name!r}: its weight has shape {weight.shape}, but"
    if node.op_type not in ("Conv", "ConvTranspose"):
        return
    if shape is not None and len(shape) != weight.ndim:
        raise ModelError(f"{got} its input has {len(shape)} axes; export the model again")
    kernel = node.integers("kernel_shape", weight.shape[2:])
    if kernel != weight.shape[2:]:
        raise ModelError(f"{got} its kernel_shape is {kernel}; export the model again")
    group = node.integer("group", 1)
    needed = weight.shape[1] * group if node.op_type == "Conv" else weight.shape[0]
    if shape is not None and isinstance(shape[1], int) and shape[1] != needed:
        raise ModelError(f"{got} its input has {shape[1]} channels; export the model again")
    bias = prepared.program.constants.get(node.inputs[2]) if len(node.inputs) > 2 else None
    channels = weight.shape[0] if node.op_type == "Conv" else weight.shape[1] * group
    if bias is not None and bias.shape != (channels,):
        raise ModelError(
            f"node {node.name!r}: its bias has shape {bias.shape} for {channels} output channels; "
            "export the model again"
        )


def _as_onnxruntime_quantizes(weight: Array) -> QuantizedTensor:
    """int8 per tensor over ``[min(w, 0), max(w, 0)]``, with a zero point (``qmath.h``), in float32.

    ``s = (high - low) / 255``, ``z = rint(clamp(-128 - low / s))``.
    """
    low = np.minimum(weight.min(initial=0.0), np.float32(0.0))
    high = np.maximum(weight.max(initial=0.0), np.float32(0.0))
    scale = np.float32(1.0) if low == high else (high - low) / np.float32(255.0)
    zero_point = np.rint(np.clip(np.float32(-128.0) - low / scale, -128.0, 127.0))
    params = per_tensor(float(scale), int(zero_point), np.int8)
    return QuantizedTensor(quantize(weight, params), params)


def _bias_refusal(
    name: str, x: QuantParams, weight: QuantParams, prepared: Prepared, found: Found
) -> str | None:
    if not name or name not in prepared.program.constants:
        return None
    scale = np.asarray(x.scale * weight.scale, np.float32)
    if name in found.unfit:
        return f"its bias {name!r} is quantized to {found.unfit[name]}"
    bias = found.constants.get(name)
    if bias is None:
        real = prepared.program.constants[name]
        axis = None if scale.ndim == 0 else 0
        codes = QuantParams(scale, np.zeros(scale.shape, np.int32), np.dtype(np.int32), axis)
        try:
            found.constants[name] = (
                quantize_bias(real, x, weight)
                if x.dtype.itemsize == 2
                else QuantizedTensor(quantize(real, codes), codes)
            )
        except (ShapeMismatchError, ValueError, IndexError):
            return f"its bias {name!r} of shape {real.shape} is not one number per output channel"
        return None
    if bias.data.dtype != np.int32:
        return f"its bias {name!r} is quantized to {bias.data.dtype}, not int32"
    if bias.params.zero_point.any():
        return f"its bias {name!r} has a zero point other than 0"
    if scale.size not in (1, bias.params.scale.size) and bias.params.scale.size != 1:
        return f"its bias {name!r} has {bias.params.scale.size} scales, its weight {scale.size}"
    if (np.abs(bias.params.scale - scale) > _BIAS_SCALE_TOLERANCE * scale).any():
        return f"the scale of its bias {name!r} is not that of input times weight"
    return None


def _kernel_refusal(node: Node, prepared: Prepared, found: Found) -> str | None:
    """Why the op's kernel does not take these parameters: it says so when it is made."""
    arrays = prepared.program.constants
    data = data_values(node, arrays)
    coded = {*data, *weight_and_bias(node)}
    inputs: list[QuantParams | QuantizedTensor | Array | None] = []
    for name in node.inputs:
        if name in coded and name in found.constants:
            inputs.append(found.constants[name])
        elif name in arrays:
            inputs.append(arrays[name])
        else:
            inputs.append(found.params[name] if name else None)
    outputs = tuple(found.params[name] for name in quantized_outputs(node))
    try:
        OPS[node.op_type].lower(Lowering(node, tuple(inputs), outputs, ARITHMETICS["onnxruntime"]))
    except UnsupportedOpError as error:
        return str(error)
    except NonFiniteRangeError as error:
        raise ModelError(f"node {node.name!r} ({node.op_type}): {error}") from error
    except (ShapeMismatchError, ValueError, IndexError) as error:
        raise ModelError(
            f"node {node.name!r}: its constants do not fit each other ({error}); export the model "
            "again"
        ) from error
    return None
