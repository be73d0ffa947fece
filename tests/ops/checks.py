"""The checks every kernel must pass. Tolerances are required keywords, in codes (LSB)."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from quantkit.graph.program import Array
from quantkit.numerics.affine import (
    IntegerArray,
    QuantizedTensor,
    QuantParams,
    dequantize,
    quantize,
)
from quantkit.ops.contract import OPS, Kernel, Lowering
from tests.ops.case import Case
from tests.ops.onnxruntime_oracle import OracleResult, run_onnxruntime

Lower = Callable[[Lowering], Kernel]


def lower(lowering: Lowering) -> Kernel:
    """The registered op's kernel."""
    return OPS[lowering.node.op_type].lower(lowering)


def run(case: Case, arithmetic: str, *, strict_integer: bool, lower: Lower = lower) -> IntegerArray:
    """The codes of all outputs, one after the other where there are several."""
    codes = lower(case.lowering(arithmetic, strict_integer=strict_integer))(case.data)
    for y_q, params in zip(codes, case.outputs, strict=bool(case.outputs)):
        assert y_q.dtype == params.dtype
    return joined(codes)


def joined(arrays: Sequence[IntegerArray]) -> IntegerArray:
    """A single array as it is; several, flattened one after the other."""
    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate([array.reshape(-1) for array in arrays])


def assert_codes_close(
    got: IntegerArray, expected: IntegerArray, *, max_lsb: int, max_share: float
) -> None:
    """At most ``max_lsb`` codes apart anywhere, and apart at most on ``max_share`` of all codes.

    Saturated codes agree easily, so the share counts codes that neither side saturates.
    """
    assert got.shape == expected.shape
    info = np.iinfo(expected.dtype)
    distance = np.abs(got.astype(np.int64) - expected.astype(np.int64))
    assert distance.max(initial=0) <= max_lsb, f"{distance.max()} codes apart"
    is_free = (expected > info.min) & (expected < info.max)
    share = int(np.count_nonzero(distance[is_free])) / max(1, int(np.count_nonzero(is_free)))
    assert share <= max_share, f"{share:.2%} of the unsaturated codes differ"
    if max_lsb == 0:
        np.testing.assert_array_equal(got, expected)


def unsaturated_share(codes: IntegerArray) -> float:
    info = np.iinfo(codes.dtype)
    return float(np.mean((codes > info.min) & (codes < info.max)))


@cache
def onnxruntime_result(case: Case) -> OracleResult:
    """Run once per case."""
    return run_onnxruntime(case.node, case.inputs, case.outputs, case.data)


def onnxruntime_codes(case: Case) -> IntegerArray:
    """onnxruntime's codes, from the fused kernel that the case names."""
    result = onnxruntime_result(case)
    assert case.fused in result.op_types or not case.fused, (
        f"compared with {sorted(result.op_types)}"
    )
    return joined(result.outputs)


def check_against_onnxruntime(
    case: Case,
    arithmetic: str,
    *,
    max_lsb: int,
    max_share: float,
    strict_integer: bool = False,
    lower: Lower = lower,
) -> None:
    expected = onnxruntime_codes(case)
    got = run(case, arithmetic, strict_integer=strict_integer, lower=lower)
    assert_codes_close(got, expected, max_lsb=max_lsb, max_share=max_share)


def real_inputs(case: Case) -> list[Array | None]:
    """The dequantized inputs, as the float form takes them."""
    remaining = list(case.data)
    values: list[Array | None] = []
    for operand in case.inputs:
        match operand:
            case QuantParams():
                values.append(dequantize(remaining.pop(0), operand))
            case QuantizedTensor():
                values.append(operand.dequantize())
            case _:
                values.append(operand)
    return values


def check_against_float_form(
    case: Case,
    arithmetic: str,
    *,
    max_lsb: int,
    max_share: float,
    strict_integer: bool = False,
    lower: Lower = lower,
) -> None:
    """The op's own float form on dequantized inputs, quantized."""
    reals = OPS[case.node.op_type].float_form(case.node, real_inputs(case))
    expected = joined(
        [
            quantize(np.asarray(real, np.float32), params)
            for real, params in zip(reals, case.outputs, strict=True)
        ]
        if case.outputs
        else reals
    )
    got = run(case, arithmetic, strict_integer=strict_integer, lower=lower)
    assert_codes_close(got, expected, max_lsb=max_lsb, max_share=max_share)


def all_cases(tables: dict[str, Callable[[], list[Case]]]) -> list[Case]:
    return [case for make in tables.values() for case in make()]
