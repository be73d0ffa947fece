"""Strategies of products: any shape, the extremes of codes, zero points, scales and biases."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from quantkit.graph.program import AttributeValue
from quantkit.numerics.affine import (
    IntegerArray,
    QuantizedTensor,
    QuantParams,
    per_tensor,
)
from tests.ops.case import Case, Input, make_node
from tests.ops.python_integers import product_sums

KINDS = ("conv", "depthwise", "gemm", "matmul", "activations")
"""Those that onnxruntime has kernels for; "conv_transpose" is another."""

FUSED = {"Conv": "QLinearConv", "ConvTranspose": "", "Gemm": "QGemm", "MatMul": "QLinearMatMul"}

# 518 products of 255 * 127 reach 2^24.
INNER = st.one_of(st.integers(1, 40), st.sampled_from([518, 519, 600, 1100]))
# 1e-8 to 1e4.
SCALES = st.floats(-8.0, 4.0).map(lambda exponent: float(np.float32(10.0**exponent)))


@st.composite
def products(draw: st.DrawFn, kind: str, *, is_wide: bool = False) -> Case:
    """A product, small enough for Python integers.

    Args:
        draw: Hypothesis's.
        kind: One of ``KINDS``, or "conv_transpose".
        is_wide: Whether activations have 16 bits instead of 8.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    op_type, x_shape, weight_shape, axis, attributes = draw(
        conv_shapes(kind) if kind.startswith(("conv", "depth")) else matrix_shapes(kind)
    )
    x_dtypes = ["uint16", "int16"] if is_wide else ["uint8", "uint8", "int8"]
    x_dtype = draw(code_dtypes(x_dtypes))
    # onnxruntime has no kernel for int8 codes times uint8 codes.
    weight_dtypes = ["int8"] if x_dtype == np.int8 else ["int8", "int8", "uint8"]
    if is_wide and kind == "activations":
        weight_dtypes = ["int8", "uint16", "int16"]
    weight_dtype = draw(code_dtypes(weight_dtypes))
    x = per_tensor(draw(SCALES), draw(zero_points(x_dtype)), x_dtype)
    x_q = draw_codes(draw, rng, x_shape, x_dtype)
    weight_q = draw_codes(draw, rng, weight_shape, weight_dtype)
    if weight_dtype == np.int8 and kind != "activations" and draw(st.booleans()):
        weight_q = np.maximum(weight_q, -127).astype(np.int8)
    channels = weight_shape[axis]
    per_channel = kind != "activations" and draw(st.booleans())
    middle = 128 if weight_dtype == np.uint8 else 0
    zero_point = draw(st.one_of(st.just(middle), zero_points(weight_dtype)))
    scale = np.full(channels if per_channel else (), draw(SCALES), np.float32)
    if per_channel:
        scale *= rng.uniform(0.01, 1.0, channels).astype(np.float32)
    weight = QuantParams(
        scale,
        np.full(scale.shape, zero_point, np.int32),
        weight_dtype,
        axis if per_channel else None,
    )
    inputs: tuple[Input, ...] = (x, weight)
    data: tuple[IntegerArray, ...] = (x_q, weight_q)
    if kind != "activations":
        inputs, data = (x, QuantizedTensor(weight_q, weight)), (x_q,)
        if op_type != "MatMul" and draw(st.booleans()):
            group = make_node(op_type, 2, attributes).integer("group", 1)
            biases = channels * (group if op_type == "ConvTranspose" else 1)
            inputs = (*inputs, draw_bias(draw, rng, x, weight, biases))
    node = make_node(op_type, len(inputs), attributes)
    case = Case(kind, node, inputs, (x,), data, FUSED[op_type])
    return case.with_outputs(draw_output(draw, case, x, weight))


