"""Remove Identity, and Dropout as it is at inference."""

import onnx_ir as ir

from quantkit.graph.surgery import bypass, constant_array
from quantkit.passes.note import PassNote


def remove_identity(model: ir.Model) -> list[PassNote]:
    """Remove nodes that give back their input; one note per node."""
    notes: list[PassNote] = []
    for node in tuple(model.graph):
        if node.domain != "" or node.op_type not in ("Identity", "Dropout"):
            continue
        source = node.inputs[0]
        reason = _refusal(node, source)
        if reason is None:
            assert source is not None
            if len(node.outputs) > 1:
                node.resize_outputs(1)
            bypass(node, source)
        applied = reason is None
        notes.append(
            PassNote("remove_identity", node.name or "", node.op_type, applied, reason or "removed")
        )
    return notes


def _refusal(node: ir.Node, source: ir.Value | None) -> str | None:
    if source is None:
        return "has no input"
    if node.outputs[0].is_graph_output() and (
        source.is_graph_input() or source.is_initializer() or source.is_graph_output()
    ):
        return "joins a graph input, constant or output to a graph output"
    if node.op_type == "Dropout":
        if len(node.outputs) > 1 and (node.outputs[1].uses() or node.outputs[1].is_graph_output()):
            return "its mask is used"
        training = node.inputs[2] if len(node.inputs) > 2 else None
        if training is not None:
            mode = constant_array(training)
            if mode is None or bool(mode):
                return "is in training mode, or may be"
    return None
