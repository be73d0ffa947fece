"""Averages: without a kernel in onnxruntime against exact fractions, else at extreme scales."""

from fractions import Fraction

import numpy as np
import pytest

from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import IntegerArray, QuantParams, per_tensor
from quantkit.numerics.arithmetic import ARITHMETICS
from quantkit.numerics.float32_requantize import nearest_float32
from quantkit.ops.contract import Lowering
from tests.ops.case import Case, make_node, random_codes
from tests.ops.checks import check_against_onnxruntime, lower

WIDE = [np.int16, np.uint16]


def f32(value: Fraction) -> Fraction:
    if value == 0:
        return value
    mantissa, exponent = nearest_float32(abs(value))
    return (1 if value > 0 else -1) * mantissa * Fraction(2) ** exponent


def requantized(total: int, count: int, x: QuantParams, y: QuantParams) -> int:
    """``saturate(rint(f32(f32(total) * M)) + z_y)``, ``M = f32(s_x / f32(s_y * count))``."""
    x_scale, y_scale = Fraction(float(x.scale)), Fraction(float(y.scale))
    multiplier = f32(x_scale / f32(y_scale * count))
    code = round(f32(f32(Fraction(total)) * multiplier)) + int(y.zero_point)
    return min(max(code, y.qmin), y.qmax)


def codes_of(
    node: Node,
    q: IntegerArray,
    operands: tuple[QuantParams | Array, ...],
    y: QuantParams,
    name: str,
) -> IntegerArray:
    lowering = Lowering(node, operands, (y,), ARITHMETICS[name], strict_integer=True)
    return lower(lowering)([q])[0]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, *WIDE])
def test_reduce_mean_equals_fractions(dtype: type[np.integer]) -> None:
    rng = np.random.default_rng(1)
    q = random_codes(rng, (5, 40, 7), dtype)
    for x_scale, y_scale in ((0.02, 0.01), (0.5, 0.125), (0.013, 0.0071)):
        x, y = per_tensor(x_scale, 77, dtype), per_tensor(y_scale, 101, dtype)
        node = make_node("ReduceMean", 2, {"keepdims": 0})
        for axes, count in (((2,), 7), ((0, 2), 35), ((-2,), 40)):
            operands = (x, np.array(axes, np.int64))
            got = codes_of(node, q, operands, y, "onnxruntime")
            totals = (q.astype(np.int64) - 77).sum(axis=axes)
            expected = [requantized(int(total), count, x, y) for total in totals.reshape(-1)]
            np.testing.assert_array_equal(got.reshape(-1), expected)
            fixed = codes_of(node, q, operands, y, "fixed_point").astype(np.int64)
            assert np.abs(fixed - got).max() <= 1


@pytest.mark.parametrize("name", sorted(ARITHMETICS))
@pytest.mark.parametrize("dtype", WIDE)
def test_sums_beyond_int32_are_averaged(dtype: type[np.integer], name: str) -> None:
    info = np.iinfo(dtype)
    q = np.full((1, 2, 300, 300), info.max, dtype)
    q[0, 1] = np.where(np.arange(300) < 200, info.max, info.min)
    x = per_tensor(0.01, int(info.min), dtype)
    assert int((q.astype(np.int64) - info.min).sum(axis=(2, 3)).max()) > 2**32
    (got,) = codes_of(make_node("GlobalAveragePool", 1, {}), q, (x,), x, name)
    exact = [info.max, info.min + (info.max - info.min) * 200 / 300]
    assert np.abs(got.reshape(-1).astype(np.int64) - exact).max() <= 1


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("include_pad", [0, 1])
def test_wide_windows_equal_fractions(dtype: type[np.integer], include_pad: int) -> None:
    rng = np.random.default_rng(2)
    q = random_codes(rng, (1, 2, 9, 8), dtype)
    x, y = per_tensor(0.02, 1234, dtype), per_tensor(0.013, -5 if dtype == np.int16 else 5, dtype)
    attributes = {"kernel_shape": (3, 2), "pads": (1, 0, 2, 1), "strides": (2, 1)}
    node = make_node("AveragePool", 1, {**attributes, "count_include_pad": include_pad})
    got = codes_of(node, q, (x,), y, "onnxruntime")
    assert got.shape == (1, 2, 5, 8)
    for channel, row, column in np.ndindex(2, 5, 8):
        top = row * 2 - 1
        window = q[0, channel, max(top, 0) : top + 3, column : column + 2].astype(np.int64)
        count = 6 if include_pad else window.size
        expected = requantized(int((window - 1234).sum()), count, x, y)
        assert got[0, channel, row, column] == expected


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("scales", [(10.0, 1e-7), (1.0, 1e-7), (1e4, 1e-8), (1e30, 1e-8)], ids=str)
@pytest.mark.parametrize("strict_integer", [False, True])
def test_what_reaches_2_31_becomes_the_smallest_code(
    dtype: type[np.integer], scales: tuple[float, float], strict_integer: bool
) -> None:
    rng = np.random.default_rng(3)
    info = np.iinfo(dtype)
    q = random_codes(rng, (1, 3, 20, 20), dtype)
    for zero_point in (int(info.min), int(info.min) + 128, int(info.max)):
        x, y = (per_tensor(scale, zero_point, dtype) for scale in scales)
        node = make_node("AveragePool", 1, {"kernel_shape": (3, 2), "pads": (1, 0, 1, 0)})
        case = Case("extreme", node, (x,), (y,), (q,), "QLinearAveragePool")
        check_against_onnxruntime(
            case, "onnxruntime", strict_integer=strict_integer, max_lsb=0, max_share=0.0
        )
