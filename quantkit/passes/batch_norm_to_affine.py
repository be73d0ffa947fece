"""A BatchNormalization that could not be folded becomes a depthwise 1x1 Conv.

``y_c = factor_c * x_c + offset_c`` is a Conv with ``group = C``, weight ``(C, 1, 1, ...)`` and a
bias, which onnxruntime runs as an integer kernel; a BatchNormalization it would run in floats.
"""

import numpy as np
import onnx_ir as ir

from quantkit.graph.surgery import add_constant, replace_node
from quantkit.passes.fold_batch_norm import batch_norm_affine
from quantkit.passes.note import PassNote

# Batch, channel and one to three spatial axes; of other types onnxruntime has no Conv.
_RANKS = (3, 4, 5)
_TYPES = (np.float32, np.float16)


def batch_norm_to_affine(model: ir.Model) -> list[PassNote]:
    """Replace every BatchNormalization whose shape allows it; one note per BN."""
    notes: list[PassNote] = []
    for node in tuple(model.graph):
        if node.op_type != "BatchNormalization" or node.domain != "":
            continue
        affine, reason = batch_norm_affine(node)
        source = node.inputs[0]
        if reason is None and (source is None or source.shape is None):
            reason = "the rank of its input is not known"
        elif reason is None and source is not None and len(source.shape or ()) not in _RANKS:
            axes = len(source.shape or ())
            reason = f"no Conv can stand for it: its input has {axes} axes, a Conv's has 3 to 5"
        elif reason is None and source is not None and _dtype(source) not in _TYPES:
            reason = f"onnxruntime has no Conv for {_dtype(source)}"
        if reason is not None or affine is None or source is None or source.shape is None:
            notes.append(_note(node, False, reason or "stays"))
            continue
        channels, spatial = affine.factor.size, len(source.shape) - 2
        dtype = _dtype(source)
        graph = model.graph
        weight = affine.factor.reshape(channels, *[1] * (spatial + 1)).astype(dtype)
        conv = ir.node(
            "Conv",
            [
                source,
                add_constant(graph, f"{node.name}.weight", weight),
                add_constant(graph, f"{node.name}.bias", affine.offset.astype(dtype)),
            ],
            {"group": channels, "kernel_shape": [1] * spatial},
            name=node.name,
        )
        if len(node.outputs) > 1:
            node.resize_outputs(1)
        replace_node(node, conv)
        notes.append(_note(node, True, "now a depthwise 1x1 Conv"))
    return notes


def _dtype(value: ir.Value) -> np.dtype[np.generic]:
    return value.dtype.numpy() if value.dtype is not None else np.dtype(np.float32)


def _note(node: ir.Node, applied: bool, message: str) -> PassNote:
    return PassNote("batch_norm_to_affine", node.name or "", node.op_type, applied, message)
