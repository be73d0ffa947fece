"""The table of ``docs/ops.md``, made from the registry of ops and the cases that judge them.

What onnxruntime does is read off the conformance cases: each names the kernel that onnxruntime's
optimized graph must hold, and ``tests/ops/test_conformance.py`` looks for it there.
"""

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from quantkit.exporters.moved_codes import moves_codes
from quantkit.numerics.affine import QuantizedTensor, QuantParams
from quantkit.ops.contract import OPS, Op
from quantkit.quantized_model.qoperator_forms import QLINEAR_OPS
from tests.ops.case import Case
from tests.ops.cases import CASES, WITHOUT_KERNEL

OPSET = 21
COLUMNS = ("op", "output", "integer kernel", "onnxruntime 1.32", "QOperator")

KERNELS: Mapping[str, str] = {
    "Activation": "table with an entry per code",
    "ArgExtreme": "position of a code",
    "AveragePool": "sum of codes, requantized",
    "BatchNormalization": "none: folded into the op before it",
    "Clip": "clamp of codes",
    "Concat": "codes rescaled, then moved",
    "Conv": "exact sum of products, requantized",
    "ConvTranspose": "exact sum of products, requantized",
    "Extremum": "codes rescaled, then compared",
    "Gemm": "exact sum of products, requantized",
    "GlobalAveragePool": "sum of codes, requantized",
    "LayerNormalization": "exact sums, integer root and division",
    "MatMul": "exact sum of products, requantized",
    "MaxPool": "largest code",
    "Movement": "codes moved",
    "Pad": "codes moved, border of codes",
    "Pairwise": "function of two codes",
    "Power": "table with an entry per code",
    "ReduceExtreme": "largest or smallest code",
    "ReduceMean": "sum of codes, requantized",
    "Relu": "clamp of codes",
    "Resize": "nearest: codes moved; linear: integer weights",
    "Sigmoid": "table with an entry per code",
    "Softmax": "table of exponentials, division",
    "Where": "codes rescaled, then selected",
}
"""Class of an op -> what its kernel does with codes."""


def ops_table() -> str:
    """The table of ``docs/ops.md``, in Markdown."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *map(_row, OPS)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def float_islands() -> tuple[str, ...]:
    """Ops that onnxruntime computes in floats, whatever the node, but for those that move codes."""
    return tuple(
        op_type
        for op_type, op in OPS.items()
        if _kernels(op_type) == {False} and op.rule.output not in ("same_as_input", "plain")
    )


def _row(op_type: str) -> tuple[str, ...]:
    op = OPS[op_type]
    return (
        op_type,
        _output(op) if op_type not in WITHOUT_KERNEL else "-",
        KERNELS[type(op).__name__],
        _onnxruntime(op_type),
        _qoperator(op_type),
    )


def _output(op: Op) -> str:
    if op.rule.fixed_range is not None:
        return "[{:g}, {:g}]".format(*op.rule.fixed_range)
    return {"own": "own", "same_as_input": "as input", "plain": "no codes"}[op.rule.output]


def _onnxruntime(op_type: str) -> str:
    if op_type in WITHOUT_KERNEL:
        return "float"
    is_moved = OPS[op_type].rule.output in ("same_as_input", "plain")
    kernels = _kernels(op_type)
    if len(kernels) == 2:
        return "depends on the node: on codes (mode nearest) or float island"
    if kernels == {False}:
        return "float island, same codes" if is_moved else "float island"
    if OPS[op_type].rule.clamps:
        return "part of the op before it, else float island, same codes"
    if is_moved:
        return "on codes"
    (fused,) = {case.fused for case in CASES[op_type]() if _is_plain(case)}
    return f"integer kernel `{fused}`"


def _qoperator(op_type: str) -> str:
    if op_type in QLINEAR_OPS:
        domain, name = QLINEAR_OPS[op_type]
        return f"`{domain}.{name}`" if domain else f"`{name}`"
    if op_type in WITHOUT_KERNEL:
        return "-"
    moved = {moves_codes(_ir_node(case), OPSET) for case in CASES[op_type]()}
    if moved == {False}:
        return "Q/DQ"
    name = "`Clip` on codes" if op_type == "Relu" else "on codes"
    return name if moved == {True} else f"{name} (mode nearest) or Q/DQ"


def _kernels(op_type: str) -> set[bool]:
    """Whether onnxruntime has an integer kernel, over the nodes of the cases."""
    if op_type in WITHOUT_KERNEL:
        return set()
    return {OPS[op_type].has_onnxruntime_kernel(case.node) for case in CASES[op_type]()}


def _is_plain(case: Case) -> bool:
    """Whether all activations have 8 bits and one dtype."""
    params = [each for each in (*case.inputs, *case.outputs) if isinstance(each, QuantParams)]
    weights = [each for each in case.inputs if isinstance(each, QuantizedTensor)]
    is_product = OPS[case.node.op_type].rule.weight is not None
    constants = [] if is_product else [each.params for each in weights]
    dtypes = {each.dtype for each in (*params, *constants)}
    return len(dtypes) == 1 and dtypes.pop().itemsize == 1


def _ir_node(case: Case) -> ir.Node:
    attributes: dict[str, Any] = dict(case.node.attributes)
    return ir.node(case.node.op_type, [None], attributes)
