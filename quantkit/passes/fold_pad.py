"""Move a constant zero Pad into the pads of the Conv that reads it.

``Conv(Pad(x, p, 0), pads=q) = Conv(x, pads=p+q)`` where p pads spatial axes only.
"""

import numpy as np
import onnx_ir as ir

from quantkit.graph.surgery import bypass, constant_array
from quantkit.passes.note import PassNote


def fold_pad(model: ir.Model) -> list[PassNote]:
    """Fold every Pad whose readers are all Convs; one note per Pad."""
    notes: list[PassNote] = []
    for node in reversed(tuple(model.graph)):  # of two Pads in a row both fold
        if node.op_type != "Pad" or node.domain != "":
            continue
        pads, reason = _spatial_pads(node)
        readers = [use.node for use in node.outputs[0].uses()]
        if reason is None:
            reason = _reader_refusal(node, readers)
        if reason is None:
            for conv in readers:
                _add_pads(conv, pads)
            source = node.inputs[0]
            assert source is not None
            names = ", ".join(str(conv.name) for conv in readers)
            bypass(node, source)
            notes.append(PassNote("fold_pad", node.name or "", "Pad", True, f"now pads of {names}"))
        else:
            notes.append(PassNote("fold_pad", node.name or "", "Pad", False, reason))
    return notes


def _spatial_pads(node: ir.Node) -> tuple[list[int], str | None]:
    """Begin and end pads of the spatial axes, or the reason why they cannot move."""
    mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "constant"
    if mode != "constant":
        return [], f"pads by {mode}, a Conv pads with zeros"
    pads = constant_array(node.inputs[1])
    if pads is None:
        return [], "its pads are computed"
    value = node.inputs[2] if len(node.inputs) > 2 else None
    fill = constant_array(value)
    if value is not None and (fill is None or np.any(fill)):
        return [], "pads with another value than 0"
    if (pads < 0).any():
        return [], "crops (a negative pad)"
    source = node.inputs[0]
    rank, axes = pads.size // 2, np.arange(pads.size // 2)
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        chosen = constant_array(node.inputs[3])
        if chosen is None or source is None or source.shape is None:
            return [], "its axes are computed, or the rank of its input is not known"
        rank, axes = len(source.shape), chosen
    widths = np.zeros((2, rank), np.int64)
    widths[:, axes] = pads.reshape(2, -1)
    if widths[:, :2].any():
        return [], "pads the batch or the channel axis"
    return widths[:, 2:].reshape(-1).tolist(), None


def _reader_refusal(node: ir.Node, readers: list[ir.Node]) -> str | None:
    if node.outputs[0].is_graph_output():
        return "is a graph output"
    others = [reader for reader in readers if reader.op_type != "Conv" or reader.domain != ""]
    if others or not readers:
        names = ", ".join(f"{reader.name} ({reader.op_type})" for reader in others) or "nothing"
        return f"is read by {names}, not by a Conv"
    for conv in readers:
        if node.outputs[0] in conv.inputs[1:]:
            return f"is the weight of {conv.name}"
        auto_pad = conv.attributes["auto_pad"].as_string() if "auto_pad" in conv.attributes else ""
        if auto_pad not in ("", "NOTSET", "VALID"):
            return f"{conv.name} pads by itself (auto_pad={auto_pad})"
    return None


def _add_pads(conv: ir.Node, pads: list[int]) -> None:
    automatic = conv.attributes.pop("auto_pad", None)
    is_valid = automatic is not None and automatic.as_string() == "VALID"
    present = [0] * len(pads)
    if "pads" in conv.attributes and not is_valid:
        present = list(conv.attributes["pads"].as_ints())
    total = [a + b for a, b in zip(pads, present, strict=True)]
    conv.attributes["pads"] = ir.AttrInt64s("pads", total)
