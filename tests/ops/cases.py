"""One-op cases: a node, its parameters and codes, and what onnxruntime must fuse it into."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt

from quantkit.graph.program import Array, AttributeValue, Node
from quantkit.numerics.affine import (
    IntegerArray,
    QuantizedTensor,
    QuantParams,
    per_channel_symmetric,
    per_tensor,
)
from quantkit.numerics.arithmetic import ARITHMETICS
from quantkit.ops.contract import Lowering

Rng = np.random.Generator
Input = QuantParams | QuantizedTensor | Array | None


@dataclass(frozen=True, eq=False, repr=False)
class Case:
    """One node with everything needed to run it.

    Attributes:
        name: For the test's identifier.
        node: The op.
        inputs: As in ``Lowering.inputs``.
        outputs: Parameters of the outputs.
        data: Codes of the activation inputs.
        fused: An op type that onnxruntime's optimized graph must hold: the kernel compared with;
            "" where it removes the op.
    """

    name: str
    node: Node
    inputs: tuple[Input, ...]
    outputs: tuple[QuantParams, ...]
    data: tuple[IntegerArray, ...]
    fused: str

    def __repr__(self) -> str:
        return f"{self.node.op_type}-{self.name}"

    def lowering(
        self, arithmetic: str = "onnxruntime", *, strict_integer: bool = False
    ) -> Lowering:
        return Lowering(
            self.node, self.inputs, self.outputs, ARITHMETICS[arithmetic], strict_integer
        )

    def with_outputs(self, *outputs: QuantParams) -> "Case":
        return replace(self, outputs=outputs)


def make_node(
    op_type: str, inputs: int, attributes: dict[str, AttributeValue], version: int = 21
) -> Node:
    names = tuple(f"input_{position}" for position in range(inputs))
    return Node("node", op_type, "", version, names, ("output",), attributes)


def random_codes(rng: Rng, shape: Sequence[int], dtype: npt.DTypeLike = np.uint8) -> IntegerArray:
    info = np.iinfo(np.dtype(dtype))
    return rng.integers(int(info.min), int(info.max) + 1, shape).astype(dtype)


def random_params(
    rng: Rng, dtype: npt.DTypeLike = np.uint8, scale: float | None = None
) -> QuantParams:
    """Any zero point; a scale between 0.005 and 0.05 unless given."""
    info = np.iinfo(np.dtype(dtype))
    chosen = float(rng.uniform(0.005, 0.05)) if scale is None else scale
    return per_tensor(chosen, int(rng.integers(int(info.min), int(info.max) + 1)), dtype)


def middle_params(scale: float, dtype: npt.DTypeLike = np.uint8) -> QuantParams:
    """Parameters whose codes reach equally far to both sides."""
    return per_tensor(scale, 0 if np.iinfo(np.dtype(dtype)).min else 128, dtype)


def random_weight(
    rng: Rng, shape: Sequence[int], axis: int | None, dtype: npt.DTypeLike = np.int8
) -> QuantizedTensor:
    """Codes in [-127, 127] (uint8: with zero point 128), scales within a factor of 20."""
    is_signed = np.iinfo(np.dtype(dtype)).min < 0
    codes = rng.integers(-127, 128, shape) + (0 if is_signed else 128)
    size = () if axis is None else (shape[axis],)
    scale = np.asarray(rng.uniform(0.001, 0.02, size), np.float32)
    zero_point = np.full(size, 0 if is_signed else 128, np.int32)
    params = QuantParams(scale, zero_point, np.dtype(dtype), axis)
    return QuantizedTensor(codes.astype(dtype), params)


def bias_for(rng: Rng, x: QuantParams, weight: QuantizedTensor, count: int) -> QuantizedTensor:
    scale = np.broadcast_to(x.scale * weight.params.scale, (count,)).copy()
    data = rng.integers(-20000, 20000, count).astype(np.int32)
    return QuantizedTensor(data, per_channel_symmetric(scale, np.int32, 0))


def output_params(
    rng: Rng, x: QuantParams, weight: QuantizedTensor, products: int, dtype: npt.DTypeLike
) -> QuantParams:
    """A range that a sum of ``products`` random products fills, some of it saturating."""
    spread = 105.0 * 73.0 * products**0.5 * float(x.scale) * float(np.mean(weight.params.scale))
    return replace(middle_params(4.0 * spread / 255, dtype))


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
) -> Case:
    x = random_params(rng, dtype)
    shape, axis = ((outputs, inner), 0) if transposed else ((inner, outputs), 1)
    weight = random_weight(rng, shape, None if axis_free else axis)
    y = output_params(rng, x, weight, inner, dtype)
    bias = bias_for(rng, x, weight, outputs) if has_bias else None
    inputs = (x, weight, bias) if has_bias else (x, weight)
    node = make_node("Gemm", len(inputs), {"transB": 1} if transposed else {})
    return Case(name, node, inputs, (y,), (random_codes(rng, (rows, inner), dtype),), "QGemm")


def gemm_cases() -> list[Case]:
    rng = np.random.default_rng(2)
    return [
        gemm_case(rng, "one-row", 1, 130, 40),
        gemm_case(rng, "rows", 9, 70, 33),
        gemm_case(rng, "not-transposed", 5, 64, 33, transposed=False),
        gemm_case(rng, "int8", 5, 64, 33, dtype=np.int8),
        gemm_case(rng, "per-tensor-no-bias", 5, 64, 33, axis_free=True, has_bias=False),
        gemm_case(rng, "deep", 2, 6000, 8),
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
    ]:
        a, b = middle_params(0.02), per_tensor(0.03, 120, np.uint8)
        y = middle_params(105.0 * 73 * a_shape[-1] ** 0.5 * 0.02 * 0.03 * 4 / 255)
        data = (random_codes(rng, a_shape), random_codes(rng, b_shape))
        cases.append(Case(name, make_node("MatMul", 2, {}), (a, b), (y,), data, "QLinearMatMul"))
    return cases


def all_pairs(dtype: npt.DTypeLike) -> tuple[IntegerArray, IntegerArray]:
    """Every pair of 8-bit codes."""
    info = np.iinfo(np.dtype(dtype))
    codes = np.arange(int(info.min), int(info.max) + 1).astype(dtype)
    return np.repeat(codes, 256).reshape(256, 256), np.tile(codes, (256, 1))


def add_cases() -> list[Case]:
    rng = np.random.default_rng(4)
    ratios = [
        (0.02, 0.03, 0.05),
        (0.02, 0.01, 0.02),
        (0.5, 0.25, 0.75),
        (0.013, 0.027, 0.031),
        (1.0, 1.0, 2.0),
        (0.1, 0.3, 0.4),
    ]
    cases = []
    for dtype, (a, b, y) in product((np.uint8, np.int8), ratios):
        params = [random_params(rng, dtype, scale) for scale in (a, b)]
        name = f"{np.dtype(dtype)}-{a}-{b}-{y}"
        cases.append(
            Case(
                name,
                make_node("Add", 2, {}),
                tuple(params),
                (middle_params(y, dtype),),
                all_pairs(dtype),
                "QLinearAdd",
            )
        )
    for name, a_shape, b_shape in [
        ("broadcast-channel", (2, 3, 4, 5), (3, 1, 1)),
        ("broadcast-both", (2, 1, 7, 1), (1, 6, 1, 9)),
        ("broadcast-scalar", (1,), (2, 3, 40)),
        ("same-shape", (1, 3, 17, 19), (1, 3, 17, 19)),
    ]:
        inputs = (random_params(rng, scale=0.013), random_params(rng, scale=0.02))
        data = (random_codes(rng, a_shape), random_codes(rng, b_shape))
        cases.append(
            Case(name, make_node("Add", 2, {}), inputs, (middle_params(0.03),), data, "QLinearAdd")
        )
    return cases


POOLS: list[tuple[str, dict[str, AttributeValue]]] = [
    ("2x2", {"kernel_shape": (2, 2), "strides": (2, 2)}),
    ("3x3-padded", {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}),
    ("3x2-asymmetric", {"kernel_shape": (3, 2), "pads": (0, 1, 1, 0)}),
    ("ceil", {"kernel_shape": (3, 3), "strides": (2, 2), "ceil_mode": 1}),
    ("same-upper", {"kernel_shape": (3, 3), "strides": (2, 2), "auto_pad": "SAME_UPPER"}),
    ("7x7", {"kernel_shape": (7, 7)}),
]


def max_pool_cases() -> list[Case]:
    rng = np.random.default_rng(5)
    dilated: tuple[str, dict[str, AttributeValue]] = (
        "dilated",
        {"kernel_shape": (3, 3), "dilations": (2, 2)},
    )
    cases = []
    for dtype, (name, attributes) in product((np.uint8, np.int8), [*POOLS, dilated]):
        x = random_params(rng, dtype)
        data = (random_codes(rng, (2, 5, 14, 13), dtype),)
        cases.append(
            Case(
                f"{np.dtype(dtype)}-{name}",
                make_node("MaxPool", 1, attributes),
                (x,),
                (x,),
                data,
                "MaxPool",
            )
        )
    return cases


def average_pool_cases() -> list[Case]:
    rng = np.random.default_rng(6)
    including: tuple[str, dict[str, AttributeValue]] = (
        "include-pad",
        {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1), "count_include_pad": 1},
    )
    cases = []
    for dtype, (name, attributes), (x_scale, y_scale) in product(
        (np.uint8, np.int8), [*POOLS, including], [(0.03, 0.017), (0.02, 0.01)]
    ):
        x, y = middle_params(x_scale, dtype), middle_params(y_scale, dtype)
        data = (random_codes(rng, (1, 20, 14, 14), dtype),)
        node = make_node("AveragePool", 1, attributes)
        cases.append(
            Case(
                f"{np.dtype(dtype)}-{name}-{x_scale}", node, (x,), (y,), data, "QLinearAveragePool"
            )
        )
    return cases


def global_average_pool_cases() -> list[Case]:
    rng = np.random.default_rng(7)
    cases = []
    for dtype, shape, ratio in product(
        (np.uint8, np.int8), [(2, 400, 7, 7), (1, 300, 7, 9), (1, 300, 5)], [1.0, 6.0, 8.3]
    ):
        x, y = middle_params(0.03, dtype), middle_params(0.03 / ratio, dtype)
        data = (random_codes(rng, shape, dtype),)
        node = make_node("GlobalAveragePool", 1, {})
        cases.append(
            Case(
                f"{np.dtype(dtype)}-{shape}-{ratio}",
                node,
                (x,),
                (y,),
                data,
                "QLinearGlobalAveragePool",
            )
        )
    return cases


def softmax_cases() -> list[Case]:
    rng = np.random.default_rng(8)
    cases = []
    for dtype, (length, scale), y_scale in product(
        (np.uint8, np.int8),
        [(10, 0.1), (1000, 0.05), (1000, 0.3), (100, 0.02), (5, 0.01)],
        [1 / 256, 1 / 255],
    ):
        x = random_params(rng, dtype, scale)
        y = per_tensor(y_scale, int(np.iinfo(dtype).min), dtype)
        data = (random_codes(rng, (100, length), dtype),)
        node = make_node("Softmax", 1, {"axis": -1})
        cases.append(
            Case(
                f"{np.dtype(dtype)}-{length}-{scale}-{round(1 / y_scale)}",
                node,
                (x,),
                (y,),
                data,
                "QLinearSoftmax",
            )
        )
    x, y = random_params(rng, scale=0.02), per_tensor(1 / 256, 0, np.uint8)
    data = (random_codes(rng, (3, 5, 4, 6)),)
    inner, coerced = make_node("Softmax", 1, {"axis": 1}), make_node("Softmax", 1, {"axis": 2}, 12)
    return [
        *cases,
        Case("inner-axis", inner, (x,), (y,), data, "QLinearSoftmax"),
        Case("coerced", coerced, (x,), (y,), data, "QLinearSoftmax"),
    ]


def unary_cases(
    op_type: str,
    variants: Sequence[tuple[str, dict[str, AttributeValue], tuple[Input, ...]]],
    fused: str | None = None,
) -> list[Case]:
    """Ops that keep their input's parameters, and once more with parameters of their own."""
    rng = np.random.default_rng(9)
    cases = []
    for dtype, (name, attributes, constants) in product((np.uint8, np.int8), variants):
        x, own = random_params(rng, dtype), random_params(rng, dtype)
        node = make_node(op_type, 1 + len(constants), attributes)
        data = (random_codes(rng, (3, 1, 17, 6), dtype),)
        for label, y in (("", x), ("-own", own)):
            case_name = f"{np.dtype(dtype)}-{name}{label}"
            cases.append(
                Case(
                    case_name,
                    node,
                    (x, *constants),
                    (y,),
                    data,
                    op_type if fused is None else fused,
                )
            )
    return cases


