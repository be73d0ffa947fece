"""Activations of 16 bits: what test_random_products does not say about them."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from quantkit.errors import ShapeMismatchError, UnsupportedOpError
from quantkit.numerics.affine import QuantizedTensor, QuantParams, per_tensor
from quantkit.numerics.arithmetic import ARITHMETICS
from quantkit.ops.contract import OPS
from tests.ops.case import Case, random_codes
from tests.ops.checks import check_against_float_form, run
from tests.ops.integers_only import guard, guarded_allocations, held_arrays
from tests.ops.product_cases import conv_case, conv_transpose_case, gemm_case, matmul_cases


def widened(case: Case, dtype: npt.DTypeLike) -> Case:
    """The case with activations of 16 bits over the same ranges, the bias in int64."""
    x, weight, *rest = case.inputs
    assert isinstance(x, QuantParams)
    assert isinstance(weight, QuantizedTensor)
    wide = per_tensor(float(x.scale) / 256, -300 if np.iinfo(dtype).min else 40000, dtype)
    y = case.outputs[0]
    middle = 0 if np.iinfo(dtype).min else 32768
    inputs: list[object] = [wide, weight]
    for bias in rest:
        assert isinstance(bias, QuantizedTensor)
        params = replace(
            bias.params, scale=bias.params.scale / np.float32(256), dtype=np.dtype(np.int64)
        )
        inputs.append(QuantizedTensor(bias.data.astype(np.int64) * 256, params))
    data = (random_codes(np.random.default_rng(0), case.data[0].shape, dtype),)
    outputs = (per_tensor(float(y.scale) / 200, middle, dtype),)
    return replace(case, inputs=tuple(inputs), outputs=outputs, data=data)  # type: ignore[arg-type]


def wide_cases() -> list[Case]:
    rng = np.random.default_rng(11)
    ones = (1, 1, 1, 1)
    cases = [
        conv_case(rng, "3x3", (2, 16, 9, 9), (12, 16, 3, 3), pads=ones),
        conv_case(rng, "depthwise", (1, 16, 9, 9), (16, 1, 3, 3), group=16, pads=ones),
        conv_transpose_case(rng, "transposed", (1, 8, 5, 6), (8, 6, 3, 3), strides=(2, 2)),
        gemm_case(rng, "rows", 9, 700, 33),
        matmul_cases()[0],
    ]
    return [widened(case, dtype) for case in cases for dtype in (np.uint16, np.int16)]


WIDE = [pytest.param(case, id=f"{case!r}-{case.data[0].dtype}") for case in wide_cases()]


@pytest.mark.parametrize("arithmetic", sorted(ARITHMETICS))
@pytest.mark.parametrize("case", WIDE)
def test_one_code_from_the_float_form(case: Case, arithmetic: str) -> None:
    # TFLite's multipliers have 16 bits here: 2^-16 of a code's magnitude, so a code or two.
    max_lsb = 1 if arithmetic == "onnxruntime" else 2
    max_share = 0.02 if arithmetic == "onnxruntime" else 0.5
    check_against_float_form(case, arithmetic, max_lsb=max_lsb, max_share=max_share)


@pytest.mark.parametrize("arithmetic", sorted(ARITHMETICS))
@pytest.mark.parametrize("case", WIDE)
def test_strict_kernels_hold_no_float_array(
    case: Case, arithmetic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = OPS[case.node.op_type].lower(case.lowering(arithmetic, strict_integer=True))
    with guarded_allocations(monkeypatch):
        (guarded,) = kernel([guard(codes) for codes in case.data])
    assert {array.dtype.kind for array in held_arrays(kernel)} <= {"i", "u", "b"}
    expected = run(case, arithmetic, strict_integer=False)
    np.testing.assert_array_equal(np.asarray(guarded), expected)


def test_wide_weights_are_refused() -> None:
    case = wide_cases()[0]
    weight = case.inputs[1]
    assert isinstance(weight, QuantizedTensor)
    params = replace(weight.params, dtype=np.dtype(np.int16))
    wide = QuantizedTensor(weight.data.astype(np.int16), params)
    refused = replace(case, inputs=(case.inputs[0], wide, *case.inputs[2:]))
    with pytest.raises(UnsupportedOpError, match=r"node \(Conv\): weights have 8-bit codes.*int8"):
        OPS["Conv"].lower(refused.lowering())


def test_8_bit_inputs_take_no_int64_bias() -> None:
    case = wide_cases()[0]
    refused = replace(case, inputs=(per_tensor(0.1, 3, np.uint8), *case.inputs[1:]))
    with pytest.raises(ShapeMismatchError, match="a bias has int32 codes, got int64"):
        OPS["Conv"].lower(refused.lowering())


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_wider_activations_are_refused(dtype: npt.DTypeLike) -> None:
    case = wide_cases()[0]
    refused = replace(case, inputs=(per_tensor(0.1, 3, dtype), *case.inputs[1:]))
    with pytest.raises(UnsupportedOpError, match="takes activations of 8 or 16 bits"):
        OPS["Conv"].lower(refused.lowering())
