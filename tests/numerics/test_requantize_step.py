"""From accumulators to codes, the whole step of both arithmetics, against Python integers."""

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantkit.numerics.affine import QuantParams, per_channel_symmetric, per_tensor
from quantkit.numerics.arithmetic import ARITHMETICS
from tests.ops.product_strategies import code_dtypes
from tests.ops.python_integers import requantize_fixed_point, requantize_onnxruntime
from tests.strategies import INT32_MAX, INT32_MIN, int32_values

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

SCALES = st.one_of(
    st.floats(2.0**-20, 2.0**10, width=32),
    st.sampled_from([2.0**exponent for exponent in range(-20, 10)]),
)


def wide_values() -> st.SearchStrategy[int]:
    """The whole of int64, and often powers of two and their neighbours."""
    power = st.tuples(st.integers(0, 63), st.integers(-2, 2), st.sampled_from([-1, 1]))
    near = power.map(
        lambda parts: min(max(parts[2] * (2 ** parts[0] + parts[1]), INT64_MIN), INT64_MAX)
    )
    return st.one_of(near, st.integers(INT64_MIN, INT64_MAX), st.integers(-(2**40), 2**40))


def codes_of(
    arithmetic: str,
    totals: npt.NDArray[np.signedinteger],
    x: QuantParams,
    weight: QuantParams,
    y: QuantParams,
    *,
    strict_integer: bool,
) -> npt.NDArray[np.integer]:
    requantize = ARITHMETICS[arithmetic].accumulator_requantizer(
        x, weight, y, channel_axis=-1, strict_integer=strict_integer
    )
    codes: npt.NDArray[np.integer] = np.empty(totals.shape, y.dtype)
    requantize(totals.copy(), codes)
    return codes


@st.composite
def outputs(draw: st.DrawFn) -> QuantParams:
    dtype = draw(code_dtypes(["uint8", "int8", "uint16", "int16"]))
    info = np.iinfo(dtype)
    low, high = int(info.min), int(info.max)
    zero_point = draw(st.one_of(st.sampled_from([low, high]), st.integers(low, high)))
    return per_tensor(draw(SCALES), zero_point, dtype)


@pytest.mark.parametrize("strict_integer", [False, True], ids=["default", "strict"])
@given(st.lists(int32_values(), min_size=1), SCALES, SCALES, outputs())
@settings(max_examples=200)
def test_int32_sums(
    strict_integer: bool, totals: list[int], x_scale: float, w_scale: float, y: QuantParams
) -> None:
    x, weight = per_tensor(x_scale, 3, np.uint8), per_tensor(w_scale, 0, np.int8)
    sums = np.array(totals, np.int32)
    got = codes_of("onnxruntime", sums, x, weight, y, strict_integer=strict_integer)
    assert got.tolist() == [requantize_onnxruntime(t, x_scale, w_scale, y) for t in totals]
    got = codes_of("fixed_point", sums, x, weight, y, strict_integer=strict_integer)
    assert got.tolist() == [
        requantize_fixed_point(t, x_scale, w_scale, y, is_wide=False) for t in totals
    ]


@pytest.mark.parametrize("strict_integer", [False, True], ids=["default", "strict"])
@given(st.lists(wide_values(), min_size=1), SCALES, SCALES, outputs())
@settings(max_examples=200)
def test_int64_sums(
    strict_integer: bool, totals: list[int], x_scale: float, w_scale: float, y: QuantParams
) -> None:
    x, weight = per_tensor(x_scale, 3, np.uint16), per_tensor(w_scale, 0, np.int8)
    sums = np.array(totals, np.int64)
    got = codes_of("onnxruntime", sums, x, weight, y, strict_integer=strict_integer)
    assert got.tolist() == [requantize_onnxruntime(t, x_scale, w_scale, y) for t in totals]
    small = [t for t in totals if -(2**47) <= t < 2**47]
    got = codes_of(
        "fixed_point", np.array(small, np.int64), x, weight, y, strict_integer=strict_integer
    )
    expected = [requantize_fixed_point(t, x_scale, w_scale, y, is_wide=True) for t in small]
    assert got.tolist() == expected


@pytest.mark.parametrize(
    "exponent",
    [e if e % 5 == 0 else pytest.param(e, marks=pytest.mark.slow) for e in range(-31, 8)],
)
def test_every_tie_of_fixed_point(exponent: int) -> None:
    """Multipliers 2^e and 3 * 2^e: every code's two neighbouring ties, of both signs."""
    x = per_tensor(1.0, 0, np.uint8)
    scales = [2.0**exponent, 3 * 2.0**exponent]
    weight = per_channel_symmetric(np.array(scales, np.float32), np.int8, 1)
    unit = 2 ** max(-exponent, 0)
    ties = {(2 * code + 1) * unit // 2 + near for code in range(-130, 130) for near in (-1, 0, 1)}
    totals = sorted(t for t in ties | {INT32_MIN, INT32_MAX} if INT32_MIN <= t <= INT32_MAX)
    for zero_point, dtype in ((0, np.int8), (128, np.uint8), (-128, np.int8), (255, np.uint8)):
        y = per_tensor(1.0, zero_point, dtype)
        sums = np.array([totals, totals], np.int32).T.copy()
        got = codes_of("fixed_point", sums, x, weight, y, strict_integer=True)
        for (row, total), (channel, scale) in product(enumerate(totals), enumerate(scales)):
            expected = requantize_fixed_point(total, 1.0, scale, y, is_wide=False)
            assert got[row, channel] == expected
