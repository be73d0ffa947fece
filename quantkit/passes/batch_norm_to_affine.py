"""A BatchNormalization that could not be folded becomes a depthwise 1x1 Conv.

``y_c = factor_c * x_c + offset_c`` is a Conv with ``group = C``, weight ``(C, 1, 1, ...)`` and a
bias, which onnxruntime runs as an integer kernel; a BatchNormalization it would run in floats.
"""

import numpy as np
import onnx_ir as ir

from quantkit.graph.surgery import add_constant, replace_node
from quantkit.passes.fold_batch_norm import Affine, batch_norm_affine
from quantkit.passes.note import PassNote

# Batch, channel and one to three spatial axes; of other types onnxruntime has no Conv.
_RANKS = (3, 4, 5)
_TYPES = (np.float32, np.float16)


def batch_norm_to_affine(model: ir.Model) -> list[PassNote]:
    """Replace every BatchNormalization whose shape allows it; one note per BN."""
    notes: list[PassNote] = []
    for node in tuple(model.graph):
        if node.op_type == "BatchNormalization" and node.domain == "":
            affine, reason = batch_norm_affine(node)
            if affine is not None:
                reason = _replace_by_conv(model.graph, node, affine)
            message = reason or "now a depthwise 1x1 Conv"
            notes.append(
                PassNote("batch_norm_to_affine", node.name or "", node.op_type, not reason, message)
            )
    return notes


def _replace_by_conv(graph: ir.Graph, node: ir.Node, affine: Affine) -> str | None:
    """Put a Conv in the place of the BN; the reason where that is not possible."""
    source = node.inputs[0]
    if source is None or source.shape is None:
        return "the rank of its input is not known"
    rank, dtype = len(source.shape), _dtype(source)
    if rank not in _RANKS:
        return f"no Conv can stand for it: its input has {rank} axes, a Conv's has 3 to 5"
    if dtype not in _TYPES:
        return f"onnxruntime has no Conv for {dtype}"
    with np.errstate(over="ignore"):
        weight, bias = affine.factor.astype(dtype), affine.offset.astype(dtype)
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        return f"its factor or offset is not finite as {dtype}"
    inputs = [
        source,
        add_constant(graph, f"{node.name}.weight", weight.reshape(-1, *[1] * (rank - 1))),
        add_constant(graph, f"{node.name}.bias", bias),
    ]
    if len(node.outputs) > 1:
        node.resize_outputs(1)
    attributes: dict[str, int | list[int]] = {
        "group": weight.size,
        "kernel_shape": [1] * (rank - 2),
    }
    replace_node(node, ir.node("Conv", inputs, attributes, name=node.name))
    return None


def _dtype(value: ir.Value) -> np.dtype[np.generic]:
    return value.dtype.numpy() if value.dtype is not None else np.dtype(np.float32)
