"""int32 outputs: the sums themselves, as ConvInteger and MatMulInteger give them."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings

from quantkit.errors import UnsupportedOpError
from quantkit.numerics.affine import IntegerArray, QuantizedTensor, QuantParams, per_tensor
from quantkit.ops.contract import OPS
from tests.ops.case import Case, Input
from tests.ops.checks import run
from tests.ops.product_cases import conv_case, gemm_case
from tests.ops.product_strategies import products
from tests.ops.python_integers import product_codes

INTEGER_OPS = {"Conv": "ConvInteger", "MatMul": "MatMulInteger"}


def raw(case: Case) -> Case:
    """The case without its scales and bias."""

    def of_ones(operand: Input) -> Input:
        match operand:
            case QuantParams():
                return replace(operand, scale=np.ones_like(operand.scale))
            case QuantizedTensor():
                params = replace(operand.params, scale=np.ones_like(operand.params.scale))
                return replace(operand, params=params)
            case _:
                return operand

    inputs = tuple(of_ones(operand) for operand in case.inputs[:2])
    node = replace(case.node, inputs=case.node.inputs[:2])
    return replace(case, node=node, inputs=inputs, outputs=(per_tensor(1.0, 0, np.int32),))


def onnxruntime_sums(case: Case) -> IntegerArray:
    """ConvInteger or MatMulInteger on the same codes; zero points per tensor."""
    remaining = iter(case.data)
    feeds: dict[str, IntegerArray] = {}
    for name, operand in zip("xw", case.inputs, strict=True):
        if isinstance(operand, QuantizedTensor):
            params, feeds[name] = operand.params, operand.data
        else:
            assert isinstance(operand, QuantParams)
            params, feeds[name] = operand, next(remaining)
        feeds[f"{name}_zero_point"] = np.array(params.zero_point.flat[0], params.dtype)
    values = [
        ir.Value(
            name=name,
            shape=ir.Shape(codes.shape),
            type=ir.TensorType(ir.DataType.from_numpy(codes.dtype)),
        )
        for name, codes in feeds.items()
    ]
    x, x_zero, w, w_zero = values
    attributes: dict[str, Any] = dict(case.node.attributes)
    node = ir.node(INTEGER_OPS[case.node.op_type], [x, w, x_zero, w_zero], attributes)
    node.outputs[0].name, node.outputs[0].type = "sums", ir.TensorType(ir.DataType.INT32)
    graph = ir.Graph(values, [node.outputs[0]], nodes=[node], opset_imports={"": 21}, name="sums")
    model = ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (sums,) = session.run(None, feeds)
    codes: IntegerArray = sums
    return codes


@pytest.mark.parametrize("kind", ["conv", "depthwise", "matmul", "activations"])
def test_sums_equal_onnxruntime_and_python_integers(kind: str) -> None:
    @given(products(kind))
    @settings(max_examples=60, deadline=None, suppress_health_check=[*HealthCheck])
    def check_one(case: Case) -> None:
        case = raw(case)
        expected = product_codes(case, "onnxruntime")
        for strict_integer in (False, True):
            got = run(case, "onnxruntime", strict_integer=strict_integer)
            np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(onnxruntime_sums(case), expected)

    check_one()


def test_sums_wrap_as_int32() -> None:
    case = raw(gemm_case(np.random.default_rng(0), "wraps", 1, 70000, 2, transposed=False))
    weight = case.inputs[1]
    assert isinstance(weight, QuantizedTensor)
    weight = replace(weight, data=np.full_like(weight.data, 127))
    x = per_tensor(1.0, 0, np.uint8)
    case = replace(case, inputs=(x, weight), data=(np.full((1, 70000), 255, np.uint8),))
    for strict_integer in (False, True):
        got = run(case, "fixed_point", strict_integer=strict_integer)
        np.testing.assert_array_equal(got, 70000 * 255 * 127 - 2**32)


def test_inverse_scales_are_sums_too() -> None:
    """Of an input with any scale s, the sums have the unit 1 where the weight's scale is 1 / s."""
    case = raw(conv_case(np.random.default_rng(1), "inverse", (1, 3, 5, 5), (4, 3, 3, 3)))
    x, weight = case.inputs
    assert isinstance(x, QuantParams)
    assert isinstance(weight, QuantizedTensor)
    scale = np.float32(0.0213)
    inverse = np.full_like(weight.params.scale, np.float32(1) / scale)
    weight = replace(weight, params=replace(weight.params, scale=inverse))
    scaled = replace(case, inputs=(replace(x, scale=np.asarray(scale)), weight))
    expected = run(case, "onnxruntime", strict_integer=False)
    np.testing.assert_array_equal(run(scaled, "onnxruntime", strict_integer=False), expected)


@pytest.mark.parametrize(
    ("y", "x_dtype"),
    [
        (per_tensor(2.0, 0, np.int32), np.uint8),
        (per_tensor(1.0, 3, np.int32), np.uint8),
        (per_tensor(1.0, 0, np.int32), np.int16),
        (per_tensor(1.0, 0, np.int64), np.uint8),
    ],
    ids=["scale", "zero-point", "16-bit-input", "int64"],
)
def test_other_wide_outputs_are_refused(y: QuantParams, x_dtype: type) -> None:
    case = raw(conv_case(np.random.default_rng(2), "refused", (1, 3, 5, 5), (4, 3, 3, 3)))
    x = per_tensor(1.0, 0, x_dtype)
    case = replace(case, inputs=(x, *case.inputs[1:]), outputs=(y,))
    with pytest.raises(UnsupportedOpError, match=r"node \(Conv\): the output has 8 or 16 bits"):
        OPS["Conv"].lower(case.lowering())
