"""Every registered op against onnxruntime, its own float form, and a refusal of float arrays."""

import numpy as np
import pytest

from quantkit.errors import UnsupportedOpError
from quantkit.numerics.affine import QuantParams
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
    onnxruntime_result,
    run,
    unsaturated_share,
)
from tests.ops.integers_only import IntegersOnly, guard, guarded_allocations, held_arrays

ALL_CASES = all_cases(CASES)
ALL = [pytest.param(case, id=repr(case)) for case in ALL_CASES]

# Share of unsaturated codes by which "fixed_point" may differ from onnxruntime, always by one code.
# Random scales: 0.1 %. Simple ratios of scales put many results exactly on a half, which one
# arithmetic sends to the even code and the other away from zero.
FIXED_POINT_SHARE = {
    "Add": 0.30,
    "AveragePool": 0.30,
    "Ceil": 0.20,
    "Concat": 0.30,
    "Div": 0.03,
    "Floor": 0.20,
    "GlobalAveragePool": 0.05,
    "LeakyRelu": 0.03,
    "Max": 0.30,
    "Min": 0.30,
    "Mul": 0.10,
    "PRelu": 0.30,
    "ReduceMean": 0.05,
    "Resize": 0.15,
    "Round": 0.20,
    "Selu": 0.03,
    "Softmax": 0.40,
    "Sub": 0.30,
    "Where": 0.40,
}
FLOAT_FORM_SHARE = {
    "Add": 0.30,
    "AveragePool": 0.30,
    "Ceil": 0.20,
    "Concat": 0.30,
    "Div": 0.03,
    "Floor": 0.20,
    "GlobalAveragePool": 0.05,
    "LeakyRelu": 0.03,
    "Max": 0.30,
    "Min": 0.30,
    "Mul": 0.10,
    "PRelu": 0.30,
    "ReduceMean": 0.05,
    "Resize": 0.15,
    "Round": 0.20,
    "Selu": 0.03,
    "Softmax": 0.60,
    "Sub": 0.30,
    "Where": 0.40,
}
USUAL_SHARE = 0.01
# Of codes that differ by one from those of a float op between DequantizeLinear and QuantizeLinear:
# results that lie on a half in exact arithmetic, which float32 moves to one side.
ISLAND_SHARE = {
    "AveragePool": 0.30,
    "ReduceMean": 0.05,
    "Resize": 0.15,
}
CLAMPS = {"Relu", "Clip"}


def test_every_op_has_cases() -> None:
    assert set(CASES) | WITHOUT_KERNEL == set(OPS)


@pytest.mark.parametrize("op_type", sorted(CASES))
def test_the_cases_leave_codes_unsaturated(op_type: str) -> None:
    shares = [unsaturated_share(onnxruntime_codes(case)) for case in CASES[op_type]()]
    assert np.mean(shares) > 0.3


def is_moved(case: Case) -> bool:
    """Whether values are moved or chosen, so that floats give the same codes."""
    is_interpolated = case.node.text("mode", "") == "linear"
    return OPS[case.node.op_type].rule.output in ("same_as_input", "plain") and not is_interpolated


def is_island(case: Case) -> bool:
    """Whether onnxruntime computes with dequantized values; of 16 bits it always does."""
    is_wide = any(isinstance(x, QuantParams) and x.dtype.itemsize > 1 for x in case.inputs)
    return is_wide or not OPS[case.node.op_type].has_onnxruntime_kernel(case.node)


@pytest.mark.parametrize(
    "case",
    [case for case in ALL_CASES if is_moved(case) and case.node.op_type not in CLAMPS],
    ids=repr,
)
def test_onnxruntime_moves_codes_where_the_op_says_so(case: Case) -> None:
    is_dequantized = "DequantizeLinear" in onnxruntime_result(case).op_types
    assert isinstance(case.inputs[0], QuantParams)
    is_converted = any(not case.inputs[0].equals(y) for y in case.outputs)
    if not is_island(case):
        assert is_dequantized == is_converted
    elif case.inputs[0].dtype.itemsize == 1:
        assert is_dequantized


@pytest.mark.parametrize("strict_integer", [False, True], ids=["default", "strict"])
@pytest.mark.parametrize("case", ALL)
def test_onnxruntime_arithmetic_equals_onnxruntime(case: Case, strict_integer: bool) -> None:
    if is_island(case) and not is_moved(case):
        # Compared with floats; tests of its own compare it with exact integers.
        share = ISLAND_SHARE.get(case.node.op_type, USUAL_SHARE)
        check_against_onnxruntime(
            case, "onnxruntime", strict_integer=strict_integer, max_lsb=1, max_share=share
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
        lambda: codes / 2,
        lambda: codes.max() / 2,
        lambda: np.frexp(codes),
        lambda: np.ldexp(codes, 3),
        lambda: np.array([0.5]) * codes,
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
    codes = guard(np.arange(6, dtype=np.uint8))
    with guarded_allocations(monkeypatch):
        for plain in (np.asarray, np.ascontiguousarray, np.array):
            with pytest.raises(AssertionError, match="float"):
                plain(codes) / 2
    case = next(case for case in ALL_CASES if repr(case) == "Conv-3x3")
    default = OPS["Conv"].lower(case.lowering())
    assert "f" in {array.dtype.kind for array in held_arrays(default)}


@pytest.mark.parametrize("op_type", sorted(WITHOUT_KERNEL))
def test_ops_without_a_kernel_say_so(op_type: str) -> None:
    case = next(iter(CASES["Relu"]()))
    with pytest.raises(UnsupportedOpError, match="no integer kernel"):
        OPS[op_type].lower(case.lowering())
