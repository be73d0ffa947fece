"""Refusals, costs, rules and errors of single ops; numbers are in test_conformance."""

from dataclasses import replace

import numpy as np
import pytest

from quantkit.errors import ShapeMismatchError, UnsupportedOpError
from quantkit.graph.program import Array, AttributeValue, Node
from quantkit.numerics.affine import QuantizedTensor, per_channel_symmetric, per_tensor
from quantkit.numerics.arithmetic import ARITHMETICS
from quantkit.ops.contract import OPS, Lowering
from quantkit.ops.float_node import run_float_node
from quantkit.ops.windows import node_windows
from tests.ops.case import Case, make_node
from tests.ops.cases import CASES, real
from tests.ops.checks import lower
from tests.ops.product_cases import conv_case

W4 = np.zeros((8, 4, 3, 3), np.float32)
INTS = np.zeros(8, np.int64)
REALS = np.full(4, 2.0, np.float32)
MATRIX = np.zeros((8, 4), np.float32)

REFUSALS: list[tuple[str, dict[str, AttributeValue], list[Array | None], str]] = [
    ("Conv", {}, [None, None], "the weight is computed, not a constant"),
    ("Conv", {}, [None, np.zeros((8, 4), np.float32)], "0 spatial dimensions are not supported"),
    ("Conv", {}, [None, W4, None], "the bias is computed, not a constant"),
    ("Gemm", {}, [None, None], "the weight is computed, not a constant"),
    ("Gemm", {"alpha": 0.0}, [None, MATRIX], "by 0.0 (alpha), not by a number above 0"),
    ("Gemm", {"alpha": 0.5}, [None, MATRIX, np.zeros(8)], "(alpha = 0.5) and has a bias"),
    ("Gemm", {"beta": 0.5}, [None, MATRIX, np.zeros(4)], "the bias is scaled (beta = 0.5)"),
    ("Gemm", {}, [None, MATRIX, None], "the bias is computed, not a constant"),
    ("Gemm", {}, [None, MATRIX, np.zeros((3, 4))], "is not one number per output"),
    ("MatMul", {}, [MATRIX, MATRIX], "both operands are constants"),
    ("Add", {}, [MATRIX, MATRIX], "all operands are constants"),
    ("Clip", {}, [None, None], "a bound is computed, not a constant"),
    ("AveragePool", {"dilations": (2, 2)}, [None], "the attribute dilations"),
    ("AveragePool", {"dilations": (1, 1)}, [None], "the attribute dilations"),
    ("AveragePool", {"ceil_mode": 1, "count_include_pad": 1}, [None], "divides differently"),
    ("Reshape", {}, [None, None], "its input 'input_1' (a shape, axes, indices ...) is computed"),
    ("Squeeze", {}, [None, None], "is computed, not a constant"),
    ("Slice", {}, [None, INTS, None], "its input 'input_2'"),
    ("Split", {}, [None, None], "is computed, not a constant"),
    ("Gather", {}, [None, None], "is computed, not a constant"),
    ("Expand", {}, [None, None], "is computed, not a constant"),
    ("Tile", {}, [None, None], "is computed, not a constant"),
    ("ReduceMean", {}, [None, None], "is computed, not a constant"),
    ("ReduceMax", {}, [None, None], "is computed, not a constant"),
    ("Resize", {"mode": "cubic"}, [None, None, REALS], "the interpolation is cubic"),
    ("Resize", {"mode": "linear", "antialias": 1}, [None, None, REALS], "antialiasing"),
    ("Resize", {"nearest_mode": "up"}, [None, REALS, REALS], "nearest_mode 'up'"),
    ("Resize", {"mode": "linear"}, [None, None, None], "is computed, not a constant"),
    (
        "Resize",
        {"coordinate_transformation_mode": "centre"},
        [None, REALS, REALS],
        "coordinate_transformation_mode 'centre'",
    ),
    (
        "Resize",
        {"coordinate_transformation_mode": "tf_crop_and_resize"},
        [None, REALS, REALS],
        "reaches beyond the input",
    ),
    ("LayerNormalization", {}, [None, None], "(the scale or bias) is computed"),
    ("Pad", {"mode": "mirror"}, [None, INTS], "padding mode 'mirror'"),
    ("Pad", {}, [None, None], "the pads are computed, not a constant"),
    ("BatchNormalization", {}, [None], "it is folded into a convolution"),
]


