"""Gemm and MatMul: matrix products with a constant weight, or (MatMul) of two activations.

``y_q[n, o] = requantize(bias[o] + sum_k weight_q[k, o] * (x_q[n, k] - z_x))``
"""

import math
from collections.abc import Sequence

import numpy as np

from quantkit.errors import UnsupportedOpError
from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import IntegerArray, QuantParams
from quantkit.numerics.integer_gemm import (
    Carrier,
    ConstantOperand,
    matmul_exact,
    plan_uniform_blocks,
)
from quantkit.ops.contract import OPS, Kernel, Lowering, Op, QuantRule, optional_input, real_input
from quantkit.ops.weights import centered_weight, constant_bias, require_8_bit_input


class Gemm(Op):
    """``alpha * A @ B + beta * C`` with ``alpha = beta = 1`` and constant B (ONNX Gemm)."""

    rule = QuantRule("own", weight=1, bias=2)

    def weight_axis(self, node: Node, weight_ndim: int) -> int:
        """B is (K, O), or (O, K) with ``transB``."""
        return 0 if node.integer("transB", 0) else 1

    def refusal(self, node: Node, constants: Sequence[Array | None]) -> str | None:
        """Why this node cannot have an integer kernel, or None."""
        weight = constants[1]
        if weight is None:
            return "the weight is computed, not a constant"
        if node.integer("transA", 0):
            return "the activation is transposed (transA = 1)"
        if node.number("alpha", 1.0) != 1.0:
            return f"the product is scaled (alpha = {node.number('alpha', 1.0)})"
        if len(node.inputs) > 2 and node.inputs[2]:
            bias = constants[2]
            if bias is None:
                return "the bias is computed, not a constant"
            if node.number("beta", 1.0) != 1.0:
                return f"the bias is scaled (beta = {node.number('beta', 1.0)})"
            outputs = weight.shape[self.weight_axis(node, 2)]
            if bias.size not in (1, outputs) or bias.size != math.prod(bias.shape[-1:]):
                return f"the bias of shape {bias.shape} is not one number per output"
        return None

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """``alpha * A @ B + beta * C`` in the inputs' dtype."""
        a, b = real_input(inputs, 0), real_input(inputs, 1)
        a = a.T if node.integer("transA", 0) else a
        b = b.T if node.integer("transB", 0) else b
        y = np.matmul(a, b) * a.dtype.type(node.number("alpha", 1.0))
        c = optional_input(inputs, 2)
        if c is not None:
            y = y + c * a.dtype.type(node.number("beta", 1.0))
        return (y,)

    def lower(self, lowering: Lowering) -> Kernel:
        """A product with constant codes."""
        weight = lowering.codes(1)
        if weight is None:
            raise UnsupportedOpError(f"{lowering.node.name}: Gemm needs constant weight codes")
        codes = centered_weight(weight)
        outputs_by_inner = codes if lowering.node.integer("transB", 0) else codes.T
        return _constant_product(lowering, outputs_by_inner)

    def macs(self, node: Node, shapes: Sequence[tuple[int, ...] | None]) -> int:
        """``rows * K * O``."""
        weight, y = shapes[1], shapes[-1]
        if weight is None or y is None:
            return 0
        inner = weight[1 - self.weight_axis(node, 2)]
        return math.prod(y) * inner


class MatMul(Op):
    """``A @ B`` with batch axes; B is a constant matrix or an activation (ONNX MatMul)."""

    rule = QuantRule("own", weight=1)

    def weight_axis(self, node: Node, weight_ndim: int) -> int:
        """The last axis of B."""
        return weight_ndim - 1

    def refusal(self, node: Node, constants: Sequence[Array | None]) -> str | None:
        """Why this node cannot have an integer kernel, or None."""
        if constants[0] is not None:
            return "the first operand is a constant"
        if constants[1] is not None and constants[1].ndim != 2:
            return f"the weight has {constants[1].ndim} axes, not 2"
        return None

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """``A @ B`` in the inputs' dtype."""
        return (np.asarray(np.matmul(real_input(inputs, 0), real_input(inputs, 1))),)

    def lower(self, lowering: Lowering) -> Kernel:
        """A product with constant codes, or of two activations."""
        weight = lowering.inputs[1]
        if isinstance(weight, QuantParams):
            return _dynamic_product(lowering)
        codes = lowering.codes(1)
        if codes is None or codes.data.ndim != 2:
            raise UnsupportedOpError(f"{lowering.node.name}: MatMul needs a weight of 2 axes")
        return _constant_product(lowering, centered_weight(codes).T)

    def macs(self, node: Node, shapes: Sequence[tuple[int, ...] | None]) -> int:
        """``elements of the output * K``."""
        a, y = shapes[0], shapes[-1]
        if a is None or y is None:
            return 0
        return math.prod(y) * a[-1]


def _constant_product(lowering: Lowering, weight: IntegerArray) -> Kernel:
    """``x_q (..., K) @ weight (O, K).T``; the weights' codes are at input 1, a bias at input 2."""
    x, y = lowering.params(0), lowering.outputs[0]
    require_8_bit_input(lowering.node, x)
    codes = lowering.codes(1)
    assert codes is not None
    operand = ConstantOperand.prepare(
        weight,
        constant_bias(lowering.codes(2), weight.shape[:1]),
        int(x.zero_point),
        max(abs(x.qmin), x.qmax),
        strict_integer=lowering.strict_integer,
    )
    requantize = lowering.arithmetic.accumulator_requantizer(
        x, codes.params, y, channel_axis=-1, strict_integer=lowering.strict_integer
    )
    inner_by_outputs = np.ascontiguousarray(operand.weight.T)

    def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
        *lead, inner = inputs[0].shape
        carried = inputs[0].reshape(-1, inner).astype(operand.weight.dtype)
        total = matmul_exact(carried, inner_by_outputs, operand.blocks)
        total = operand.add_bias(total, operand.bias)
        y_q = np.empty(total.shape, y.dtype)
        requantize(total, y_q)
        return (y_q.reshape(*lead, y_q.shape[-1]),)

    return kernel


def _dynamic_product(lowering: Lowering) -> Kernel:
    """``(a_q - z_a) @ (b_q - z_b)`` of two activations."""
    a, b, y = lowering.params(0), lowering.params(1), lowering.outputs[0]
    require_8_bit_input(lowering.node, a)
    require_8_bit_input(lowering.node, b)
    reaches = [
        max(params.qmax - int(params.zero_point), int(params.zero_point) - params.qmin)
        for params in (a, b)
    ]
    carrier = np.dtype(np.int32 if lowering.strict_integer else np.float32)
    requantize = lowering.arithmetic.accumulator_requantizer(
        a, b, y, channel_axis=-1, strict_integer=lowering.strict_integer
    )

    def centered(q: IntegerArray, zero_point: int) -> Carrier:
        return (q.astype(np.int16) - zero_point).astype(carrier)

    def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
        a_q, b_q = inputs
        if min(a_q.ndim, b_q.ndim) < 2:
            raise UnsupportedOpError(f"{lowering.node.name}: MatMul of a vector and an activation")
        total = matmul_exact(
            centered(a_q, int(a.zero_point)),
            centered(b_q, int(b.zero_point)),
            plan_uniform_blocks(a_q.shape[-1], *reaches),
        )
        y_q = np.empty(total.shape, y.dtype)
        requantize(total, y_q)
        return (y_q,)

    return kernel


OPS.register("Gemm")(Gemm())
OPS.register("MatMul")(MatMul())
