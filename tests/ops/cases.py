"""The cases of every op; those of the ops that multiply are in ``product_cases``."""

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import numpy.typing as npt

from quantkit.graph.program import AttributeValue
from quantkit.numerics.affine import (
    IntegerArray,
    QuantizedTensor,
    QuantParams,
    per_tensor,
)
from tests.ops.case import (
    Case,
    Input,
    make_node,
    middle_params,
    random_codes,
    random_params,
)
from tests.ops.elementwise_cases import ELEMENTWISE_CASES, wide_add_cases
from tests.ops.movement_cases import CODES, MOVEMENT_CASES
from tests.ops.product_cases import conv_cases, conv_transpose_cases, gemm_cases, matmul_cases


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
    for position, shape in product((0, 1), [(3, 1, 1), (2, 3, 4, 5), (5,)]):
        constant = QuantizedTensor(random_codes(rng, shape), random_params(rng, scale=0.02))
        operands: list[QuantParams | QuantizedTensor] = [random_params(rng, scale=0.013)]
        operands.insert(position, constant)
        name = f"constant-{position}-{len(shape)}"
        cases.append(
            Case(
                name,
                make_node("Add", 2, {}),
                tuple(operands),
                (middle_params(0.03),),
                (random_codes(rng, (2, 3, 4, 5)),),
                "QLinearAdd",
            )
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
    for dtype, (name, attributes) in product(CODES, [*POOLS, dilated]):
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
        CODES, [*POOLS, including], [(0.03, 0.017), (0.02, 0.01)]
    ):
        is_wide = np.dtype(dtype).itemsize > 1
        x, y = middle_params(x_scale, dtype), middle_params(y_scale, dtype)
        data = (random_codes(rng, (1, 20, 14, 14), dtype),)
        node = make_node("AveragePool", 1, attributes)
        cases.append(
            Case(
                f"{np.dtype(dtype)}-{name}-{x_scale}",
                node,
                (x,),
                (y,),
                data,
                "AveragePool" if is_wide else "QLinearAveragePool",
            )
        )
    return cases


def global_average_pool_cases() -> list[Case]:
    rng = np.random.default_rng(7)
    cases = []
    for dtype, shape, ratio in product(
        CODES, [(2, 400, 7, 7), (1, 300, 7, 9), (1, 300, 5)], [1.0, 6.0, 8.3]
    ):
        is_wide = np.dtype(dtype).itemsize > 1
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
                "GlobalAveragePool" if is_wide else "QLinearGlobalAveragePool",
            )
        )
    return cases


def softmax_cases() -> list[Case]:
    rng = np.random.default_rng(8)
    cases = []
    lengths = [(10, 0.1), (1000, 0.05), (1000, 0.3), (100, 0.02), (5, 0.01)]
    # Rows of few classes, with ties; and a single one, whose probability is 1.
    few = [((2, 0.1), 0.01), ((2, 0.1), 1 / 256), ((7, 0.6931472), 0.01), ((1, 0.1), 1 / 256)]
    for dtype, ((length, scale), y_scale) in product(
        (np.uint8, np.int8), [*product(lengths, [1 / 256, 1 / 255]), *few]
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
    dtypes: Sequence[npt.DTypeLike] = CODES,
) -> list[Case]:
    """Ops that keep their input's parameters, and once more with parameters of their own."""
    rng = np.random.default_rng(9)
    cases = []
    for dtype, (name, attributes, constants) in product(dtypes, variants):
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
            ("wrap", {"mode": "wrap"}, (ints(0, 1, 20, 1, 0, 0, 1, 13),)),
            ("crop", {"mode": "constant"}, (ints(-1, 0, 2, -1, 0, 0, -3, 2),)),
            ("crop-edge", {"mode": "edge"}, (ints(0, 0, 2, -1, 0, 0, -3, 2),)),
            ("crop-reflect", {"mode": "reflect"}, (ints(0, 0, 2, -1, 0, 0, -3, 2),)),
            ("crop-wrap", {"mode": "wrap"}, (ints(0, 0, 2, -1, 0, 0, -3, 12),)),
        ],
    )


CASES: dict[str, Callable[[], list[Case]]] = {
    **ELEMENTWISE_CASES,
    "Conv": conv_cases,
    "ConvTranspose": conv_transpose_cases,
    "Gemm": gemm_cases,
    "MatMul": matmul_cases,
    "Add": lambda: [*add_cases(), *wide_add_cases()],
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
    **MOVEMENT_CASES,
}
"""Per registered op; ops without an integer kernel are in WITHOUT_KERNEL."""

WITHOUT_KERNEL = {"BatchNormalization"}
