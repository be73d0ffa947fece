"""Exact products against int64, and the proof that makes float32 exact."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkit.numerics.integer_gemm import (
    INT32_SUMS,
    ConstantOperand,
    matmul_exact,
    plan_blocks,
    plan_uniform_blocks,
)


@given(
    st.integers(1, 6),
    st.integers(1, 5000),
    st.sampled_from([1, 127, 128, 255, 32767]),
    st.integers(0, 2**32 - 1),
)
def test_blocks_cover_the_inner_axis_and_meet_the_bound(
    outputs: int, inner: int, max_abs: int, seed: int
) -> None:
    weight = np.random.default_rng(seed).integers(-255, 256, (outputs, inner))
    blocks = plan_blocks(weight, max_abs)
    assert [k for block in blocks for k in range(inner)[block]] == list(range(inner))
    reach = [np.abs(weight[:, block]).sum(axis=1) * max_abs for block in blocks]
    assert np.max(reach) < INT32_SUMS.exact
    # As long as possible: one more product would break the bound of some channel.
    for block in blocks[:-1]:
        longer = np.abs(weight[:, block.start : block.stop + 1]).sum(axis=1) * max_abs
        assert longer.max() >= INT32_SUMS.exact


def test_operands_too_wide_for_one_product_are_refused() -> None:
    with pytest.raises(OverflowError, match="one product"):
        plan_blocks(np.array([[5000]]), 5000)


@given(
    st.lists(st.integers(1, 3), max_size=2),
    st.integers(1, 40),
    st.integers(1, 1500),
    st.integers(1, 40),
    st.integers(0, 2**32 - 1),
)
def test_products_equal_int64(
    batch: list[int], rows: int, inner: int, columns: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    # Mostly extreme operands of one sign, so that sums go far beyond 2^24.
    a = np.where(rng.random((rows, inner)) < 0.9, 255, rng.integers(-255, 256, (rows, inner)))
    shape = (*batch, inner, columns)
    b = np.where(rng.random(shape) < 0.9, 255, rng.integers(-255, 256, shape))
    expected = np.matmul(a.astype(np.int64), b.astype(np.int64))
    uniform = plan_uniform_blocks(inner, 255, 255)
    planned = plan_blocks(a, 255)
    for blocks in (uniform, planned):
        got = matmul_exact(a.astype(np.float32), b.astype(np.float32), blocks)
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(
        matmul_exact(a.astype(np.int32), b.astype(np.int32), ()), expected
    )


def test_float32_without_blocks_would_be_wrong() -> None:
    # The check above has teeth: one float32 product of 2,001 terms is not exact.
    a, b = np.full((1, 2001), 255.0, np.float32), np.full((2001, 8), 255.0, np.float32)
    b[:, 1::2] -= 1
    one_block = matmul_exact(a, b, (slice(0, 2001),))
    exact = np.matmul(a.astype(np.int64), b.astype(np.int64))
    assert np.any(one_block != exact)


def test_large_products_are_cut_into_tiles() -> None:
    rng = np.random.default_rng(0)
    for rows, inner, columns in [(700, 33, 900), (3, 1200, 900), (1, 900, 800), (800, 900, 1)]:
        a, b = rng.integers(-9, 10, (rows, inner)), rng.integers(-9, 10, (inner, columns))
        got = matmul_exact(a.astype(np.float32), b.astype(np.float32), (slice(0, inner),))
        np.testing.assert_array_equal(got, a @ b)


@given(st.integers(-128, 255), st.booleans(), st.integers(0, 2**32 - 1), st.integers(1, 3000))
def test_a_constant_operand_folds_the_zero_point(
    zero_point: int, strict_integer: bool, seed: int, inner: int
) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.integers(-255, 256, (2, 3, inner))
    bias = rng.integers(-(2**28), 2**28, (2, 3)).astype(np.int32)
    x_q = rng.integers(0, 256, (2, inner, 4))
    operand = ConstantOperand.prepare(weight, bias, zero_point, 255, strict_integer=strict_integer)
    total = matmul_exact(operand.weight, x_q.astype(operand.weight.dtype), operand.blocks)
    got = operand.add_bias(total, operand.bias[..., np.newaxis])
    expected = np.matmul(weight, x_q - zero_point) + bias[..., np.newaxis]
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == np.int32 or np.abs(expected).max() < INT32_SUMS.exact


def test_the_carrier_follows_the_mode() -> None:
    weight = np.ones((1, 4), np.int8)
    for strict_integer, dtype in ((True, np.int32), (False, np.float32)):
        operand = ConstantOperand.prepare(weight, None, 3, 255, strict_integer=strict_integer)
        assert operand.weight.dtype == dtype
        assert operand.bias_is_exact
        np.testing.assert_array_equal(operand.bias, [-12])
