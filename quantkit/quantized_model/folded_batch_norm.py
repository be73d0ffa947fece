"""A BatchNormalization behind a quantized Conv or Gemm, folded into the scales of its weight.

``BN(sum w x + b) = sum (w f) x + (b f + o)`` with factor and offset per channel (see
``passes.fold_batch_norm``), so the codes stay and ``s_w`` becomes ``s_w |f|``:

1. A negative factor mirrors the codes at the zero point; a code without a counterpart (-128)
   saturates, or, where more than one step would be lost, all codes and the zero point of the
   channel are complemented (``-1 - q`` for int8), which is exact.
2. A factor of 0 leaves codes equal to the zero point, and the bias.
3. Where the bias would leave [-2^30, 2^30], the channel is nearly dead: its scale is raised and its
   codes are rounded again.
"""

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from quantkit.graph.model_io import node_of
from quantkit.graph.surgery import constant_array
from quantkit.numerics.affine import SMALLEST_SCALE, QuantizedTensor, QuantParams
from quantkit.ops.contract import OPS
from quantkit.passes.fold_batch_norm import Affine, Float64Array, batch_norm_affine, fold_batch_norm
from quantkit.quantized_model.constants import quantize_bias
from quantkit.quantized_model.qdq_pairs import Found

_BIAS_MAX = 2**30


@dataclass(frozen=True, slots=True, eq=False)
class _Folded:
    batch_norm: str
    producer: str
    weight: QuantizedTensor
    affine: Affine


def fold_into_scales(model: ir.Model, found: Found) -> dict[str, str]:
    """Fold every BatchNormalization that can be folded; codes of quantized weights follow.

    Args:
        model: The graph without its Q/DQ nodes; edited in place.
        found: What was read; codes of the weights and biases concerned are replaced.

    Returns:
        Node whose weight was changed -> why its codes are not onnxruntime's.
    """
    candidates = [
        candidate for node in model.graph if (candidate := _candidate(node, found)) is not None
    ]
    folded = {note.node for note in fold_batch_norm(model) if note.applied}
    nodes = {node.name: node for node in model.graph}
    reasons: dict[str, str] = {}
    for candidate in candidates:
        if candidate.batch_norm in folded:
            _replace_codes(nodes[candidate.producer], candidate, model, found)
            reasons[candidate.producer] = (
                f"{candidate.batch_norm} (BatchNormalization) is folded into its weight scales; "
                "onnxruntime computes both in floats"
            )
    return reasons


def _candidate(node: ir.Node, found: Found) -> _Folded | None:
    if node.op_type != "BatchNormalization" or node.domain != "" or node.inputs[0] is None:
        return None
    producer, (affine, _) = node.inputs[0].producer(), batch_norm_affine(node)
    if producer is None or affine is None or len(producer.inputs) < 2:
        return None
    x, weight = producer.inputs[:2]
    if x is None or weight is None or str(weight.name) not in found.constants:
        return None
    params = found.params.get(str(x.name))
    if params is None or params.axis is not None:
        return None
    return _Folded(str(node.name), str(producer.name), found.constants[str(weight.name)], affine)


def _replace_codes(node: ir.Node, folded: _Folded, model: ir.Model, found: Found) -> None:
    x, weight, bias = node.inputs[:3]
    assert x is not None
    assert weight is not None
    assert bias is not None
    x_params = found.params[str(x.name)]
    real_bias = constant_array(bias)
    assert real_bias is not None
    plain = node_of(node, model.opset_imports)
    axis = OPS[plain.op_type].weight_axis(plain, folded.weight.data.ndim)
    smallest = np.maximum(
        np.abs(np.asarray(real_bias, np.float64)).reshape(-1) / (float(x_params.scale) * _BIAS_MAX),
        max(SMALLEST_SCALE, 2 * SMALLEST_SCALE / float(x_params.scale)),
    )
    tensor = scaled_codes(folded.weight, folded.affine.factor, axis, smallest)
    found.constants[str(weight.name)] = tensor
    found.params[str(weight.name)] = tensor.params
    weight.const_value = ir.tensor(tensor.dequantize(), name=weight.name)
    codes = quantize_bias(real_bias.reshape(-1), x_params, tensor.params)
    found.constants[str(bias.name)] = codes
    found.params[str(bias.name)] = codes.params


def scaled_codes(
    weight: QuantizedTensor, factor: Float64Array, axis: int, smallest: Float64Array
) -> QuantizedTensor:
    """Codes of ``w * factor``, one factor per channel.

    Args:
        weight: Codes of w, per tensor or per channel.
        factor: Any sign, ``(C,)``.
        axis: The axis of the channels.
        smallest: Scales that the channels need at least, ``(C,)``.
    """
    old, channels = weight.params, weight.data.shape[axis]
    scale = np.broadcast_to(old.scale.astype(np.float64), channels)
    zero_point = np.broadcast_to(old.zero_point, channels).astype(np.int64)
    rows = np.moveaxis(weight.data, axis, 0).astype(np.int64)
    column = (-1, *[1] * (rows.ndim - 1))
    centred = rows - zero_point.reshape(column)
    negative, natural = factor < 0, scale * np.abs(factor)
    mirrored = np.where(negative.reshape(column), -centred, centred)
    mirrored[factor == 0] = 0
    # A channel whose natural scale is too small is rounded again on the one it needs.
    raised = (natural < smallest) & (factor != 0)
    shrink = np.where(raised, natural / np.where(raised, smallest, 1.0), 1.0).reshape(column)
    mirrored = np.rint(mirrored * shrink).astype(np.int64)
    lost = mirrored + zero_point.reshape(column)
    lost = np.maximum(lost - old.qmax, old.qmin - lost).reshape(channels, -1).max(axis=1)
    new_zero = np.where(negative & (lost > 1), old.qmin + old.qmax - zero_point, zero_point)
    codes = np.clip(mirrored + new_zero.reshape(column), old.qmin, old.qmax)
    params = QuantParams(
        np.where(factor == 0, np.maximum(scale, smallest), np.maximum(natural, smallest)).astype(
            np.float32
        ),
        new_zero.astype(np.int32),
        old.dtype,
        axis,
    )
    data = np.ascontiguousarray(np.moveaxis(codes.astype(old.dtype), 0, axis))
    if channels > 1:
        return QuantizedTensor(data, params)
    # One channel has one scale: files cannot tell the two apart.
    single = replace(
        params, scale=params.scale.reshape(()), zero_point=params.zero_point.reshape(()), axis=None
    )
    return QuantizedTensor(data, single)
