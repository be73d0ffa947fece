"""How much of a network runs in integers: as planned, and as onnxruntime really does it."""

import re
from pathlib import Path

from quantkit.graph.cost import model_cost
from quantkit.graph.ort_session import optimized_program
from quantkit.graph.program import Program
from quantkit.quantized_model.model import QuantizedModel

# What onnxruntime's optimizer writes for a Conv, Gemm or MatMul in integers.
_INTEGER_OPS = frozenset({"QGemm", "QLinearConv", "QLinearMatMul"})
# onnxruntime keeps the names of nodes, with this behind those it rewrote.
_REWRITTEN = re.compile(r"_token_\d+$")
# What a QOperator file puts behind the name of the node it was made of.
_QLINEAR = "_quant"


def planned_mac_percent(model: QuantizedModel) -> float | None:
    """Share of multiply-accumulates in integer nodes; None without any, or of unknown shapes."""
    cost = model_cost(model.prepared.program)
    if cost.unknown or not cost.macs:
        return None
    integer = sum(node.macs or 0 for node in cost.nodes if node.name not in model.plan.kept_float)
    return 100.0 * integer / cost.macs


def measured_mac_percent(path: Path, program: Program) -> float | None:
    """The share in the graph that onnxruntime writes after all its optimizations.

    Args:
        path: A quantized file.
        program: The network, for the cost of its nodes by name.

    Returns:
        Percent, or None without any, or of unknown shapes.

    Raises:
        ModelError: onnxruntime cannot load the file.
    """
    cost = model_cost(program)
    if cost.unknown or not cost.macs:
        return None
    # Floats may get other names when onnxruntime fuses them; integer kernels keep theirs.
    kernels = {
        _REWRITTEN.sub("", node.name)
        for node in optimized_program(path).nodes
        if node.op_type in _INTEGER_OPS
    }
    kernels |= {name.removesuffix(_QLINEAR) for name in kernels}
    integer = sum(node.macs or 0 for node in cost.nodes if node.name in kernels)
    return 100.0 * integer / cost.macs
