"""Every registered op against onnxruntime, its own float form, and a refusal of float arrays."""

import numpy as np
import pytest

from quantkit.errors import UnsupportedOpError
from quantkit.numerics.arithmetic import ARITHMETICS
from quantkit.ops.contract import OPS
from tests.ops.case import Case
from tests.ops.cases import CASES, WITHOUT_KERNEL
from tests.ops.checks import (
    all_cases,
    check_against_float_form,
    check_against_onnxruntime,
    joined,
    onnxruntime_codes,
    run,
    unsaturated_share,
)
from tests.ops.integers_only import IntegersOnly, guard, guarded_allocations, held_arrays

ALL_CASES = all_cases(CASES)
ALL = [pytest.param(case, id=repr(case)) for case in ALL_CASES]

# Share of unsaturated codes by which "fixed_point" may differ from onnxruntime, always by one code.
# Random scales: 0.1 %. Simple ratios of scales put many results exactly on a half, which one
# arithmetic sends to the even code and the other away from zero.
FIXED_POINT_SHARE = {"Add": 0.30, "AveragePool": 0.30, "Softmax": 0.40, "GlobalAveragePool": 0.05}
FLOAT_FORM_SHARE = {"Add": 0.30, "AveragePool": 0.30, "Softmax": 0.60, "GlobalAveragePool": 0.05}
USUAL_SHARE = 0.01
# Of codes that differ by one from those of a float op between DequantizeLinear and QuantizeLinear.
ISLAND_SHARE = 0.01


def test_every_op_has_cases() -> None:
    assert set(CASES) | WITHOUT_KERNEL == set(OPS)


@pytest.mark.parametrize("op_type", sorted(CASES))
def test_the_cases_leave_codes_unsaturated(op_type: str) -> None:
    shares = [unsaturated_share(onnxruntime_codes(case)) for case in CASES[op_type]()]
    assert np.mean(shares) > 0.3


@pytest.mark.parametrize("strict_integer", [False, True], ids=["default", "strict"])
@pytest.mark.parametrize("case", ALL)
def test_onnxruntime_arithmetic_equals_onnxruntime(case: Case, strict_integer: bool) -> None:
    is_island = not OPS[case.node.op_type].has_onnxruntime_kernel(case.node)
    if is_island and OPS[case.node.op_type].rule.output != "same_as_input":
        # Compared with floats; tests of its own compare it with exact integers.
        check_against_onnxruntime(
            case, "onnxruntime", strict_integer=strict_integer, max_lsb=1, max_share=ISLAND_SHARE
        )
        return
    check_against_onnxruntime(
        case, "onnxruntime", strict_integer=strict_integer, max_lsb=0, max_share=0.0
    )


@pytest.mark.parametrize("case", ALL)
def test_fixed_point_is_one_code_from_onnxruntime(case: Case) -> None:
    share = FIXED_POINT_SHARE.get(case.node.op_type, USUAL_SHARE)
    check_against_onnxruntime(case, "fixed_point", max_lsb=1, max_share=share)


@pytest.mark.parametrize("arithmetic", sorted(ARITHMETICS))
@pytest.mark.parametrize("case", ALL)
def test_one_code_from_the_float_form(case: Case, arithmetic: str) -> None:
    share = FLOAT_FORM_SHARE.get(case.node.op_type, USUAL_SHARE)
    check_against_float_form(case, arithmetic, max_lsb=1, max_share=share)


@pytest.mark.parametrize("arithmetic", sorted(ARITHMETICS))
@pytest.mark.parametrize("case", ALL)
def test_strict_kernels_hold_no_float_array(
    case: Case, arithmetic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = OPS[case.node.op_type].lower(case.lowering(arithmetic, strict_integer=True))
    with guarded_allocations(monkeypatch):
        guarded = kernel([guard(codes) for codes in case.data])
    assert {array.dtype.kind for array in held_arrays(kernel)} <= {"i", "u", "b"}
    expected = run(case, arithmetic, strict_integer=False)
    np.testing.assert_array_equal(joined([np.asarray(codes) for codes in guarded]), expected)


def test_the_guard_sees_floats() -> None:
    codes = guard(np.arange(6, dtype=np.uint8).reshape(2, 3))
    for trick in (
        lambda: codes * np.float32(2),
        lambda: codes.astype(np.float32),
        lambda: np.multiply(codes, 2, dtype=np.float64),
        lambda: np.mean(codes),
        lambda: np.add(np.zeros((2, 3)), codes),
        lambda: np.matmul(codes, np.ones((3, 2), np.float32)),
        lambda: np.einsum("ij,ij->i", codes, np.ones((2, 3))),
        lambda: np.copyto(codes, np.ones((2, 3)), casting="unsafe"),
    ):
        with pytest.raises(AssertionError, match="float"):
            trick()
    assert isinstance(codes + 1, IntegersOnly)


def test_the_guard_sees_allocations_and_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        guarded_allocations(monkeypatch),
        pytest.raises(AssertionError, match="a float array of dtype float64"),
    ):
        np.zeros(3)
    case = next(case for case in ALL_CASES if repr(case) == "Conv-3x3")
    default = OPS["Conv"].lower(case.lowering())
    assert "f" in {array.dtype.kind for array in held_arrays(default)}


@pytest.mark.parametrize("op_type", sorted(WITHOUT_KERNEL))
def test_ops_without_a_kernel_say_so(op_type: str) -> None:
    case = next(iter(CASES["Relu"]()))
    with pytest.raises(UnsupportedOpError, match="no integer kernel"):
        OPS[op_type].lower(case.lowering())
