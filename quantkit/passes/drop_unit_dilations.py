"""Drop the dilations of an AveragePool where all are 1, which is their default.

onnxruntime 1.32 cannot load a quantized AveragePool that has the attribute, whatever its values, so
that such a pool would have to stay float.
"""

import onnx_ir as ir

from quantkit.passes.note import PassNote


def drop_unit_dilations(model: ir.Model) -> list[PassNote]:
    """Drop the attribute; one note per AveragePool that has it."""
    notes: list[PassNote] = []
    for node in model.graph:
        if node.op_type != "AveragePool" or node.domain != "" or "dilations" not in node.attributes:
            continue
        dilations = node.attributes["dilations"].as_ints()
        applied = all(dilation == 1 for dilation in dilations)
        if applied:
            del node.attributes["dilations"]
        message = "all are 1" if applied else f"is dilated by {list(dilations)}"
        notes.append(
            PassNote("drop_unit_dilations", node.name or "", node.op_type, applied, message)
        )
    return notes