@pytest.mark.parametrize(("op_type", "attributes", "constants", "reason"), REFUSALS)
def test_refusals(
    op_type: str,
    attributes: dict[str, AttributeValue],
    constants: list[Array | None],
    reason: str,
) -> None:
    got = OPS[op_type].refusal(make_node(op_type, len(constants), attributes), constants)
    assert got is not None
    assert reason in got
    assert not got.endswith(".")


def test_max_pool_with_indices_is_refused() -> None:
    node = replace(make_node("MaxPool", 1, {}), outputs=("values", "indices"))
    assert OPS["MaxPool"].refusal(node, [None]) == "the indices of the maxima are asked for"


@pytest.mark.parametrize("op_type", sorted(CASES))
def test_the_cases_are_not_refused(op_type: str) -> None:
    for case in CASES[op_type]():
        constants: list[Array | None] = []
        for operand in case.inputs:
            match operand:
                case QuantizedTensor():
                    constants.append(operand.dequantize())
                case np.ndarray():
                    constants.append(operand)
                case _:
                    constants.append(None)
        node = replace(
            case.node,
            inputs=tuple(
                "" if operand is None else name
                for name, operand in zip(case.node.inputs, case.inputs, strict=True)
            ),
        )
        assert OPS[op_type].refusal(node, constants) is None


def test_macs() -> None:
    conv = make_node("Conv", 2, {"group": 2})
    shapes = [(1, 8, 9, 9), (6, 4, 3, 3), (1, 6, 7, 7)]
    assert OPS["Conv"].macs(conv, shapes) == 6 * 7 * 7 * 4 * 9
    assert OPS["Conv"].macs(conv, [None, (6, 4, 3, 3), None]) == 0
    gemm = make_node("Gemm", 2, {"transB": 1})
    assert OPS["Gemm"].macs(gemm, [(5, 70), (33, 70), (5, 33)]) == 5 * 70 * 33
    plain = make_node("Gemm", 2, {})
    assert OPS["Gemm"].macs(plain, [(5, 70), (70, 33), (5, 33)]) == 5 * 70 * 33
    matmul = make_node("MatMul", 2, {})
    assert OPS["MatMul"].macs(matmul, [(2, 5, 70), (70, 33), (2, 5, 33)]) == 2 * 5 * 70 * 33
    assert OPS["Add"].macs(make_node("Add", 2, {}), [(4,), (4,), (4,)]) == 0


def test_weight_axes() -> None:
    assert OPS["Conv"].weight_axis(make_node("Conv", 2, {}), 4) == 0
    assert OPS["Gemm"].weight_axis(make_node("Gemm", 2, {"transB": 1}), 2) == 0
    assert OPS["Gemm"].weight_axis(make_node("Gemm", 2, {}), 2) == 1
    assert OPS["MatMul"].weight_axis(make_node("MatMul", 2, {}), 2) == 1


def test_a_relu_over_the_full_code_range_is_the_identity() -> None:
    x = per_tensor(0.1, 0, np.uint8)
    codes = np.arange(256, dtype=np.uint8)
    kernel = lower(Lowering(make_node("Relu", 1, {}), (x,), (x,), ARITHMETICS["onnxruntime"]))
    assert kernel([codes])[0] is codes


def test_clip_bounds_may_be_attributes() -> None:
    node = make_node("Clip", 1, {"min": 0.0, "max": 6.0}, version=6)
    x = per_tensor(0.1, 10, np.uint8)
    codes = np.arange(256, dtype=np.uint8)
    (got,) = lower(Lowering(node, (x,), (x,), ARITHMETICS["onnxruntime"]))([codes])
    np.testing.assert_array_equal(got, np.clip(codes, 10, 70))
    (real_values,) = OPS["Clip"].float_form(node, [np.array([-1, 3, 7], np.float32)])
    np.testing.assert_array_equal(real_values, [0, 3, 6])


