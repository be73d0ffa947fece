"""Add, Sub, Mul, Div, PRelu: functions of two tensors, with broadcasting.

One operand may be a constant. The arithmetic has the formula; codes of 8 bits are looked up in a
table of all 256 × 256 pairs, wider ones are computed. onnxruntime has integer kernels for Add and
Mul (codes of 8 bits and one dtype) and runs the others in floats.
"""

from collections.abc import Callable, Sequence

import numpy as np

from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import FloatArray, IntegerArray, QuantParams
from quantkit.numerics.arithmetic import Arithmetic
from quantkit.numerics.code_table import PairedCodes
from quantkit.ops.contract import OPS, Kernel, Lowering, Op, QuantRule, real_input
from quantkit.ops.operands import node_operands, refuse_constants

RealPairs = Callable[[FloatArray, FloatArray], FloatArray]
CodesOfPairs = Callable[[Arithmetic, QuantParams, QuantParams, QuantParams], PairedCodes]
"""(arithmetic, a, b, y) -> the function of codes."""


class Pairwise(Op):
    """A function of two tensors.

    Args:
        function: In floats.
        codes: The arithmetic's function of codes.
        has_kernel: Whether onnxruntime computes it in integers.
    """

    def __init__(self, function: RealPairs, codes: CodesOfPairs, *, has_kernel: bool) -> None:
        self.rule = QuantRule("own")
        self._function = function
        self._codes = codes
        self._has_kernel = has_kernel

    def refusal(self, node: Node, constants: Sequence[Array | None]) -> str | None:
        """Why this node cannot have an integer kernel, or None."""
        return refuse_constants(constants)

    def has_onnxruntime_kernel(self, node: Node) -> bool:
        """Whether onnxruntime computes it in integers."""
        return self._has_kernel

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """The function; a division by zero gives infinity or NaN."""
        with np.errstate(all="ignore"):
            return (self._function(real_input(inputs, 0), real_input(inputs, 1)),)

    def lower(self, lowering: Lowering) -> Kernel:
        """The arithmetic's function of the pairs."""
        operands = node_operands(lowering, (0, 1))
        a_params, b_params = operands.params
        function = self._codes(lowering.arithmetic, a_params, b_params, lowering.outputs[0])

        def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
            a, b = operands.codes(inputs)
            return (function(a, b),)

        return kernel


def parametric_relu(x: FloatArray, slope: FloatArray) -> FloatArray:
    """``x`` where it is at least 0, ``x * slope`` elsewhere (ONNX PRelu)."""
    return np.where(x >= 0, x, x * slope)


OPS.register("Add")(Pairwise(np.add, lambda kind, a, b, y: kind.addition(a, b, y), has_kernel=True))
OPS.register("Sub")(
    Pairwise(np.subtract, lambda kind, a, b, y: kind.subtraction(a, b, y), has_kernel=False)
)
OPS.register("Mul")(
    Pairwise(np.multiply, lambda kind, a, b, y: kind.multiplication(a, b, y), has_kernel=True)
)
OPS.register("Div")(
    Pairwise(np.divide, lambda kind, a, b, y: kind.division(a, b, y), has_kernel=False)
)
OPS.register("PRelu")(
    Pairwise(parametric_relu, lambda kind, a, b, y: kind.leaky_product(a, b, y), has_kernel=False)
)
