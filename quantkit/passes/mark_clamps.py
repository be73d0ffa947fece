"""Which Relu and Clip nodes are the clamp of the node before them.

A Relu, ReLU6 or Clip behind a Conv, Gemm or Add needs no kernel: the producer writes the codes of
the clamp's output directly, and saturating to the output's range (or to ``[q(low), q(high)]``) is
the clamp (Jacob et al. 2018, section 2.4). Producer and clamp then share one set of parameters.
"""

from collections.abc import Mapping

import onnx_ir as ir

from quantkit.graph.surgery import constant_array, sole_consumer
from quantkit.ops.contract import OPS
from quantkit.passes.note import PassNote


def mark_clamps(model: ir.Model) -> tuple[Mapping[str, str], list[PassNote]]:
    """Find the clamps that their producers absorb.

    Returns:
        Name of each absorbed clamp -> name of the node that absorbs it, and one note per clamp.
    """
    clamps: dict[str, str] = {}
    notes: list[PassNote] = []
    for node in model.graph:
        if node.domain != "" or node.op_type not in OPS or not OPS[node.op_type].rule.clamps:
            continue
        assert node.name is not None
        producer, reason = _absorber(node, clamps)
        if producer is not None:
            clamps[node.name] = producer
            message = f"absorbed by {producer}"
        else:
            message = reason
        notes.append(
            PassNote("mark_clamps", node.name, node.op_type, producer is not None, message)
        )
    return clamps, notes


def _absorber(node: ir.Node, clamps: Mapping[str, str]) -> tuple[str | None, str]:
    """The node that absorbs this clamp, or None and the reason."""
    if any(bound is not None and constant_array(bound) is None for bound in node.inputs[1:]):
        return None, "its bounds are computed"
    source = node.inputs[0]
    producer = source.producer() if source is not None else None
    if source is None or producer is None or producer.name is None:
        return None, "follows the graph input"
    if sole_consumer(source) is not node:
        return None, f"the output of {producer.name} has other readers or is a graph output"
    if producer.name in clamps:
        return clamps[producer.name], ""
    if (
        producer.domain != ""
        or producer.op_type not in OPS
        or OPS[producer.op_type].rule.output != "own"
    ):
        return None, f"{producer.name} ({producer.op_type}) has no range of its own"
    return producer.name, ""