def ints(*values: int) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)


def real(value: float) -> npt.NDArray[np.float32]:
    return np.array(value, np.float32)


def pad_cases() -> list[Case]:
    pads = ints(0, 1, 2, 0, 0, 0, 1, 3)
    return unary_cases(
        "Pad",
        [
            ("constant", {"mode": "constant"}, (pads,)),
            ("value", {"mode": "constant"}, (pads, real(0.7))),
            ("axes", {"mode": "constant"}, (ints(1, 2, 3, 0), None, ints(2, -1))),
            ("edge", {"mode": "edge"}, (pads,)),
            ("reflect", {"mode": "reflect"}, (ints(0, 0, 2, 1, 0, 0, 1, 3),)),
        ],
    )


CASES: dict[str, Callable[[], list[Case]]] = {
    "Conv": conv_cases,
    "Gemm": gemm_cases,
    "MatMul": matmul_cases,
    "Add": add_cases,
    "MaxPool": max_pool_cases,
    "AveragePool": average_pool_cases,
    "GlobalAveragePool": global_average_pool_cases,
    "Softmax": softmax_cases,
    "Pad": pad_cases,
    "Relu": lambda: unary_cases("Relu", [("relu", {}, ())]),
    "Clip": lambda: unary_cases(
        "Clip",
        [
            ("both", {}, (real(-0.3), real(0.4))),
            ("low", {}, (real(0.0),)),
            ("high", {}, (None, real(0.25))),
            ("none", {}, ()),
        ],
        fused="",
    ),
    "Identity": lambda: unary_cases("Identity", [("identity", {}, ())], fused=""),
    "Flatten": lambda: unary_cases(
        "Flatten", [(f"axis-{axis}", {"axis": axis}, ()) for axis in (0, 1, 2, -1, 4)]
    ),
    "Reshape": lambda: unary_cases(
        "Reshape", [("infer", {}, (ints(0, -1),)), ("copy", {}, (ints(3, 0, 6, 17),))]
    ),
    "Transpose": lambda: unary_cases(
        "Transpose", [("perm", {"perm": (0, 2, 3, 1)}, ()), ("default", {}, ())]
    ),
    "Squeeze": lambda: unary_cases("Squeeze", [("axes", {}, (ints(1),)), ("all", {}, ())]),
    "Unsqueeze": lambda: unary_cases("Unsqueeze", [("axes", {}, (ints(0, -1),))]),
}
"""Per registered op; ops without an integer kernel are in WITHOUT_KERNEL."""

WITHOUT_KERNEL = {"BatchNormalization"}