@st.composite
def conv_shapes(
    draw: st.DrawFn, kind: str
) -> tuple[str, tuple[int, ...], tuple[int, ...], int, dict[str, AttributeValue]]:
    """Op, shapes of input and weight, channel axis, attributes."""
    rank, is_depthwise = draw(st.sampled_from([1, 2, 2, 3])), kind == "depthwise"

    def per_axis(low: int, high: int, count: int = rank) -> tuple[int, ...]:
        return draw(st.tuples(*[st.integers(low, high)] * count))

    kernel, strides, dilations = per_axis(1, 3), per_axis(1, 3), per_axis(1, 2)
    pads = per_axis(0, 2, 2 * rank)
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    spatial = [extent + more for extent, more in zip(extents, per_axis(0, 3), strict=True)]
    group = draw(st.integers(2, 9)) if is_depthwise else draw(st.integers(1, 3))
    # 200 channels of three taps and more go beyond 518 products.
    inner = 1 if is_depthwise else draw(st.one_of(st.integers(1, 6), st.just(200 // group)))
    outputs = group * (1 if is_depthwise else draw(st.integers(1, 3)))
    attributes: dict[str, AttributeValue] = {
        "kernel_shape": kernel,
        "strides": strides,
        "dilations": dilations,
        "pads": pads,
        "group": group,
    }
    if kind == "conv_transpose":
        # So that something is left of the output.
        attributes["pads"] = tuple(min(pad, 1) for pad in pads)
        attributes["output_padding"] = tuple(stride - 1 for stride in strides)
        inner = min(inner, 6)
        x_shape = (draw(st.integers(1, 2)), group * inner, *per_axis(2, 4))
        return "ConvTranspose", x_shape, (group * inner, outputs // group, *kernel), 1, attributes
    x_shape = (draw(st.integers(1, 2)), group * inner, *spatial)
    return "Conv", x_shape, (outputs, inner, *kernel), 0, attributes


@st.composite
def matrix_shapes(
    draw: st.DrawFn, kind: str
) -> tuple[str, tuple[int, ...], tuple[int, ...], int, dict[str, AttributeValue]]:
    """As :func:`conv_shapes`, of matrix products."""
    rows, inner, outputs = draw(st.integers(1, 4)), draw(INNER), draw(st.integers(1, 5))
    if kind == "gemm":
        flags = {name: draw(st.integers(0, 1)) for name in ("transA", "transB")}
        x_shape = (inner, rows) if flags["transA"] else (rows, inner)
        weight_shape = (outputs, inner) if flags["transB"] else (inner, outputs)
        return "Gemm", x_shape, weight_shape, 1 - flags["transB"], dict(flags)
    batch = draw(st.sampled_from([(), (), (2,), (2, 3)]))
    if kind == "matmul":
        return "MatMul", (*batch, rows, inner), (inner, outputs), 1, {}
    other = draw(st.sampled_from([batch, batch[1:], tuple(1 for _ in batch)]))
    return "MatMul", (*batch, rows, inner), (*other, inner, outputs), len(other) + 1, {}


def code_dtypes(names: Sequence[str]) -> st.SearchStrategy[np.dtype[np.integer]]:
    return st.sampled_from(names).map(lambda name: cast("np.dtype[np.integer]", np.dtype(name)))


def zero_points(dtype: npt.DTypeLike) -> st.SearchStrategy[int]:
    """Any, and often the first or last code."""
    info = np.iinfo(np.dtype(dtype))
    low, high = int(info.min), int(info.max)
    return st.one_of(st.sampled_from([low, high]), st.integers(low, high))


def draw_codes(
    draw: st.DrawFn, rng: np.random.Generator, shape: tuple[int, ...], dtype: npt.DTypeLike
) -> IntegerArray:
    """Random codes, only first and last ones, or one of these everywhere."""
    info = np.iinfo(np.dtype(dtype))
    low, high = int(info.min), int(info.max)
    match draw(st.sampled_from(["any", "any", "ends", "lowest", "highest"])):
        case "ends":
            codes = rng.choice([low, high], shape)
        case "lowest":
            codes = np.full(shape, low)
        case "highest":
            codes = np.full(shape, high)
        case _:
            codes = rng.integers(low, high + 1, shape)
    chosen: IntegerArray = codes.astype(dtype)
    return chosen


def draw_bias(
    draw: st.DrawFn,
    rng: np.random.Generator,
    x: QuantParams,
    weight: QuantParams,
    channels: int,
) -> QuantizedTensor:
    """Usual codes, or codes so near the limits of int32 (of 16-bit inputs int64) that sums wrap."""
    scale = np.asarray(x.scale * weight.scale, np.float32)
    if scale.ndim:
        scale = np.tile(scale, channels // scale.size)
    is_wide = x.dtype.itemsize > 1 and draw(st.booleans())
    limits = np.iinfo(np.int64 if is_wide else np.int32)
    axis = None if scale.ndim == 0 else 0
    params = QuantParams(scale, np.zeros(scale.shape, np.int32), np.dtype(limits.dtype), axis)
    codes = rng.integers(-20000, 20001, channels)
    if draw(st.booleans()):
        distance = rng.integers(0, draw(st.sampled_from([1, 1000, 2**24])), channels)
        is_high = rng.random(channels) < 0.5
        codes = np.where(is_high, int(limits.max) - distance, int(limits.min) + distance)
    return QuantizedTensor(codes.astype(limits.dtype), params)


def draw_output(draw: st.DrawFn, case: Case, x: QuantParams, weight: QuantParams) -> QuantParams:
    """Mostly a range that the sums fill, sometimes any."""
    scale = draw(SCALES)
    if draw(st.integers(0, 4)):
        largest = max(1, *(abs(total) for total in product_sums(case).reshape(-1)), 1)
        codes = draw(st.sampled_from([3, 100, 255, 400]))
        scale = float(x.scale) * float(weight.scale.max()) * largest / codes
    return per_tensor(scale, draw(zero_points(x.dtype)), x.dtype)
