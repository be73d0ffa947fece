"""ONNX's own backend node cases, each judged through an integer kernel or named out of scope.

A float case is quantized: its inputs become codes, the kernel runs on them, and its codes are
compared with the quantized expected output. What moves or chooses values must agree exactly; a mean
or an interpolation of values that are half a code off may itself be one code off.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx.backend.test.case.node import collect_testcases

from quantkit.graph.model_io import node_of
from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import (
    QuantizedTensor,
    QuantParams,
    dequantize,
    dynamic_params,
    params_from_range,
    per_tensor,
    quantize,
)
from quantkit.numerics.arithmetic import ARITHMETICS
from quantkit.ops.contract import OPS, Kernel, Lowering

DTYPES = (np.uint8, np.int8, np.int16, np.uint16)
INDICES = ("ArgMax", "ArgMin")
MEANS = ("AveragePool", "GlobalAveragePool", "ReduceMean", "LayerNormalization")


DISPUTED = {
    "resize_downsample_scales_linear_align_corners": (
        "ONNX divides by the unrounded size, onnxruntime by the output's"
    ),
}
"""Cases that onnxruntime 1.32 itself does not give the expected values for."""


@dataclass(frozen=True, eq=False)
class NodeCase:
    """One node with its inputs and expected outputs.

    Attributes:
        name: ONNX's, without ``test_``.
        node: The node; absent inputs and outputs have the name "".
        inputs: By the node's positions, None where absent.
        outputs: What is expected.
    """

    name: str
    node: Node
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]

    def __repr__(self) -> str:
        return self.name


class OutOfScopeError(Exception):
    """Why a case is not for integer kernels of 8 and 16 bits."""


@cache
def node_cases() -> dict[str, list[NodeCase]]:
    """The cases that hold one node, by op type."""
    found: dict[str, list[NodeCase]] = {}
    with warnings.catch_warnings():
        # The generators of unrelated cases overflow and divide by zero on purpose.
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    for case in cases:
        if case.model is None or not case.data_sets or len(case.model.graph.node) != 1:
            continue
        model = ir.from_proto(case.model)
        node = node_of(model.graph[0], model.opset_imports)
        data, expected = case.data_sets[0]
        values = dict(zip([value.name for value in model.graph.inputs], data, strict=True))
        inputs = tuple(values[name] if name else None for name in node.inputs)
        name = case.name.removeprefix("test_")
        found.setdefault(node.op_type, []).append(NodeCase(name, node, inputs, tuple(expected)))
    return found


def judge(case: NodeCase) -> None:
    """Run the case.

    Raises:
        OutOfScopeError: There is no integer kernel for it, by intention.
        AssertionError: The kernel's result is not the expected one.
    """
    JUDGES.get(case.node.op_type, judge_float_case)(case)


def judge_float_case(case: NodeCase) -> None:
    node, op = case.node, OPS[case.node.op_type]
    if node.op_type == "LayerNormalization":
        # The statistics are float outputs that inference graphs do not ask for.
        node = replace(node, outputs=node.outputs[:1])
    x = case.inputs[0]
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "fiub":
        raise OutOfScopeError("no tensor of numbers")
    positions = op.rule.data_inputs or tuple(range(len(case.inputs)))
    constants = [None if i in positions else as_array(v) for i, v in enumerate(case.inputs)]
    reason = op.refusal(node, constants)
    if reason is not None:
        raise OutOfScopeError(reason)
    if not x.size and np.size(case.outputs[0]):
        raise OutOfScopeError("the extreme of no values has no code")
    if case.name in DISPUTED:
        raise OutOfScopeError(DISPUTED[case.name])
    check_float_form(case, node)
    for dtype in DTYPES:
        params = data_params(case, positions, dtype)
        reals = [np.asarray(case.inputs[i], np.float32) for i in positions]
        codes = [quantize(real, params) for real in reals]
        operands = tuple(params if i in positions else c for i, c in enumerate(constants))
        y = params
        if node.op_type == "LayerNormalization":
            y = covering([np.asarray(case.outputs[0])], dtype)
        outputs = () if node.op_type in INDICES else (y,) * len(node.outputs)
        got = lowered(node, operands, outputs)(codes)
        for result, expected in zip(got, case.outputs, strict=False):
            assert result.shape == np.shape(expected)
            if node.op_type in INDICES:
                check_indices(node, reals[0], result, expected, float(params.scale))
            elif node.op_type in MEANS or node.text("mode", "") == "linear":
                check_mean(result, expected, y, case.node.op_type)
            else:
                wanted = quantize(np.asarray(expected, np.float32), y)
                np.testing.assert_array_equal(result, wanted)


def check_float_form(case: NodeCase, node: Node) -> None:
    inputs = [None if v is None else as_array(v) for v in case.inputs]
    if inputs[0] is None or inputs[0].dtype != np.float32:
        return
    for real, expected in zip(
        OPS[node.op_type].float_form(node, inputs), case.outputs, strict=False
    ):
        np.testing.assert_allclose(real, expected, rtol=1e-5, atol=1e-5)


def check_mean(got: Array, expected: Array, y: QuantParams, op_type: str) -> None:
    """Half a code from the inputs, half a code from the rounding."""
    real = np.asarray(expected, np.float64) / float(y.scale) + int(y.zero_point)
    # A LayerNormalization divides the inputs' error by the deviation; these inputs are normal.
    limit = 3.0 if op_type == "LayerNormalization" else 1.001
    assert np.abs(got - np.clip(real, y.qmin, y.qmax)).max(initial=0) <= limit


def check_indices(node: Node, x: Array, got: Array, expected: Array, scale: float) -> None:
    """Equal, or the position of a value that shares the code of the expected one."""
    assert got.dtype == np.int64
    axis = node.integer("axis", 0)
    kept = [
        index if node.integer("keepdims", 1) else np.expand_dims(index, axis)
        for index in (got, expected)
    ]
    chosen, best = (np.take_along_axis(x, index, axis) for index in kept)
    assert np.abs(chosen - best).max() <= scale
    if scale <= 2.0**-11:
        np.testing.assert_array_equal(got, expected)


def judge_quantize(case: NodeCase) -> None:
    x, scale, *zero_point = case.inputs
    params = tensor_params(case, scale, zero_point[0] if zero_point else case.outputs[0], x)
    np.testing.assert_array_equal(quantize(x, params), case.outputs[0])


def judge_dequantize(case: NodeCase) -> None:
    codes, scale, *zero_point = case.inputs
    params = tensor_params(case, scale, zero_point[0] if zero_point else codes, codes)
    np.testing.assert_array_equal(dequantize(codes, params), case.outputs[0])


def judge_dynamic_quantize(case: NodeCase) -> None:
    (x,) = case.inputs
    params = dynamic_params(x)
    for got, expected in zip(
        (quantize(x, params), params.scale, params.zero_point), case.outputs, strict=True
    ):
        np.testing.assert_array_equal(got, expected)


def judge_qlinear_conv(case: NodeCase) -> None:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = case.inputs
    run_product(
        case,
        "Conv",
        x,
        code_params(x_scale, x_zero),
        w,
        code_params(w_scale, w_zero, axis=0),
        code_params(y_scale, y_zero),
    )


def judge_qlinear_matmul(case: NodeCase) -> None:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = case.inputs
    a_params, b_params = code_params(a_scale, a_zero), code_params(b_scale, b_zero)
    node = product_node(case, "MatMul")
    kernel = lowered(node, (a_params, b_params), (code_params(y_scale, y_zero),))
    np.testing.assert_array_equal(kernel([a, b])[0], case.outputs[0])


def judge_conv_integer(case: NodeCase) -> None:
    x, w, x_zero, w_zero = (*case.inputs, None, None)[:4]
    one = np.float32(1)
    run_product(
        case,
        "Conv",
        x,
        code_params(one, x_zero, dtype=x.dtype),
        w,
        code_params(one, w_zero, axis=0, dtype=w.dtype),
        per_tensor(1.0, 0, np.int32),
    )


def judge_matmul_integer(case: NodeCase) -> None:
    a, b, a_zero, b_zero = (*case.inputs, None, None)[:4]
    one = np.float32(1)
    run_product(
        case,
        "MatMul",
        a,
        code_params(one, a_zero, dtype=a.dtype),
        b,
        code_params(one, b_zero, axis=1, dtype=b.dtype),
        per_tensor(1.0, 0, np.int32),
    )


def run_product(
    case: NodeCase,
    op_type: str,
    x_q: Array,
    x: QuantParams,
    w_q: Array,
    w: QuantParams,
    y: QuantParams,
) -> None:
    kernel = lowered(product_node(case, op_type), (x, QuantizedTensor(w_q, w)), (y,))
    np.testing.assert_array_equal(kernel([x_q])[0], case.outputs[0])


def product_node(case: NodeCase, op_type: str) -> Node:
    return replace(case.node, op_type=op_type, inputs=("x", "w"))


def lowered(node: Node, operands: Sequence[Any], outputs: Sequence[QuantParams]) -> Kernel:
    arithmetic = ARITHMETICS["onnxruntime"]
    return OPS[node.op_type].lower(Lowering(node, tuple(operands), tuple(outputs), arithmetic))


def tensor_params(case: NodeCase, scale: Any, zero_point: Any, x: Any) -> QuantParams:
    codes = np.asarray(zero_point)
    if codes.dtype.name not in ("uint8", "int8", "uint16", "int16"):
        raise OutOfScopeError("codes are float8, float4 or of fewer than 8 bits")
    if case.node.integer("block_size", 0):
        raise OutOfScopeError("the scales are blocked")
    return code_params(scale, codes, axis=case.node.integer("axis", 1) % x.ndim)


def code_params(
    scale: Any, zero_point: Any, *, axis: int | None = None, dtype: npt.DTypeLike = np.uint8
) -> QuantParams:
    """Per channel where there are several numbers, along ``axis``."""
    codes = np.zeros((), dtype) if zero_point is None else np.asarray(zero_point)
    scales = np.asarray(scale, np.float32)
    if max(scales.size, codes.size) == 1:
        return per_tensor(float(scales.reshape(())), int(codes.reshape(())), codes.dtype)
    shape = np.broadcast_shapes(scales.shape, codes.shape)
    wide = np.broadcast_to(scales, shape).copy(), np.broadcast_to(codes, shape).astype(np.int32)
    return QuantParams(*wide, codes.dtype, axis)


def data_params(case: NodeCase, positions: Sequence[int], dtype: npt.DTypeLike) -> QuantParams:
    """One range for inputs and outputs; small whole numbers keep their values as codes."""
    values = [np.asarray(case.inputs[i], np.float64) for i in positions]
    if case.node.op_type not in INDICES and case.node.op_type != "LayerNormalization":
        values += [np.asarray(y, np.float64) for y in case.outputs[: len(case.node.outputs)]]
    return covering(values, dtype)


def covering(values: Sequence[Array], dtype: npt.DTypeLike) -> QuantParams:
    every = np.concatenate([np.asarray(v, np.float64).reshape(-1) for v in values])
    low, high = float(every.min(initial=0)), float(every.max(initial=0))
    info = np.iinfo(np.dtype(dtype))
    if np.array_equal(every, np.rint(every)) and info.min <= low and high <= info.max:
        return per_tensor(1.0, 0, dtype)
    return params_from_range(low, high, dtype)


def as_array(value: Any) -> Array | None:
    return None if value is None else np.asarray(value)


JUDGES: dict[str, Callable[[NodeCase], None]] = {
    "QuantizeLinear": judge_quantize,
    "DequantizeLinear": judge_dequantize,
    "DynamicQuantizeLinear": judge_dynamic_quantize,
    "QLinearConv": judge_qlinear_conv,
    "QLinearMatMul": judge_qlinear_matmul,
    "ConvInteger": judge_conv_integer,
    "MatMulInteger": judge_matmul_integer,
}
"""The ops whose cases hold codes; all others are float cases."""
