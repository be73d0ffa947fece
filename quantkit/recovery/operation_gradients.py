"""Gradients of single operations, from the float reference's backward forms, by op type."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from quantkit.graph.program import Array, Node, Program
from quantkit.ops.contract import OPS, optional_input, real_input
from quantkit.ops.windows import node_windows
from quantkit.reference.activations import clip_backward, relu_backward
from quantkit.reference.arrays import FloatArray
from quantkit.reference.conv import conv_backward
from quantkit.reference.linear import linear_backward
from quantkit.reference.pooling import (
    average_pool_backward,
    global_average_pool_backward,
    max_pool_backward,
)

Inputs = Sequence[Array | None]
Backward = Callable[[Node, Inputs, FloatArray], tuple[FloatArray | None, ...]]
"""(node, its inputs, gradient of its output) -> gradients of its first inputs."""


def gradient_refusal(node: Node, program: Program) -> str | None:
    """Why this node has no backward form here, or None.

    Args:
        node: A node that is quantized.
        program: Its graph.
    """
    if node.domain != "" or node.op_type not in BACKWARD:
        return f"{node.op_type} has no backward form"
    if len(node.outputs) != 1:
        return "it has several outputs"
    if node.op_type in ("AveragePool", "MaxPool") and "auto_pad" in node.attributes:
        return "its padding is automatic"
    if node.op_type in ("Conv", "Gemm", "MatMul"):
        return _product_refusal(node, program)
    return None


def _product_refusal(node: Node, program: Program) -> str | None:
    weight = program.constants.get(node.inputs[1])
    if weight is None:
        return "its weight is computed"
    if node.op_type == "MatMul":
        return None if weight.ndim == 2 else "its weight is no matrix"
    bias = node.inputs[2] if len(node.inputs) > 2 else ""
    if bias and bias not in program.constants:
        return "its bias is computed"
    if node.op_type == "Conv":
        strides = node.integers("strides", (1,) * (weight.ndim - 2))
        is_same = node.text("auto_pad", "NOTSET").startswith("SAME")
        skips = any(stride > size for stride, size in zip(strides, weight.shape[2:], strict=True))
        return "its windows lie apart" if is_same and skips else None
    if node.integer("transA", 0) or node.number("alpha", 1.0) != 1.0:
        return "its input is transposed or scaled"
    outputs = weight.shape[0 if node.integer("transB", 0) else 1]
    if bias and program.constants[bias].size != outputs:
        return "its bias is not one number per output"
    return None


def _conv(node: Node, inputs: Inputs, grad_y: FloatArray) -> tuple[FloatArray | None, ...]:
    x, weight = real_input(inputs, 0), real_input(inputs, 1)
    windows = node_windows(node, x.shape[2:], weight.shape[2:])
    return conv_backward(
        grad_y,
        x,
        weight,
        strides=windows.strides,
        pads=windows.pads_begin + windows.pads_end,
        dilations=windows.dilations,
        group=node.integer("group", 1),
    )


def _gemm(node: Node, inputs: Inputs, grad_y: FloatArray) -> tuple[FloatArray | None, ...]:
    x, weight, bias = real_input(inputs, 0), real_input(inputs, 1), optional_input(inputs, 2)
    is_turned = bool(node.integer("transB", 0))
    rows = weight if is_turned else weight.T
    grad_x, grad_rows, grad_bias = linear_backward(grad_y, x, rows)
    grad_weight = grad_rows if is_turned else grad_rows.T
    return grad_x, grad_weight, None if bias is None else grad_bias.reshape(bias.shape)


def _matmul(node: Node, inputs: Inputs, grad_y: FloatArray) -> tuple[FloatArray | None, ...]:
    grad_x, grad_rows, _ = linear_backward(grad_y, real_input(inputs, 0), real_input(inputs, 1).T)
    return grad_x, grad_rows.T


def _add(node: Node, inputs: Inputs, grad_y: FloatArray) -> tuple[FloatArray | None, ...]:
    a, b = real_input(inputs, 0), real_input(inputs, 1)
    return _unbroadcast(grad_y, a.shape), _unbroadcast(grad_y, b.shape)


def _mul(node: Node, inputs: Inputs, grad_y: FloatArray) -> tuple[FloatArray | None, ...]:
    a, b = real_input(inputs, 0), real_input(inputs, 1)
    return _unbroadcast(grad_y * b, a.shape), _unbroadcast(grad_y * a, b.shape)


def _unbroadcast(gradient: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """The sum over the axes along which an operand of this shape was repeated."""
    lead = gradient.ndim - len(shape)
    repeated = [axis + lead for axis, size in enumerate(shape) if size == 1]
    repeated = [axis for axis in repeated if gradient.shape[axis] != 1]
    total: FloatArray = gradient.sum(axis=(*range(lead), *repeated), keepdims=True)
    return total.reshape(shape)


def _relu(node: Node, inputs: Inputs, grad_y: FloatArray) -> tuple[FloatArray | None, ...]:
    return (relu_backward(grad_y, real_input(inputs, 0)),)


def _clip(node: Node, inputs: Inputs, grad_y: FloatArray) -> tuple[FloatArray | None, ...]:
    return (clip_backward(grad_y, real_input(inputs, 0), *clamp_bounds(node, inputs)),)


def clamp_bounds(node: Node, inputs: Inputs) -> tuple[float, float]:
    """What a Relu or Clip clamps to; infinite where nothing binds.

    Args:
        node: The Relu or Clip.
        inputs: Only the bounds among them count.
    """
    ends = np.array([-np.inf, np.inf])
    low, high = OPS[node.op_type].float_form(node, [ends, *inputs[1:]])[0]
    return float(low), float(high)


def _global_mean(node: Node, inputs: Inputs, grad_y: FloatArray) -> tuple[FloatArray | None, ...]:
    return (global_average_pool_backward(grad_y, real_input(inputs, 0)),)


def _mean(node: Node, inputs: Inputs, grad_y: FloatArray) -> tuple[FloatArray | None, ...]:
    x = real_input(inputs, 0)
    rank = x.ndim - 2
    gradient = average_pool_backward(
        grad_y,
        x,
        kernel_shape=node.integers("kernel_shape", ()),
        strides=node.integers("strides", (1,) * rank),
        pads=node.integers("pads", (0,) * (2 * rank)),
        ceil_mode=bool(node.integer("ceil_mode", 0)),
        count_include_pad=bool(node.integer("count_include_pad", 0)),
    )
    return (gradient,)


def _maximum(node: Node, inputs: Inputs, grad_y: FloatArray) -> tuple[FloatArray | None, ...]:
    x = real_input(inputs, 0)
    rank = x.ndim - 2
    gradient = max_pool_backward(
        grad_y,
        x,
        kernel_shape=node.integers("kernel_shape", ()),
        strides=node.integers("strides", (1,) * rank),
        pads=node.integers("pads", (0,) * (2 * rank)),
        ceil_mode=bool(node.integer("ceil_mode", 0)),
    )
    return (gradient,)


def _reshape(node: Node, inputs: Inputs, grad_y: FloatArray) -> tuple[FloatArray | None, ...]:
    return (grad_y.reshape(real_input(inputs, 0).shape),)


BACKWARD: Mapping[str, Backward] = {
    "Add": _add,
    "AveragePool": _mean,
    "Clip": _clip,
    "Conv": _conv,
    "Flatten": _reshape,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_mean,
    "MatMul": _matmul,
    "MaxPool": _maximum,
    "Mul": _mul,
    "Relu": _relu,
    "Reshape": _reshape,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
}
