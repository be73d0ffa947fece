"""What the products compute, in Python integers and fractions: the definition kernels must equal.

Sums are arrays of Python ``int``; nothing here rounds, wraps or saturates unless it says so.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from quantkit.numerics.affine import IntegerArray, QuantizedTensor, QuantParams
from tests.numerics import gemmlowp
from tests.numerics.test_float32_requantize import float32_of
from tests.ops.case import Case, Input

Integers = npt.NDArray[np.object_]


def wrapped(value: int, bits: int) -> int:
    """Two's complement of that many bits."""
    modulus = 1 << bits
    return (value + modulus // 2) % modulus - modulus // 2


def requantize_onnxruntime(total: int, x_scale: float, weight_scale: float, y: QuantParams) -> int:
    """``f32(f32(total) * M)`` with ``M = f32(f32(s_x * s_w) / s_y)``, then to the nearest code."""
    product = float32_of(Fraction(x_scale) * Fraction(weight_scale))
    multiplier = float32_of(product / Fraction(float(y.scale)))
    real = float32_of(float32_of(Fraction(total)) * multiplier)
    return gemmlowp.saturate(round(real) + int(y.zero_point), y.qmin, y.qmax)


def requantize_fixed_point(
    total: int, x_scale: float, weight_scale: float, y: QuantParams, *, is_wide: bool
) -> int:
    """gemmlowp's two roundings, or TFLite's single one of a wide sum."""
    mantissa, shift = gemmlowp.quantize_multiplier(x_scale * weight_scale / float(y.scale))
    multiply = gemmlowp.multiply_wide if is_wide else gemmlowp.multiply
    scaled = gemmlowp.saturate(multiply(total, mantissa, shift))
    return gemmlowp.saturate(scaled + int(y.zero_point), y.qmin, y.qmax)


def product_codes(case: Case, arithmetic: str) -> IntegerArray:
    """The output codes of a Conv, ConvTranspose, Gemm or MatMul."""
    x, weight = (_params(operand) for operand in case.inputs[:2])
    y = case.outputs[0]
    bits = 32 if x.dtype.itemsize == weight.dtype.itemsize == 1 else 64
    totals = product_sums(case)
    channel_axis = 1 if case.node.op_type.startswith("Conv") else totals.ndim - 1
    alpha = np.float32(case.node.number("alpha", 1.0))
    codes: IntegerArray = np.empty(totals.shape, y.dtype)
    for index in np.ndindex(totals.shape):
        total = wrapped(int(totals[index]), bits)
        scales = weight.scale.reshape(-1)
        # Groups of a transposed convolution share their scales.
        channel = index[channel_axis]
        scale = (float(x.scale * alpha), float(scales[channel % scales.size]))
        if y.dtype == np.int32:
            codes[index] = total
        elif arithmetic == "onnxruntime":
            codes[index] = requantize_onnxruntime(total, *scale, y)
        else:
            codes[index] = requantize_fixed_point(total, *scale, y, is_wide=bits == 64)
    return codes


def product_sums(case: Case) -> Integers:
    """The sums of products, bias included, that the output codes are made of."""
    data = iter(case.data)
    x, weight = (
        _centered(operand if isinstance(operand, QuantizedTensor) else next(data), operand)
        for operand in case.inputs[:2]
    )
    totals = SUMS[case.node.op_type](case, x, weight)
    bias = case.inputs[2] if len(case.inputs) > 2 else None
    if isinstance(bias, QuantizedTensor):
        codes = bias.data.astype(object)
        totals = totals + (
            codes if totals.ndim == 2 else codes.reshape(-1, *[1] * (totals.ndim - 2))
        )
    return np.asarray(totals, object)


def _gemm(case: Case, x: Integers, weight: Integers) -> Integers:
    x = x.T if case.node.integer("transA", 0) else x
    return _matmul(case, x, weight.T if case.node.integer("transB", 0) else weight)


def _matmul(case: Case, x: Integers, weight: Integers) -> Integers:
    return np.asarray(np.matmul(x, weight), object)


def _conv(case: Case, x: Integers, weight: Integers) -> Integers:
    rank, node = x.ndim - 2, case.node
    strides, dilations = (node.integers(name, (1,) * rank) for name in ("strides", "dilations"))
    pads, group = node.integers("pads", (0,) * (2 * rank)), node.integer("group", 1)
    shape = [
        begin + size + end
        for begin, size, end in zip(pads[:rank], x.shape[2:], pads[rank:], strict=True)
    ]
    # Not np.pad: its zeros would be numpy.int64, which wraps.
    padded = np.full((*x.shape[:2], *shape), 0, object)
    padded[
        :,
        :,
        *(slice(begin, begin + size) for begin, size in zip(pads[:rank], x.shape[2:], strict=True)),
    ] = x
    sizes = [
        (size - (kernel - 1) * dilation - 1) // stride + 1
        for size, kernel, dilation, stride in zip(
            padded.shape[2:], weight.shape[2:], dilations, strides, strict=True
        )
    ]
    outputs, group_channels = weight.shape[:2]
    totals = np.full((len(x), outputs, *sizes), 0, object)
    for o, c, *tap in np.ndindex(weight.shape):
        channel = o * group // outputs * group_channels + c
        read = tuple(
            slice(k * dilation, k * dilation + (size - 1) * stride + 1, stride)
            for k, dilation, size, stride in zip(tap, dilations, sizes, strides, strict=True)
        )
        totals[:, o] += weight[(o, c, *tap)] * padded[:, channel][:, *read]
    return totals


def _conv_transpose(case: Case, x: Integers, weight: Integers) -> Integers:
    """Every input value adds the kernel to the output; pads are cut off at last."""
    rank, node = x.ndim - 2, case.node
    strides, dilations = (node.integers(name, (1,) * rank) for name in ("strides", "dilations"))
    pads, group = node.integers("pads", (0,) * (2 * rank)), node.integer("group", 1)
    more = node.integers("output_padding", (0,) * rank)
    sizes = [
        (size - 1) * stride + (kernel - 1) * dilation + 1 + extra
        for size, stride, kernel, dilation, extra in zip(
            x.shape[2:], strides, weight.shape[2:], dilations, more, strict=True
        )
    ]
    channels, group_outputs = weight.shape[:2]
    totals = np.full((len(x), group * group_outputs, *sizes), 0, object)
    for c, o, *tap in np.ndindex(weight.shape):
        output = c * group // channels * group_outputs + o
        for position in np.ndindex(x.shape[2:]):
            cell = [
                i * stride + k * dilation
                for i, stride, k, dilation in zip(position, strides, tap, dilations, strict=True)
            ]
            totals[(slice(None), output, *cell)] += (
                weight[(c, o, *tap)] * x[(slice(None), c, *position)]
            )
    inside = (
        slice(begin, size - end)
        for begin, size, end in zip(pads[:rank], sizes, pads[rank:], strict=True)
    )
    return totals[:, :, *inside]


SUMS: dict[str, Callable[[Case, Integers, Integers], Integers]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
}


def _params(operand: Input) -> QuantParams:
    params = operand.params if isinstance(operand, QuantizedTensor) else operand
    assert isinstance(params, QuantParams)
    return params


def _centered(codes: QuantizedTensor | npt.NDArray[Any], operand: Input) -> Integers:
    """Codes minus their zero points, as Python integers."""
    params = _params(operand)
    array = codes.data if isinstance(codes, QuantizedTensor) else codes
    zero_point = params.zero_point.astype(object)
    if params.axis is not None:
        zero_point = zero_point.reshape(
            [-1 if axis == params.axis else 1 for axis in range(array.ndim)]
        )
    return np.asarray(array.astype(object) - zero_point, object)