def test_axes_and_pads_may_be_attributes() -> None:
    x = np.zeros((2, 1, 3), np.float32)
    squeeze = make_node("Squeeze", 1, {"axes": (1,)}, version=11)
    unsqueeze = make_node("Unsqueeze", 1, {"axes": (0, 2)}, version=11)
    pad = make_node("Pad", 1, {"pads": (0, 0, 1, 0, 0, 2), "value": 5.0}, version=2)
    assert OPS["Squeeze"].float_form(squeeze, [x])[0].shape == (2, 3)
    assert OPS["Unsqueeze"].float_form(unsqueeze, [x])[0].shape == (1, 2, 1, 1, 3)
    (padded,) = OPS["Pad"].float_form(pad, [x])
    np.testing.assert_array_equal(padded[0, 0], [5, 0, 0, 0, 5, 5])


def test_float_forms_name_what_is_missing() -> None:
    with pytest.raises(UnsupportedOpError, match="input 0 must hold floats, got uint8"):
        OPS["Relu"].float_form(make_node("Relu", 1, {}), [np.zeros(3, np.uint8)])
    with pytest.raises(UnsupportedOpError, match="input 1 must hold floats, got nothing"):
        OPS["Add"].float_form(make_node("Add", 2, {}), [real(1.0), None])
    with pytest.raises(UnsupportedOpError, match="Unsqueeze has no axes"):
        OPS["Unsqueeze"].float_form(make_node("Unsqueeze", 1, {}), [real(1.0)])
    node = make_node("BatchNormalization", 5, {"training_mode": 1})
    with pytest.raises(UnsupportedOpError, match="in training mode"):
        OPS["BatchNormalization"].float_form(node, [real(1.0)] * 5)


def test_batch_normalization_has_a_float_form() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    scale, bias, mean, var = (np.array([1, 2, 3], np.float32) for _ in range(4))
    node = make_node("BatchNormalization", 5, {"epsilon": 0.5})
    (got,) = OPS["BatchNormalization"].float_form(node, [x, scale, bias, mean, var])
    column = np.array([[1], [2], [3]], np.float64)
    expected = (x - column) / np.sqrt(column + 0.5) * column + column
    assert np.abs(got - expected).max() < 1e-5


def _small_conv() -> Case:
    return conv_case(np.random.default_rng(0), "small", (1, 2, 4, 4), (3, 2, 1, 1))


def test_wide_codes_are_refused_by_name() -> None:
    case = _small_conv()
    wide = (per_tensor(0.1, 0, np.int32), *case.inputs[1:])
    with pytest.raises(UnsupportedOpError, match=r"node \(Conv\): .* got int32"):
        lower(replace(case, inputs=wide).lowering())
    weight = QuantizedTensor(np.zeros((3, 2, 1, 1), np.int16), per_tensor(0.1, 0, np.int16))
    with pytest.raises(UnsupportedOpError, match="weights have 8-bit codes, got int16"):
        lower(replace(case, inputs=(case.inputs[0], weight, None)).lowering())
    with pytest.raises(UnsupportedOpError, match="the weight must be constant codes"):
        lower(replace(case, inputs=(case.inputs[0], None, None)).lowering())


def test_a_bias_must_fit() -> None:
    case = _small_conv()
    scale = np.ones(5, np.float32)
    for data, message in (
        (np.zeros(5, np.int32), r"a bias of shape \(5,\) does not fit"),
        (np.zeros(5, np.int8), "a bias has int32 codes, got int8"),
    ):
        bias = QuantizedTensor(data, per_channel_symmetric(scale, data.dtype, 0))
        with pytest.raises(ShapeMismatchError, match=message):
            lower(replace(case, inputs=(*case.inputs[:2], bias)).lowering())


@pytest.mark.parametrize(
    ("auto_pad", "begin", "end"),
    [("SAME_UPPER", (0, 1), (1, 1)), ("SAME_LOWER", (1, 1), (0, 1)), ("VALID", (0, 0), (0, 0))],
)
def test_auto_pad(auto_pad: str, begin: tuple[int, ...], end: tuple[int, ...]) -> None:
    node = make_node("Conv", 2, {"auto_pad": auto_pad, "strides": (2, 2)})
    windows = node_windows(node, (10, 11), (3, 3))
    assert (windows.pads_begin, windows.pads_end) == (begin, end)


