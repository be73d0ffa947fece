"""The checks of tests/ops must have been seen red: each wrong kernel is rejected by both."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from quantkit.numerics.affine import QuantizedTensor, per_tensor
from quantkit.ops.contract import Kernel, Lowering
from tests.ops.case import Case
from tests.ops.checks import check_against_float_form, check_against_onnxruntime
from tests.ops.product_cases import conv_case, gemm_case
from tests.sabotage.wrong_kernels import (
    WrongArithmetic,
    half_away,
    swapped_scale_axis,
    transposed_taps,
    with_arithmetic,
    without_bias,
    zero_padding,
)

Lower = Callable[[Lowering], Kernel]


def tie_case(*, y_scale: float = 1.0) -> Case:
    """A matrix product with M = 1/2 (at ``y_scale`` 1), so that half of all results are ties."""
    case = gemm_case(np.random.default_rng(0), "ties", 64, 2, 8, has_bias=False)
    weight = case.inputs[1]
    assert isinstance(weight, QuantizedTensor)
    scale = np.ones_like(weight.params.scale)
    unit = QuantizedTensor(np.clip(weight.data, -1, 1), replace(weight.params, scale=scale))
    x, y = per_tensor(0.5, 128, np.uint8), per_tensor(y_scale, 120, np.uint8)
    return replace(case, inputs=(x, unit), outputs=(y,))


def depthwise_case() -> Case:
    rng = np.random.default_rng(1)
    return conv_case(rng, "depthwise", (1, 16, 12, 12), (16, 1, 3, 3), group=16, pads=(1, 1, 1, 1))


def conv_case_of_equal_channels() -> Case:
    rng = np.random.default_rng(2)
    return conv_case(rng, "square", (1, 16, 12, 12), (16, 16, 3, 3), pads=(1, 1, 1, 1))


ROUNDINGS = {
    "half-away": WrongArithmetic(rounding=half_away),
    "truncation": WrongArithmetic(rounding=np.trunc),
    "floor": WrongArithmetic(rounding=np.floor),
    "zero-point-plus-one": WrongArithmetic(shift=1),
    "zero-point-minus-one": WrongArithmetic(shift=-1),
}
STRUCTURES: dict[str, tuple[Callable[[], Case], Lower]] = {
    "swapped-scale-axis": (conv_case_of_equal_channels, swapped_scale_axis()),
    "transposed-depthwise-weights": (depthwise_case, transposed_taps()),
    "border-of-zeros": (depthwise_case, zero_padding()),
    "bias-forgotten": (conv_case_of_equal_channels, without_bias()),
}


def test_the_right_kernels_pass_the_same_checks() -> None:
    for case in (tie_case(), depthwise_case(), conv_case_of_equal_channels()):
        check_against_onnxruntime(case, "onnxruntime", max_lsb=0, max_share=0.0)
        check_against_float_form(case, "onnxruntime", max_lsb=1, max_share=0.01)
        lower = with_arithmetic(WrongArithmetic())
        check_against_onnxruntime(case, "onnxruntime", lower=lower, max_lsb=0, max_share=0.0)


@pytest.mark.parametrize("name", ROUNDINGS)
def test_a_wrong_rounding_is_rejected(name: str) -> None:
    lower = with_arithmetic(ROUNDINGS[name])
    with pytest.raises(AssertionError, match="codes"):
        check_against_onnxruntime(tie_case(), "onnxruntime", lower=lower, max_lsb=0, max_share=0.0)
    with pytest.raises(AssertionError, match="unsaturated codes differ"):
        check_against_float_form(tie_case(), "onnxruntime", lower=lower, max_lsb=1, max_share=0.01)


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_wrong_structure_is_rejected(name: str) -> None:
    make_case, lower = STRUCTURES[name]
    for check in (check_against_onnxruntime, check_against_float_form):
        with pytest.raises(AssertionError, match="codes apart"):
            check(make_case(), "onnxruntime", lower=lower, max_lsb=1, max_share=0.01)


def test_an_agreement_of_saturated_codes_does_not_count() -> None:
    # Nearly all codes saturate, so a share over all codes would let the wrong rounding pass.
    case = tie_case(y_scale=1.0 / 64)
    lower = with_arithmetic(ROUNDINGS["zero-point-plus-one"])
    with pytest.raises(AssertionError, match="unsaturated codes differ"):
        check_against_onnxruntime(case, "onnxruntime", lower=lower, max_lsb=1, max_share=0.05)
