"""Cases of the elementwise ops, of one tensor and of several."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import numpy as np
import numpy.typing as npt

from quantkit.graph.program import AttributeValue
from quantkit.numerics.affine import (
    IntegerArray,
    QuantizedTensor,
    QuantParams,
    dequantize,
    params_from_range,
    per_tensor,
)
from quantkit.ops.activations import WITH_ATTRIBUTES, WITHOUT_ATTRIBUTES
from quantkit.ops.contract import OPS
from tests.ops.case import Case, Input, Rng, make_node, middle_params, random_codes, random_params

DTYPES: tuple[npt.DTypeLike, ...] = (np.uint8, np.int8)
ISLANDS = ("Sub", "Div", "PRelu")
ACTIVATIONS = (*WITHOUT_ATTRIBUTES, *WITH_ATTRIBUTES, "LeakyRelu", "Pow", "Sigmoid")


def every_pair(dtype: npt.DTypeLike) -> tuple[IntegerArray, IntegerArray]:
    info = np.iinfo(np.dtype(dtype))
    codes = np.arange(int(info.min), int(info.max) + 1).astype(dtype)
    return np.repeat(codes, 256).reshape(256, 256), np.tile(codes, (256, 1))


# Scales of a, b and y: simple ratios, whose results lie often on a half, and others.
_SCALES: Mapping[str, Sequence[tuple[float, float, float]]] = {
    "Mul": [(0.02, 0.03, 0.05), (0.5, 0.25, 16.0), (0.013, 0.027, 0.031), (1.0, 1.0, 128.0)],
    "Sub": [(0.02, 0.03, 0.05), (0.5, 0.25, 0.75), (0.013, 0.027, 0.031), (1.0, 1.0, 2.0)],
    "Div": [(0.02, 0.03, 0.05), (0.5, 0.25, 0.125), (0.013, 0.027, 0.031), (1.0, 1.0, 0.02)],
    "PRelu": [(0.02, 0.03, 0.05), (0.5, 0.25, 16.0), (0.013, 0.027, 0.031), (1.0, 1.0, 128.0)],
}


_WIDE_SCALES = {"Add": 2e-4, "Mul": 7e-4, "Sub": 2e-4, "Div": 3e-3, "PRelu": 7e-4}
# Of two operands; onnxruntime computes them in floats.
WIDE: Sequence[tuple[npt.DTypeLike, npt.DTypeLike]] = [
    (np.uint16, np.uint16),
    (np.int16, np.int16),
    (np.int16, np.uint16),
    (np.int16, np.int8),
]


def wide_add_cases() -> list[Case]:
    rng = np.random.default_rng(13)
    cases = []
    for a_dtype, b_dtype in [*WIDE, (np.uint8, np.int8)]:
        a, b = (random_params(rng, dtype, 1e-4) for dtype in (a_dtype, b_dtype))
        data = (random_codes(rng, (30, 40), a_dtype), random_codes(rng, (40,), b_dtype))
        y = middle_params(1.7e-4, a_dtype)
        name = f"{np.dtype(a_dtype)}-{np.dtype(b_dtype)}"
        cases.append(Case(name, make_node("Add", 2, {}), (a, b), (y,), data, ""))
    return cases


def pair_cases(op_type: str) -> list[Case]:
    rng = np.random.default_rng(14)
    fused = "" if op_type in ISLANDS else f"QLinear{op_type}"
    cases = []
    for dtype, (a, b, y) in product(DTYPES, _SCALES[op_type]):
        params = (random_params(rng, dtype, a), random_params(rng, dtype, b))
        node, out = make_node(op_type, 2, {}), (middle_params(y, dtype),)
        name = f"{np.dtype(dtype)}-{a}-{b}-{y}"
        a_codes, b_codes = every_pair(dtype)
        if op_type == "Div":
            # A quotient by zero is no number; a test of its own looks at those.
            is_zero = b_codes == int(params[1].zero_point)
            b_codes = np.where(is_zero, b_codes ^ 1, b_codes)
        cases.append(Case(name, node, params, out, (a_codes, b_codes), fused))
    shapes = [((2, 3, 4, 5), (3, 1, 1)), ((2, 3, 17, 19), (2, 3, 17, 19)), ((2, 3, 40), (1,))]
    if op_type != "PRelu":
        shapes += [((2, 1, 7, 1), (1, 6, 1, 9)), ((1,), (2, 3, 40)), ((3, 1), (2, 3, 4))]
    for a_shape, b_shape in shapes:
        inputs = (random_params(rng, scale=0.013), random_params(rng, scale=0.02))
        data = (random_codes(rng, a_shape), random_codes(rng, b_shape))
        node, out = make_node(op_type, 2, {}), (middle_params(_SCALES[op_type][2][2]),)
        cases.append(Case(f"{a_shape}-{b_shape}", node, inputs, out, data, fused))
    for a_dtype, b_dtype in WIDE:
        a, b = (random_params(rng, dtype, 1e-4) for dtype in (a_dtype, b_dtype))
        data = (random_codes(rng, (30, 40), a_dtype), random_codes(rng, (40,), b_dtype))
        node, out = make_node(op_type, 2, {}), (middle_params(_WIDE_SCALES[op_type], a_dtype),)
        name = f"{np.dtype(a_dtype)}-{np.dtype(b_dtype)}"
        cases.append(Case(name, node, (a, b), out, data, ""))
    for position, shape in product((0, 1), [(3, 1, 1), (2, 3, 4, 5), (5,)]):
        if op_type == "PRelu" and position == 0:
            continue
        constant = QuantizedTensor(random_codes(rng, shape), random_params(rng, scale=0.02))
        operands: list[Input] = [random_params(rng, scale=0.013)]
        operands.insert(position, constant)
        node, out = make_node(op_type, 2, {}), (middle_params(_SCALES[op_type][2][2]),)
        one = (random_codes(rng, (2, 3, 4, 5)),)
        name = f"constant-{position}-{len(shape)}"
        cases.append(Case(name, node, tuple(operands), out, one, fused))
    return cases


def _several(rng: Rng, dtype: npt.DTypeLike, scales: Sequence[float]) -> tuple[QuantParams, ...]:
    return tuple(random_params(rng, dtype, scale) for scale in scales)


def concat_cases() -> list[Case]:
    rng = np.random.default_rng(15)
    cases = []
    for dtype, axis, scales in product(
        DTYPES, (1, -1), [(0.02, 0.031, 0.011), (0.02, 0.02, 0.05), (0.01,)]
    ):
        inputs, y = _several(rng, dtype, scales), middle_params(0.029, dtype)
        sizes = rng.integers(1, 9, (len(scales),)).tolist()
        shapes = [(2, size, 5, 4) if axis == 1 else (2, 4, 5, size) for size in sizes]
        data = tuple(random_codes(rng, shape, dtype) for shape in shapes)
        node = make_node("Concat", len(scales), {"axis": axis})
        name = f"{np.dtype(dtype)}-{axis}-{scales}"
        cases.append(Case(name, node, inputs, (y,), data, "QLinearConcat"))
        same = (inputs[0],) * len(scales)
        cases.append(Case(f"{name}-same", node, same, (inputs[0],), data, "QLinearConcat"))
    wide = _several(rng, np.int16, (1e-4, 3e-4))
    data = tuple(random_codes(rng, shape, np.int16) for shape in [(2, 30, 4), (2, 50, 4)])
    node = make_node("Concat", 2, {"axis": 1})
    cases.append(Case("int16", node, wide, (middle_params(2.3e-4, np.int16),), data, ""))
    constant = QuantizedTensor(random_codes(rng, (2, 3, 4)), random_params(rng, scale=0.03))
    first, second, y = *_several(rng, np.uint8, (0.02, 0.017)), middle_params(0.023)
    data = (random_codes(rng, (2, 5, 4)), random_codes(rng, (2, 1, 4)))
    node = make_node("Concat", 3, {"axis": 1})
    for position in (0, 1, 2):
        operands: list[Input] = [first, second]
        operands.insert(position, constant)
        name = f"constant-{position}"
        cases.append(Case(name, node, tuple(operands), (y,), data, "QLinearConcat"))
    return cases


def where_cases() -> list[Case]:
    rng = np.random.default_rng(16)
    cases = []
    shapes = [((4, 50), (4, 50), (4, 50)), ((50,), (4, 1), (4, 50)), ((4, 1), (1,), (4, 50))]
    for dtype, (condition, *others) in product(DTYPES, shapes):
        chosen = rng.random(condition) < 0.5
        inputs: tuple[Input, ...] = (chosen, *_several(rng, dtype, (0.02, 0.031)))
        data = tuple(random_codes(rng, shape, dtype) for shape in others)
        out = (middle_params(0.027, dtype),)
        name = f"{np.dtype(dtype)}-{condition}"
        cases.append(Case(name, make_node("Where", 3, {}), inputs, out, data, "QLinearWhere"))
    # Every other code lies halfway between two of the output's.
    tied: tuple[Input, ...] = (rng.random((4, 50)) < 0.5, *_several(rng, np.uint8, (0.01, 0.03)))
    data = (random_codes(rng, (4, 50)), random_codes(rng, (4, 50)))
    out = (middle_params(0.02),)
    cases.append(Case("ties", make_node("Where", 3, {}), tied, out, data, "QLinearWhere"))
    constant = QuantizedTensor(random_codes(rng, (1,)), random_params(rng, scale=0.03))
    chosen, x, y = rng.random((4, 50)) < 0.5, random_params(rng), middle_params(0.03)
    data = (random_codes(rng, (4, 50)),)
    node = make_node("Where", 3, {})
    return [
        *cases,
        Case("constant-1", node, (chosen, constant, x), (y,), data, "QLinearWhere"),
        Case("constant-2", node, (chosen, x, constant), (y,), data, "QLinearWhere"),
    ]


def extremum_cases(op_type: str) -> list[Case]:
    rng = np.random.default_rng(17)
    cases = []
    for dtype, scales in product(DTYPES, [(0.02, 0.031), (0.02, 0.02, 0.05), (0.013,)]):
        inputs, out = _several(rng, dtype, scales), (middle_params(0.029, dtype),)
        shapes = [(2, 3, 40), (3, 1), (40,)][: len(scales)]
        data = tuple(random_codes(rng, shape, dtype) for shape in shapes)
        node = make_node(op_type, len(scales), {})
        cases.append(Case(f"{np.dtype(dtype)}-{scales}", node, inputs, out, data, ""))
    return cases


_EVERYWHERE = (-6.0, 6.0)
# The part of the reals a function is tried on, where that is not all of them.
_DOMAINS: Mapping[str, tuple[float, float]] = {
    "Acos": (-1.0, 1.0),
    "Acosh": (1.0, 9.0),
    "Asin": (-1.0, 1.0),
    "Atanh": (-0.999, 0.999),
    "Log": (0.01, 9.0),
    "Pow": (0.0, 3.0),
    "Reciprocal": (0.3, 9.0),
    "Sqrt": (0.0, 9.0),
    "Tan": (-1.4, 1.4),
}
_VARIANTS: Mapping[str, Sequence[tuple[str, dict[str, AttributeValue], tuple[Input, ...]]]] = {
    "Celu": [("alpha", {"alpha": 0.7}, ())],
    "Elu": [("alpha", {"alpha": 0.7}, ())],
    "Gelu": [("tanh", {"approximate": "tanh"}, ())],
    "HardSigmoid": [("alpha-beta", {"alpha": 0.1, "beta": 0.3}, ())],
    "LeakyRelu": [("alpha", {"alpha": 0.3}, ())],
    "Selu": [("alpha-gamma", {"alpha": 1.1, "gamma": 0.9}, ())],
    "ThresholdedRelu": [("alpha", {"alpha": 2.5}, ())],
    "Pow": [
        ("square", {}, (np.array(2.0, np.float32),)),
        ("root", {}, (np.array([0.5], np.float32),)),
    ],
}
# Without these, a Swish of opset 24.
_VERSIONS: Mapping[str, int] = {"Swish": 24}
_FUSED: Mapping[str, str] = {"LeakyRelu": "QLinearLeakyRelu", "Sigmoid": "QLinearSigmoid"}


def activation_cases(op_type: str) -> list[Case]:
    """Every code of the domain; the output covers the function's values."""
    low, high = _DOMAINS.get(op_type, _EVERYWHERE)
    variants = [*_VARIANTS.get(op_type, [])]
    if op_type != "Pow":
        variants.append(("default", {}, ()))
    cases = []
    for dtype, (name, attributes, constants) in product((*DTYPES, np.int16), variants):
        x = params_from_range(low, high, dtype)
        codes = np.arange(x.qmin, x.qmax + 1).astype(dtype)
        real = dequantize(codes, x)
        codes = codes[(real >= low) & (real <= high)]
        node = make_node(op_type, 1 + len(constants), attributes, _VERSIONS.get(op_type, 21))
        arrays = [each if isinstance(each, np.ndarray) else None for each in constants]
        (values,) = OPS[op_type].float_form(node, [dequantize(codes, x), *arrays])
        y = params_from_range(float(values.min()), float(values.max()) + 1e-3, dtype)
        fitted = per_tensor(float(y.scale) * 1.0137, int(y.zero_point), dtype)
        for label, out in (("", fitted), ("-x", x)):
            cases.append(
                Case(
                    f"{np.dtype(dtype)}-{name}{label}",
                    node,
                    (x, *constants),
                    (out,),
                    (codes.reshape(1, -1),),
                    _FUSED.get(op_type, "") if np.dtype(dtype).itemsize == 1 else "",
                )
            )
    return cases


def _cases_of(
    make: Callable[[str], list[Case]], names: Sequence[str]
) -> dict[str, Callable[[], list[Case]]]:
    def bound(name: str) -> Callable[[], list[Case]]:
        return lambda: make(name)

    return {name: bound(name) for name in names}


ELEMENTWISE_CASES: dict[str, Callable[[], list[Case]]] = {
    **_cases_of(pair_cases, tuple(_SCALES)),
    "Concat": concat_cases,
    "Where": where_cases,
    **_cases_of(extremum_cases, ("Min", "Max")),
    **_cases_of(activation_cases, ACTIVATIONS),
}
