"""How much of a network runs in integers: as planned, and as onnxruntime really does it."""

import re
from pathlib import Path

from quantkit.graph.cost import model_cost
from quantkit.graph.ort_session import optimized_program
from quantkit.graph.program import Program
from quantkit.plan import data_values, quantized_outputs
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


def int8_mac_percent(model: QuantizedModel | None) -> float | None:
    """Share of multiply-accumulates in nodes whose activations all have 8 bits.

    Args:
        model: The model; None stands for the float network.

    Returns:
        Percent; None without any multiply-accumulate, or where shapes are unknown.
    """
    if model is None:
        return 0.0
    program, params = model.prepared.program, model.plan.params
    cost = model_cost(program)
    if cost.unknown or not cost.macs:
        return None
    integer = 0
    for node, found in zip(program.nodes, cost.nodes, strict=True):
        if node.name not in model.plan.kept_float and found.macs:
            names = (*data_values(node, program.constants), *quantized_outputs(node))
            if all(params[name].dtype.itemsize == 1 for name in names):
                integer += found.macs
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