def test_a_kernel_takes_inputs_of_any_size() -> None:
    case = _small_conv()
    kernel = lower(case.lowering())
    for shape in ((1, 2, 4, 4), (3, 2, 5, 9)):
        assert kernel([np.zeros(shape, np.uint8)])[0].shape == (shape[0], 3, *shape[2:])


def test_inputs_are_not_changed() -> None:
    for make in CASES.values():
        for case in make()[:6]:
            before = [codes.copy() for codes in case.data]
            lower(case.lowering())(case.data)
            for codes, copy in zip(case.data, before, strict=True):
                np.testing.assert_array_equal(codes, copy)


def test_outputs_are_new_or_the_input_itself() -> None:
    node = Node("node", "Identity", "", 21, ("x",), ("y",), {})
    x = per_tensor(0.1, 3, np.uint8)
    codes = np.arange(6, dtype=np.uint8)
    (got,) = lower(Lowering(node, (x,), (x,), ARITHMETICS["onnxruntime"]))([codes])
    assert got is codes


def test_absent_outputs_are_not_returned() -> None:
    node = replace(make_node("Split", 1, {"axis": 0}), outputs=("first", "", "third"))
    x = per_tensor(0.1, 3, np.uint8)
    codes = np.arange(6, dtype=np.uint8)
    got = lower(Lowering(node, (x,), (x, x), ARITHMETICS["onnxruntime"]))([codes])
    assert [part.tolist() for part in got] == [[0, 1], [4, 5]]


def test_a_split_must_add_up() -> None:
    node = replace(make_node("Split", 2, {}), outputs=("a", "b"))
    sizes = np.array([1, 3], np.int64)
    with pytest.raises(ShapeMismatchError, match=r"2 parts of sizes \[1, 3\] do not split 5"):
        OPS["Split"].float_form(node, [np.zeros(5, np.float32), sizes])


@pytest.mark.parametrize(
    ("mode", "pads", "message"),
    [
        ("reflect", (5, 0), r"take 5 values \(reflect\) from axis 0, of which 5 are left"),
        ("reflect", (-2, 3), r"take 3 values \(reflect\) from axis 0, of which 3 are left"),
        ("edge", (-5, 1), r"take 1 values \(edge\) from axis 0, of which 0 are left"),
    ],
)
def test_pads_that_have_nothing_to_repeat(mode: str, pads: tuple[int, ...], message: str) -> None:
    node = make_node("Pad", 2, {"mode": mode})
    with pytest.raises(ShapeMismatchError, match=message):
        OPS["Pad"].float_form(node, [np.zeros(5, np.float32), np.array(pads, np.int64)])


def test_layer_normalization_with_statistics_is_refused() -> None:
    node = replace(make_node("LayerNormalization", 2, {}), outputs=("y", "mean"))
    reason = OPS["LayerNormalization"].refusal(node, [None, MATRIX])
    assert reason == "the mean or the deviation is asked for"


@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_integers_are_computed_too(dtype: type[np.integer]) -> None:
    values = np.array([[3, -1], [7, 4]], dtype)
    axes = np.array([1], np.int64)
    (largest,) = run_float_node(make_node("ReduceMax", 2, {"keepdims": 0}), [values, axes])
    (index,) = run_float_node(make_node("ArgMax", 1, {"axis": 0, "keepdims": 0}), [values])
    (sliced,) = run_float_node(make_node("Slice", 3, {}), [values, axes, axes + 1])
    assert (largest.tolist(), index.tolist(), sliced.tolist()) == ([3, 7], [1, 1], [[7, 4]])
    assert (largest.dtype, sliced.dtype) == (values.dtype, values.dtype)


def test_a_softmax_too_fine_for_integers_is_named() -> None:
    x, y = per_tensor(0.1, 3, np.uint8), per_tensor(2.0**-18, 0, np.uint8)
    lowering = Lowering(
        make_node("Softmax", 1, {}), (x,), (y,), ARITHMETICS["onnxruntime"], strict_integer=True
    )
    with pytest.raises(UnsupportedOpError, match=r"node 'node' \(Softmax\): softmax in integers"):
        OPS["Softmax"].lower(lowering)
