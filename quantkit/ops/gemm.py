"""Gemm and MatMul: matrix products with a constant weight, or (MatMul) of two activations.

``y_q[n, o] = requantize(bias[o] + sum_k (weight_q[k, o] - z_w[o]) * (x_q[n, k] - z_x))``

A constant matrix is prepared once (:func:`~quantkit.ops.weights.constant_operand`). Everything else
that MatMul multiplies, two activations, a constant with batch axes or a constant first operand, is
one product of centred codes. onnxruntime computes them all in integers, except where the codes of
the second operand are uint8 and those of the first int8, where a constant first operand is int8 and
the activation uint8, or where a scale per channel belongs to the first operand or to one with batch
axes. Sums wrap as int32.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import IntegerArray, QuantizedTensor, QuantParams
from quantkit.numerics.integer_gemm import matmul_exact, plan_uniform_blocks, sums_of
from quantkit.ops.contract import OPS, Kernel, Lowering, Op, QuantRule, optional_input, real_input
from quantkit.ops.weights import (
    centered_weight,
    constant_operand,
    require_factor,
    sum_requantizer,
)


class Gemm(Op):
    """``alpha * A @ B + beta * C`` with constant B (ONNX Gemm).

    Without C, ``M = f32(f32(f32(alpha * s_x) * s_w) / s_y)`` as in onnxruntime's QGemm (source:
    ``quant_gemm.cc``). With C both must be 1: onnxruntime leaves any other node in floats.
    """

    rule = QuantRule("own", weight=1, bias=2)

    def weight_axis(self, node: Node, weight_ndim: int) -> int:
        """B is (K, O), or (O, K) with ``transB``."""
        return 0 if node.integer("transB", 0) else 1

    def refusal(self, node: Node, constants: Sequence[Array | None]) -> str | None:
        """Why this node cannot have an integer kernel, or None."""
        weight = constants[1]
        if weight is None:
            return "the weight is computed, not a constant"
        alpha = node.number("alpha", 1.0)
        if not alpha > 0:
            return f"the product is scaled by {alpha} (alpha), not by a number above 0"
        if len(node.inputs) > 2 and node.inputs[2]:
            if alpha != 1.0:
                return f"the product is scaled (alpha = {alpha}) and has a bias"
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
        node = lowering.node
        codes = centered_weight(node, lowering.codes(1))
        product = _constant_product(
            lowering,
            codes if node.integer("transB", 0) else codes.T,
            alpha=node.number("alpha", 1.0),
        )
        if not node.integer("transA", 0):
            return product
        return lambda inputs: product([inputs[0].T])

    def macs(self, node: Node, shapes: Sequence[tuple[int, ...] | None]) -> int:
        """``rows * K * O``."""
        weight, y = shapes[1], shapes[-1]
        if weight is None or y is None:
            return 0
        inner = weight[1 - self.weight_axis(node, 2)]
        return math.prod(y) * inner


class MatMul(Op):
    """``A @ B`` of vectors, matrices and batches of them, one of them constant (ONNX MatMul)."""

    rule = QuantRule("own", weight=1)

    def weight_axis(self, node: Node, weight_ndim: int) -> int:
        """The last axis of B."""
        return weight_ndim - 1

    def has_channel_scales(self, node: Node, weight_ndim: int) -> bool:
        """Only those of a matrix: onnxruntime computes batches of them in floats."""
        return weight_ndim == 2

    def refusal(self, node: Node, constants: Sequence[Array | None]) -> str | None:
        """Why this node cannot have an integer kernel, or None."""
        if all(constant is not None for constant in constants):
            return "both operands are constants"
        return None

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """``A @ B`` in the inputs' dtype."""
        return (np.asarray(np.matmul(real_input(inputs, 0), real_input(inputs, 1))),)

    def lower(self, lowering: Lowering) -> Kernel:
        """A product with a constant matrix, or of any two operands."""
        weight = lowering.inputs[1]
        if isinstance(weight, QuantizedTensor) and weight.data.ndim == 2:
            return _constant_product(lowering, centered_weight(lowering.node, weight).T)
        return _general_product(lowering)

    def macs(self, node: Node, shapes: Sequence[tuple[int, ...] | None]) -> int:
        """``elements of the output * K``."""
        a, y = shapes[0], shapes[-1]
        if a is None or y is None:
            return 0
        return math.prod(y) * a[-1]


def _constant_product(lowering: Lowering, weight: IntegerArray, *, alpha: float = 1.0) -> Kernel:
    """``x_q (..., K) @ weight (O, K).T``; the weights' codes are at input 1, a bias at input 2."""
    operand = constant_operand(lowering, weight)
    requantize = sum_requantizer(lowering, channel_axis=-1, alpha=alpha)
    dtype = lowering.outputs[0].dtype
    inner_by_outputs = np.ascontiguousarray(operand.weight.T)

    def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
        *lead, inner = inputs[0].shape
        carried = inputs[0].reshape(-1, inner).astype(operand.weight.dtype)
        total = matmul_exact(carried, inner_by_outputs, operand.blocks)
        total = operand.add_bias(total, operand.bias)
        y_q = np.empty(total.shape, dtype)
        requantize(total, y_q)
        return (y_q.reshape(*lead, y_q.shape[-1]),)

    return kernel


def _general_product(lowering: Lowering) -> Kernel:
    """``(a_q - z_a) @ (b_q - z_b)``, as ``numpy.matmul`` treats axes."""
    factors = [_Factor.of(lowering, position) for position in (0, 1)]
    sums = sums_of(*(factor.params for factor in factors))
    carrier = sums.integer if lowering.strict_integer else sums.real
    requantize = sum_requantizer(lowering, channel_axis=-1)
    dtype = lowering.outputs[0].dtype

    def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
        remaining = iter(inputs)
        a, b = (factor.centered(remaining).astype(carrier) for factor in factors)
        total = matmul_exact(
            a[np.newaxis] if a.ndim == 1 else a,
            b[:, np.newaxis] if b.ndim == 1 else b,
            plan_uniform_blocks(a.shape[-1], factors[0].reach, factors[1].reach, sums),
        )
        y_q = np.empty(total.shape, dtype)
        requantize(total, y_q)
        if a.ndim == 1:
            y_q = y_q.squeeze(-2)
        return (y_q.squeeze(-1) if b.ndim == 1 else y_q,)

    return kernel


@dataclass(frozen=True, slots=True, eq=False)
class _Factor:
    """An operand of a product: an activation, or the centred codes of a constant."""

    params: QuantParams
    constant: IntegerArray | None

    @classmethod
    def of(cls, lowering: Lowering, position: int) -> "_Factor":
        operand = lowering.inputs[position]
        if isinstance(operand, QuantizedTensor):
            return cls(operand.params, centered_weight(lowering.node, operand))
        params = lowering.params(position)
        require_factor(lowering.node, params)
        return cls(params, None)

    @property
    def reach(self) -> int:
        """The largest magnitude of a centred code."""
        if self.constant is not None:
            return int(np.abs(self.constant).max(initial=0))
        return self.params.reach

    def centered(self, activations: Iterator[IntegerArray]) -> IntegerArray:
        """The codes minus their zero points; an activation's are the next of ``activations``."""
        if self.constant is not None:
            return self.constant
        return next(activations).astype(np.int32) - np.int32(self.params.zero_point)


OPS.register("Gemm")(Gemm())
OPS.register("MatMul")(MatMul())
