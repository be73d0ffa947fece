"""Where each QOperator node keeps its operands, scales and zero points.

Positions follow onnx's operators and onnxruntime's ContribOperators.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

_CONTRIB = "com.microsoft"
_CONCAT_LEAD = 2

Triple = tuple[int, int, int]
"""Positions of codes, scale and zero point among a node's inputs."""


@dataclass(frozen=True, slots=True)
class Form:
    """One operator.

    Attributes:
        float_op: The op it computes.
        operands: Its quantized operands, in the float op's order; the second of a product is the
            weight.
        output: Positions of the output's scale and zero point; None: the output is float.
        lead: Inputs that come before the operands and hold no codes.
        bias: Position of an int32 bias, at the product of the operands' scales.
        float_bias: Position of a float bias.
        may_be_float: Whether the output is float where its scale is left out.
    """

    float_op: str
    operands: tuple[Triple, ...]
    output: tuple[int, int] | None
    lead: tuple[int, ...] = ()
    bias: int | None = None
    float_bias: int | None = None
    may_be_float: bool = False

    @property
    def is_product(self) -> bool:
        """Whether the second operand is a weight, which may have a scale per channel."""
        return self.float_op in ("Conv", "Gemm", "MatMul")


_ONE: tuple[Triple, ...] = ((0, 1, 2),)
_TWO: tuple[Triple, ...] = ((0, 1, 2), (3, 4, 5))

FORMS: Mapping[tuple[str, str], Form] = {
    ("", "QLinearConv"): Form("Conv", _TWO, (6, 7), bias=8),
    ("", "QLinearMatMul"): Form("MatMul", _TWO, (6, 7)),
    (_CONTRIB, "QLinearConv"): Form("Conv", _TWO, (6, 7), bias=8),
    (_CONTRIB, "QGemm"): Form("Gemm", _TWO, (7, 8), bias=6, may_be_float=True),
    (_CONTRIB, "QLinearAdd"): Form("Add", _TWO, (6, 7)),
    (_CONTRIB, "QLinearMul"): Form("Mul", _TWO, (6, 7)),
    (_CONTRIB, "QLinearSigmoid"): Form("Sigmoid", _ONE, (3, 4)),
    (_CONTRIB, "QLinearLeakyRelu"): Form("LeakyRelu", _ONE, (3, 4)),
    (_CONTRIB, "QLinearSoftmax"): Form("Softmax", _ONE, (3, 4)),
    (_CONTRIB, "QLinearAveragePool"): Form("AveragePool", _ONE, (3, 4)),
    (_CONTRIB, "QLinearGlobalAveragePool"): Form("GlobalAveragePool", _ONE, (3, 4)),
    (_CONTRIB, "QLinearWhere"): Form("Where", ((1, 2, 3), (4, 5, 6)), (7, 8), lead=(0,)),
    (_CONTRIB, "MatMulIntegerToFloat"): Form("MatMul", ((0, 2, 4), (1, 3, 5)), None, float_bias=6),
}
"""(domain, op type) -> its form; QLinearConcat, which has any number of operands, is apart."""


def form_of(node: ir.Node) -> Form | None:
    """The form of a QOperator node; None for any other node."""
    if (node.domain, node.op_type) == (_CONTRIB, "QLinearConcat"):
        count = (len(node.inputs) - _CONCAT_LEAD) // 3
        starts = [_CONCAT_LEAD + 3 * index for index in range(count)]
        return Form("Concat", tuple((at, at + 1, at + 2) for at in starts), (0, 1))
    return FORMS.get((node.domain, node.op_type))


QLINEAR_OPS: Mapping[str, tuple[str, str]] = {
    form.float_op: identifier
    for identifier, form in FORMS.items()
    if form.output is not None and identifier != (_CONTRIB, "QLinearConv")
} | {"Concat": (_CONTRIB, "QLinearConcat")}
"""Float op -> (domain, op type) of its QOperator node."""
