"""Cases of the ops that multiply: Conv, ConvTranspose, Gemm, MatMul."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from quantkit.graph.program import AttributeValue
from quantkit.numerics.affine import (
    QuantizedTensor,
    per_tensor,
)
from tests.ops.case import (
    Case,
    Rng,
    bias_for,
    make_node,
    middle_params,
    output_params,
    random_codes,
    random_params,
    random_weight,
)


def conv_case(
    rng: Rng,
    name: str,
    x_shape: Sequence[int],
    weight_shape: Sequence[int],
    *,
    x_dtype: npt.DTypeLike = np.uint8,
    weight_dtype: npt.DTypeLike = np.int8,
    axis: int | None = 0,
    has_bias: bool = True,
    **attributes: AttributeValue,
) -> Case:
    x = random_params(rng, x_dtype)
    weight = random_weight(rng, weight_shape, axis, weight_dtype)
    bias = bias_for(rng, x, weight, weight_shape[0]) if has_bias else None
    y = output_params(rng, x, weight, int(np.prod(weight_shape[1:])), x_dtype)
    node = make_node(
        "Conv", 3 if has_bias else 2, {"kernel_shape": tuple(weight_shape[2:])} | attributes
    )
    inputs = (x, weight, bias) if has_bias else (x, weight)
    data = (random_codes(rng, x_shape, x_dtype),)
    return Case(name, node, inputs, (y,), data, "QLinearConv")


def conv_cases() -> list[Case]:
    rng = np.random.default_rng(1)
    one, two = (1, 1), (2, 2)
    ones, twos = (1, 1, 1, 1), (2, 2, 2, 2)
    return [
        conv_case(rng, "pointwise", (1, 16, 14, 14), (40, 16, 1, 1)),
        conv_case(rng, "pointwise-batch", (3, 24, 7, 5), (9, 24, 1, 1)),
        conv_case(rng, "pointwise-strided", (1, 12, 9, 8), (20, 12, 1, 1), strides=two),
        conv_case(rng, "pointwise-padded", (1, 8, 5, 5), (8, 8, 1, 1), pads=ones),
        # As large as its input, and yet not the input: padded by 1, every second position.
        conv_case(rng, "pointwise-same-size", (1, 8, 2), (8, 8, 1), pads=(0, 1), strides=(2,)),
        conv_case(rng, "3x3", (1, 3, 33, 32), (16, 3, 3, 3), pads=ones, strides=two),
        conv_case(rng, "3x3-dilated", (2, 5, 15, 16), (7, 5, 3, 3), pads=twos, dilations=two),
        conv_case(rng, "asymmetric-pads", (1, 4, 9, 11), (6, 4, 3, 2), pads=(0, 1, 2, 0)),
        conv_case(rng, "5x5-groups", (1, 8, 12, 12), (12, 2, 5, 5), group=4, pads=twos),
        conv_case(
            rng, "same-upper", (1, 4, 10, 11), (6, 4, 3, 3), auto_pad="SAME_UPPER", strides=two
        ),
        conv_case(
            rng, "same-lower", (1, 4, 10, 11), (6, 4, 4, 3), auto_pad="SAME_LOWER", strides=two
        ),
        conv_case(rng, "depthwise", (2, 24, 12, 13), (24, 1, 3, 3), group=24, pads=ones),
        conv_case(
            rng,
            "depthwise-strided",
            (1, 24, 13, 12),
            (24, 1, 3, 3),
            group=24,
            pads=(0, 0, 1, 1),
            strides=two,
        ),
        conv_case(
            rng,
            "depthwise-stride-3x2",
            (1, 8, 13, 12),
            (8, 1, 5, 3),
            group=8,
            pads=twos,
            strides=(3, 2),
        ),
        conv_case(
            rng,
            "depthwise-dilated",
            (1, 8, 16, 15),
            (8, 1, 3, 3),
            group=8,
            pads=twos,
            dilations=(2, 3),
            strides=(2, 1),
        ),
        conv_case(rng, "depthwise-multiplier", (1, 6, 9, 9), (12, 1, 3, 3), group=6, pads=ones),
        conv_case(rng, "depthwise-unpadded", (1, 6, 9, 9), (6, 1, 2, 2), group=6),
        conv_case(rng, "1d", (2, 6, 30), (8, 3, 5), group=2, pads=(2, 1), strides=(2,)),
        conv_case(rng, "1d-depthwise", (1, 6, 30), (6, 1, 5), group=6, pads=(2, 2)),
        conv_case(
            rng,
            "3d",
            (1, 4, 6, 7, 8),
            (6, 2, 2, 3, 2),
            group=2,
            pads=(1, 0, 1, 0, 1, 1),
            strides=(1, 2, 1),
        ),
        conv_case(rng, "int8", (1, 16, 9, 9), (12, 16, 3, 3), x_dtype=np.int8, pads=ones),
        conv_case(
            rng,
            "int8-depthwise",
            (1, 16, 9, 9),
            (16, 1, 3, 3),
            x_dtype=np.int8,
            group=16,
            pads=ones,
        ),
        conv_case(
            rng, "per-tensor-no-bias", (1, 16, 9, 9), (12, 16, 3, 3), axis=None, has_bias=False
        ),
        conv_case(
            rng, "uint8-weight", (1, 16, 9, 9), (12, 16, 3, 3), axis=None, weight_dtype=np.uint8
        ),
        # Sums reach 255 * 127 * 9 * 512 = 1.5e8, far above 2^24: several blocks, int32 sums.
        _wide_conv(rng),
        conv_case(rng, "large-kernel", (1, 2, 12, 12), (3, 2, 12, 12), has_bias=False, strides=one),
    ]


def _wide_conv(rng: Rng) -> Case:
    """All weights of one sign: accumulators above 2^24, where float32 rounds them."""
    case = conv_case(rng, "wide", (1, 512, 8, 8), (16, 512, 3, 3), pads=(1, 1, 1, 1))
    weight = case.inputs[1]
    assert isinstance(weight, QuantizedTensor)
    weight = QuantizedTensor(np.abs(weight.data), weight.params)
    x = middle_params(0.02)
    x = per_tensor(0.02, 3, np.uint8)
    bias = bias_for(rng, x, weight, 16)
    largest = 125.0 * 63.0 * 9 * 512 * 0.02 * weight.params.scale
    y = per_tensor(float(largest.max()) / 200, 5, np.uint8)
    return replace(case, inputs=(x, weight, bias), outputs=(y,))


def conv_transpose_case(
    rng: Rng,
    name: str,
    x_shape: Sequence[int],
    weight_shape: Sequence[int],
    *,
    x_dtype: npt.DTypeLike = np.uint8,
    axis: int | None = 1,
    has_bias: bool = True,
    **attributes: AttributeValue,
) -> Case:
    """A weight of (C, O / group, *kernel)."""
    x, weight = random_params(rng, x_dtype), random_weight(rng, weight_shape, axis)
    shape_of = make_node("ConvTranspose", 2, attributes)
    group, rank = shape_of.integer("group", 1), len(x_shape) - 2
    # Every stride-th tap meets a cell.
    met = weight.data.size // weight_shape[1] // group
    met //= int(np.prod(shape_of.integers("strides", (1,) * rank)))
    y = output_params(rng, x, weight, max(1, met), x_dtype)
    bias = bias_for(rng, x, weight, weight_shape[1] * group) if has_bias else None
    inputs = (x, weight, bias) if has_bias else (x, weight)
    node = make_node("ConvTranspose", len(inputs), attributes)
    return Case(name, node, inputs, (y,), (random_codes(rng, x_shape, x_dtype),), "")


def conv_transpose_cases() -> list[Case]:
    rng = np.random.default_rng(12)
    one, two = (1, 1), (2, 2)
    ones = (1, 1, 1, 1)
    make = conv_transpose_case
    return [
        make(rng, "2x2-strided", (2, 8, 7, 6), (8, 5, 2, 2), strides=two),
        make(rng, "3x3", (1, 12, 8, 9), (12, 7, 3, 3), pads=ones),
        make(
            rng,
            "3x3-strided",
            (1, 12, 8, 9),
            (12, 7, 3, 3),
            pads=ones,
            strides=two,
            output_padding=one,
        ),
        make(rng, "dilated", (1, 4, 6, 5), (4, 3, 3, 2), dilations=(2, 3), strides=(1, 2)),
        make(rng, "asymmetric-pads", (1, 4, 6, 5), (4, 3, 3, 4), pads=(0, 1, 2, 0)),
        make(rng, "groups", (1, 8, 6, 5), (8, 3, 3, 3), axis=None, group=4, strides=two),
        make(rng, "depthwise", (1, 8, 6, 5), (8, 1, 4, 4), axis=None, group=8, strides=two),
        make(rng, "same-upper", (1, 4, 6, 5), (4, 6, 3, 4), auto_pad="SAME_UPPER", strides=two),
        make(rng, "same-lower", (1, 4, 6, 5), (4, 6, 3, 4), auto_pad="SAME_LOWER", strides=two),
        make(rng, "valid", (1, 4, 6, 5), (4, 6, 3, 4), auto_pad="VALID"),
        make(rng, "output-shape", (1, 4, 6, 5), (4, 6, 3, 4), output_shape=(11, 10), strides=two),
        make(rng, "1d", (2, 6, 11), (6, 4, 5), strides=(3,), pads=(2, 1)),
        make(rng, "3d", (1, 4, 3, 4, 5), (4, 3, 2, 3, 2), strides=(1, 2, 2)),
        make(rng, "int8", (1, 12, 8, 9), (12, 7, 3, 3), x_dtype=np.int8, strides=two),
        make(rng, "no-bias", (1, 12, 8, 9), (12, 7, 3, 3), axis=None, has_bias=False),
        # Products beyond 2^24, in several blocks.
        make(rng, "deep", (1, 900, 4, 4), (900, 5, 2, 2), strides=two),
    ]


def gemm_case(
    rng: Rng,
    name: str,
    rows: int,
    inner: int,
    outputs: int,
    *,
    dtype: npt.DTypeLike = np.uint8,
    axis_free: bool = False,
    has_bias: bool = True,
    transposed: bool = True,
    weight_dtype: npt.DTypeLike = np.int8,
    **attributes: AttributeValue,
) -> Case:
    x = random_params(rng, dtype)
    shape, axis = ((outputs, inner), 0) if transposed else ((inner, outputs), 1)
    weight = random_weight(rng, shape, None if axis_free else axis, weight_dtype)
    y = output_params(rng, x, weight, inner, dtype)
    bias = bias_for(rng, x, weight, outputs) if has_bias else None
    inputs = (x, weight, bias) if has_bias else (x, weight)
    node = make_node("Gemm", len(inputs), ({"transB": 1} if transposed else {}) | attributes)
    x_shape = (inner, rows) if attributes.get("transA") else (rows, inner)
    return Case(name, node, inputs, (y,), (random_codes(rng, x_shape, dtype),), "QGemm")


def gemm_cases() -> list[Case]:
    rng = np.random.default_rng(2)
    return [
        gemm_case(rng, "one-row", 1, 130, 40),
        gemm_case(rng, "rows", 9, 70, 33),
        gemm_case(rng, "not-transposed", 5, 64, 33, transposed=False),
        gemm_case(rng, "int8", 5, 64, 33, dtype=np.int8),
        gemm_case(rng, "per-tensor-no-bias", 5, 64, 33, axis_free=True, has_bias=False),
        gemm_case(rng, "deep", 2, 6000, 8),
        gemm_case(rng, "uint8-weight", 5, 64, 33, weight_dtype=np.uint8),
        gemm_case(rng, "transposed-input", 5, 64, 33, transA=1),
        gemm_case(rng, "alpha", 5, 64, 33, has_bias=False, alpha=0.3),
        # Nothing for beta to scale.
        gemm_case(rng, "alpha-beta", 5, 64, 33, has_bias=False, alpha=2.7, beta=0.5, transA=1),
    ]


def matmul_cases() -> list[Case]:
    rng = np.random.default_rng(3)
    cases = []
    for name, shape, outputs in [
        ("rows", (9, 70), 33),
        ("batch", (2, 3, 9, 70), 12),
        ("vector", (70,), 8),
    ]:
        x, weight = random_params(rng), random_weight(rng, (70, outputs), 1)
        y = output_params(rng, x, weight, 70, np.uint8)
        node = make_node("MatMul", 2, {})
        cases.append(
            Case(name, node, (x, weight), (y,), (random_codes(rng, shape),), "QLinearMatMul")
        )
    for name, a_shape, b_shape in [
        ("dynamic", (9, 70), (70, 12)),
        ("dynamic-batch", (2, 3, 9, 700), (3, 700, 8)),
        ("dynamic-broadcast", (2, 1, 9, 70), (3, 70, 8)),
        ("dynamic-vector-left", (70,), (3, 70, 12)),
        ("dynamic-vector-right", (2, 9, 70), (70,)),
    ]:
        a, b = middle_params(0.02), per_tensor(0.03, 120, np.uint8)
        y = middle_params(105.0 * 73 * a_shape[-1] ** 0.5 * 0.02 * 0.03 * 4 / 255)
        data = (random_codes(rng, a_shape), random_codes(rng, b_shape))
        cases.append(Case(name, make_node("MatMul", 2, {}), (a, b), (y,), data, "QLinearMatMul"))
    for name, constant_position, a_shape, b_shape, x_dtype, weight_dtype in [
        ("constant-batch", 1, (3, 9, 70), (3, 70, 12), np.uint8, np.int8),
        ("constant-batch-int8", 1, (3, 9, 70), (3, 70, 12), np.int8, np.int8),
        ("constant-broadcast", 1, (2, 9, 70), (3, 1, 70, 12), np.uint8, np.uint8),
        ("constant-vector", 1, (9, 70), (70,), np.uint8, np.int8),
        ("constant-left", 0, (9, 70), (70, 12), np.uint8, np.uint8),
        ("constant-left-int8", 0, (9, 70), (2, 70, 12), np.int8, np.int8),
    ]:
        x = random_params(rng, x_dtype)
        shapes = [a_shape, b_shape]
        weight = random_weight(rng, shapes.pop(constant_position), None, weight_dtype)
        y = output_params(rng, x, weight, 70, x_dtype)
        inputs = (x, weight) if constant_position else (weight, x)
        codes = random_codes(rng, shapes[0], x_dtype)
        node = make_node("MatMul", 2, {})
        cases.append(Case(name, node, inputs, (y,), (codes,), "QLinearMatMul"))
    return cases
