"""Geometry and shapes at their edges: onnxruntime's kernels, bit for bit."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest

from quantkit.errors import ShapeMismatchError
from quantkit.graph.program import Array, AttributeValue
from quantkit.numerics.affine import IntegerArray, QuantizedTensor, QuantParams, per_tensor
from quantkit.ops.contract import OPS
from quantkit.ops.windows import node_windows
from tests.ops.case import Case, Input, make_node, random_codes
from tests.ops.checks import check_against_float_form, check_against_onnxruntime

Attributes = dict[str, AttributeValue]
ONE = per_tensor(1.0, 0, np.uint8)


def one_op(
    op_type: str,
    attributes: Attributes,
    inputs: Sequence[Input],
    y: QuantParams,
    data: Sequence[IntegerArray],
    *,
    fused: str = "",
    version: int = 21,
) -> Case:
    node = make_node(op_type, len(inputs), attributes, version)
    return Case("edge", node, tuple(inputs), (y,), tuple(data), fused)


def check(case: Case) -> None:
    for strict_integer in (False, True):
        check_against_onnxruntime(
            case, "onnxruntime", strict_integer=strict_integer, max_lsb=0, max_share=0.0
        )


def ints(*values: int) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)


WHOLE: list[Attributes] = [
    {},
    {"strides": (2, 3)},
    {"ceil_mode": 1, "strides": (3, 3)},
    {"count_include_pad": 1},
    {"auto_pad": "VALID"},
    {"auto_pad": "SAME_UPPER", "strides": (8, 4)},
]
PARTIAL: list[Attributes] = [
    {"auto_pad": "SAME_UPPER"},
    {"pads": (1, 0, 0, 0)},
    {"pads": (1, 0, 0, 0), "count_include_pad": 1},
]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8], ids=["uint8", "int8"])
@pytest.mark.parametrize("attributes", WHOLE + PARTIAL, ids=str)
def test_a_window_that_covers_the_input(attributes: Attributes, dtype: npt.DTypeLike) -> None:
    """One such window without pads is a global average; most of these averages are ties."""
    rng = np.random.default_rng(1)
    low = int(np.iinfo(np.dtype(dtype)).min)
    for (s_x, s_y), z_y in product([(0.02, 0.01), (0.1, 0.025)], (133, 0)):
        x, y = per_tensor(s_x, low + 128, dtype), per_tensor(s_y, low + z_y, dtype)
        data = random_codes(rng, (3, 90, 8, 4), dtype) // 4 * 2
        node: Attributes = {"kernel_shape": (8, 4), **attributes}
        check(one_op("AveragePool", node, [x], y, [data], fused="QLinearAveragePool"))


@pytest.mark.parametrize("spatial", [(6,), (2, 3, 4), (1,), (1, 1)], ids=str)
def test_a_window_that_covers_the_input_in_any_rank(spatial: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    x, y = per_tensor(0.02, 128, np.uint8), per_tensor(0.01, 133, np.uint8)
    for larger in (0, 1):
        data = random_codes(rng, (2, 200, *(size + larger for size in spatial)))
        check(one_op("AveragePool", {"kernel_shape": spatial}, [x], y, [data]))


SAME = ("SAME_UPPER", "SAME_LOWER")


@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("auto_pad", SAME)
@pytest.mark.parametrize("ceil_mode", [0, 1])
def test_same_pads_of_pools(op_type: str, auto_pad: str, ceil_mode: int) -> None:
    """Strides far beyond the kernel crop the input; dilations do not count as extent."""
    dilations = [(1, 1), (2, 1), (1, 3)] if op_type == "MaxPool" else [(1, 1)]
    sizes = [(7, 8), (10, 9), (5, 11)]
    for kernel, strides, dilation, size in product(
        [(1, 2), (3, 1), (4, 3)], [(1, 2), (3, 9), (5, 4)], dilations, sizes
    ):
        attributes: Attributes = {
            "kernel_shape": kernel,
            "strides": strides,
            "auto_pad": auto_pad,
            "ceil_mode": ceil_mode,
        }
        if op_type == "MaxPool":
            attributes["dilations"] = dilation
        data = (np.arange(np.prod(size)) * 7 % 251).astype(np.uint8).reshape(1, 1, *size)
        case = one_op(op_type, attributes, [ONE], ONE, [data])
        check(case)
        check_against_float_form(case, "onnxruntime", max_lsb=0, max_share=0.0)


@pytest.mark.parametrize("group", [1, 2, 4], ids=["dense", "grouped", "depthwise"])
@pytest.mark.parametrize("auto_pad", SAME)
def test_same_pads_of_convolutions(auto_pad: str, group: int) -> None:
    weight = np.arange(1, 5).reshape(4, 1, 1, 1) * np.array([[1, -2], [3, 1]])
    for kernel, stride, size in product([(1, 1), (2, 1), (1, 2)], [2, 3, 9], [(4, 7), (9, 10)]):
        taps = np.tile(weight, (1, 4 // group, 1, 1))[:, :, : kernel[0], : kernel[1]]
        codes = QuantizedTensor(taps.astype(np.int8), per_tensor(1.0, 0, np.int8))
        attributes: Attributes = {"strides": (stride, stride), "auto_pad": auto_pad, "group": group}
        data = (np.arange(4 * np.prod(size)) % 13).astype(np.uint8).reshape(1, 4, *size)
        y = per_tensor(2.0, 100, np.uint8)
        case = one_op("Conv", attributes, [ONE, codes], y, [data], fused="QLinearConv")
        check(case)
        check_against_float_form(case, "onnxruntime", max_lsb=0, max_share=0.0)


def test_no_window_fits() -> None:
    node = make_node("MaxPool", 1, {"strides": (1,), "dilations": (3,), "auto_pad": "SAME_LOWER"})
    with pytest.raises(ShapeMismatchError, match=r"node: no window of kernel \[2\]"):
        node_windows(node, (1,), (2,))


@pytest.mark.parametrize("y_zero_point", [0, 128])
def test_a_maximum_of_border_alone(y_zero_point: int) -> None:
    attributes: Attributes = {"kernel_shape": (2,), "pads": (1, 1), "dilations": (3,)}
    node = make_node("MaxPool", 1, attributes)
    for y in (ONE, per_tensor(0.75, y_zero_point, np.uint8)):
        codes = np.array([[[7, 9]]], np.uint8)
        check(one_op("MaxPool", attributes, [ONE], y, [codes]))
    (least,) = OPS["MaxPool"].float_form(node, [codes.astype(np.float32)])
    np.testing.assert_array_equal(least, np.finfo(np.float32).min)


ONES = [(), (1,), (1, 1), (2, 1), (1, 2), (1, 2, 1), (2,)]


@pytest.mark.parametrize(("a_shape", "b_shape"), [*product(ONES, ONES)], ids=str)
def test_which_operand_of_a_sum_is_first(
    a_shape: tuple[int, ...], b_shape: tuple[int, ...]
) -> None:
    """QLinearAdd is not symmetric: these codes differ if the operands are swapped."""
    a, b = per_tensor(0.02, 69, np.uint8), per_tensor(0.01, 78, np.uint8)
    y = per_tensor(0.06, 10, np.uint8)
    for codes in ((2, 203), (255, 249)):
        data = [
            np.full(shape, q, np.uint8) for shape, q in zip((a_shape, b_shape), codes, strict=True)
        ]
        check(one_op("Add", {}, [a, b], y, data, fused="QLinearAdd"))


INT32_MAX, INT64_MAX = 2**31 - 1, 2**63 - 1


@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize("step", [-1, -2, 1, 3])
def test_slices_beyond_the_axis(size: int, step: int) -> None:
    data = np.arange(size, dtype=np.uint8)
    bounds = [-9, -1, 0, 1, 9, INT32_MAX]
    for start, end in product(bounds, [*bounds, -INT32_MAX, INT64_MAX]):
        constants: list[Array] = [ints(start), ints(end), ints(0), ints(step)]
        check(one_op("Slice", {}, [ONE, *constants], ONE, [data]))


def test_results_without_axes() -> None:
    data = [np.array([200], np.uint8)]
    other = per_tensor(2.0, 3, np.uint8)
    for y in (ONE, other):
        check(one_op("Squeeze", {}, [ONE, ints(0)], y, data))
        check(one_op("Squeeze", {"axes": (0,)}, [ONE], y, data, version=11))
        check(one_op("Gather", {"axis": 0}, [ONE, np.array(0, np.int64)], y, data))
        check(one_op("Relu", {}, [ONE], y, [np.array(7, np.uint8)]))
        check(one_op("Sigmoid", {}, [ONE], y, [np.array(1, np.uint8)]))


EMPTY: list[tuple[str, Attributes, tuple[int, ...], int]] = [
    ("Softmax", {}, (0, 5), 21),
    ("Softmax", {"axis": 1}, (0, 5, 2), 12),
    ("Softmax", {}, (0,), 21),
    ("Flatten", {}, (0, 3, 2), 21),
    ("MaxPool", {"kernel_shape": (2, 2)}, (0, 3, 4, 4), 21),
    ("AveragePool", {"kernel_shape": (2, 2)}, (0, 3, 4, 4), 21),
    ("AveragePool", {"kernel_shape": (4, 4)}, (0, 3, 4, 4), 21),
    ("GlobalAveragePool", {}, (0, 3, 4, 4), 21),
    ("LeakyRelu", {}, (0, 3), 21),
    ("Transpose", {}, (0, 3), 21),
]


@pytest.mark.parametrize(("op_type", "attributes", "shape", "version"), EMPTY, ids=str)
def test_empty_batches(
    op_type: str, attributes: Attributes, shape: tuple[int, ...], version: int
) -> None:
    data = np.zeros(shape, np.uint8)
    check(one_op(op_type, attributes, [ONE], ONE, [data], version=version))


def test_empty_batches_of_products() -> None:
    weight = QuantizedTensor(np.ones((4, 1, 2, 2), np.int8), per_tensor(1.0, 0, np.int8))
    data = np.zeros((0, 4, 5, 5), np.uint8)
    check(one_op("Conv", {"group": 4}, [ONE, weight], ONE, [data]))
    weight = replace(weight, data=np.ones((4, 3), np.int8))
    check(one_op("MatMul", {}, [ONE, weight], ONE, [np.zeros((0, 4), np.uint8)]))


AXES = [(0,), (-1,), (1, -2), (-4, 2, 1), ()]


@pytest.mark.parametrize("version", [12, 13, 18, 20, 21, 25])
@pytest.mark.parametrize("op_type", ["ReduceMax", "ReduceMin"])
def test_extremes_in_every_form(op_type: str, version: int) -> None:
    """Axes are an attribute, since opset 18 an input; none at all means every one."""
    rng = np.random.default_rng(3)
    data = random_codes(rng, (3, 1, 4, 5))
    for axes, keepdims in product(AXES, (None, 0, 1)):
        attributes: Attributes = {} if keepdims is None else {"keepdims": keepdims}
        inputs: list[Input] = [ONE]
        if version < 18 and axes:
            attributes["axes"] = axes
        elif axes:
            inputs.append(ints(*axes))
        check(one_op(op_type, attributes, inputs, ONE, [data], version=version))
    if version >= 18:
        for keepdims in (0, 1):
            attributes = {"noop_with_empty_axes": 1, "keepdims": keepdims}
            for no_axes in ([], [ints()]):
                inputs = [ONE, *no_axes]
                check(one_op(op_type, attributes, inputs, ONE, [data], version=version))


@pytest.mark.parametrize("version", [11, 12, 13, 21, 25])
@pytest.mark.parametrize("op_type", ["ArgMax", "ArgMin"])
def test_positions_in_every_form(op_type: str, version: int) -> None:
    rng = np.random.default_rng(4)
    data = random_codes(rng, (3, 1, 6, 5)) // 60
    for axis, keepdims, last in product((None, 0, 2, -1, -3), (None, 0, 1), (None, 0, 1)):
        given = {"axis": axis, "keepdims": keepdims, "select_last_index": last}
        attributes: Attributes = {key: value for key, value in given.items() if value is not None}
        if version == 11:
            attributes.pop("select_last_index", None)
        node = make_node(op_type, 1, attributes, version)
        check(Case("form", node, (ONE,), (), (data.astype(np.uint8),), ""))


@pytest.mark.parametrize(
    ("attributes", "sizes", "version"),
    [
        ({"axis": -1, "split": (1, 0, 4)}, None, 11),
        ({"axis": -1}, (1, 0, 4), 13),
        ({"axis": -1}, (1, 0, 4), 18),
        ({"axis": 1, "num_outputs": 3}, None, 18),
        ({"axis": -1, "num_outputs": 3}, None, 25),
        ({"axis": 1}, None, 13),
    ],
    ids=str,
)
def test_splits_in_every_form(
    attributes: Attributes, sizes: tuple[int, ...] | None, version: int
) -> None:
    inputs: list[Input] = [ONE] if sizes is None else [ONE, ints(*sizes)]
    data = random_codes(np.random.default_rng(5), (2, 6, 5))
    node = make_node("Split", len(inputs), attributes, version)
    node = replace(node, outputs=("first", "second", "third"))
    check(Case("form", node, tuple(inputs), (ONE,) * 3, (data,), ""))
