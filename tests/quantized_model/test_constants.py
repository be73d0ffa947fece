from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantkit.errors import NonFiniteRangeError
from quantkit.graph.program import Array
from quantkit.numerics.affine import (
    SMALLEST_SCALE,
    IntegerArray,
    QuantizedTensor,
    QuantParams,
    per_tensor,
)
from quantkit.quantized_model.constants import (
    ACCUMULATOR_MAX,
    WeightCodes,
    accumulator_bound,
    accumulator_max,
    quantize_bias,
    quantize_weight,
)
from tests.strategies import activation_params

X = per_tensor(0.02, 128, np.uint8)


def codes_of(
    weight: Array,
    bias: Array | None = None,
    x_params: QuantParams = X,
    *,
    axis: int = 0,
    per_channel: bool = True,
    weight_qmax: int = 127,
) -> WeightCodes:
    return quantize_weight(
        weight, bias, x_params, axis=axis, per_channel=per_channel, weight_qmax=weight_qmax
    )


def weights(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(0.0, 1.0, shape).astype(np.float32)


@pytest.mark.parametrize("qmax", [127, 64])
@pytest.mark.parametrize(("shape", "axis"), [((4, 3, 3, 3), 0), ((5, 7), 1), ((6, 2), 0)])
def test_every_channel_uses_the_whole_range(shape: tuple[int, ...], axis: int, qmax: int) -> None:
    weight = weights(*shape)
    codes = codes_of(weight, axis=axis, weight_qmax=qmax).weight
    others = tuple(other for other in range(len(shape)) if other != axis)
    np.testing.assert_array_equal(np.abs(codes.data.astype(int)).max(axis=others), qmax)
    assert codes.params.axis == axis
    assert not codes.params.zero_point.any()
    scale = np.expand_dims(codes.params.scale, others)
    # Half a step, and a float32 rounding of the scale on top.
    assert (np.abs(codes.dequantize() - weight) <= scale * 0.50001).all()


def test_per_tensor_has_one_scale() -> None:
    weight = weights(4, 3)
    codes = codes_of(weight, np.zeros(4, np.float32), per_channel=False)
    assert codes.weight.params.axis is None
    assert codes.weight.params.scale == np.float32(np.abs(weight).max() / 127)
    assert codes.bias is not None
    assert codes.bias.params.axis is None


def test_one_channel_is_per_tensor() -> None:
    weight, bias = weights(1, 9), np.ones(1, np.float32)
    one, other = codes_of(weight, bias), codes_of(weight, bias, per_channel=False)
    assert one.weight.params.equals(other.weight.params)
    np.testing.assert_array_equal(one.weight.data, other.weight.data)


def test_bias_is_at_the_float32_product_of_the_scales() -> None:
    bias = np.array([0.5, -0.25, 3.0], np.float32)
    codes = codes_of(weights(3, 8), bias)
    assert codes.bias is not None
    scale = X.scale * codes.weight.params.scale
    assert scale.dtype == np.float32
    np.testing.assert_array_equal(codes.bias.params.scale, scale)
    np.testing.assert_array_equal(
        codes.bias.data, np.rint(bias.astype(np.float64) / scale.astype(np.float64))
    )
    assert codes.bias.data.dtype == np.int32


def test_no_bias_stays_none() -> None:
    assert codes_of(weights(3, 8)).bias is None


@pytest.mark.parametrize("per_channel", [True, False])
def test_nearly_dead_channel_keeps_its_bias(per_channel: bool) -> None:
    # Google's own MobileNetV2 has such a filter: weights near 1e-28, bias -1.2157.
    weight, bias = weights(3, 9), np.array([0.3, -1.2157, 0.1], np.float32)
    weight[1] *= np.float32(1e-28)
    if not per_channel:
        weight *= np.float32(1e-14)
    codes = codes_of(weight, bias, per_channel=per_channel)
    assert 1 in codes.raised
    assert codes.bias is not None
    np.testing.assert_allclose(codes.bias.dequantize(), bias, rtol=1e-3)
    np.testing.assert_allclose(codes.bias.dequantize()[1], bias[1], rtol=1e-6)
    assert codes.accumulator_bound <= ACCUMULATOR_MAX
    if per_channel:
        assert codes.raised == (1,)
        assert np.abs(codes.weight.data[[0, 2]]).max(axis=1).tolist() == [127, 127]


def test_dead_channel_keeps_its_bias_however_small() -> None:
    """At scale 1 the bias of a dead channel would be a multiple of the input's scale."""
    weight, bias = weights(3, 9), np.array([0.3, 0.001, 0.1], np.float32)
    weight[1] = 0.0
    codes = codes_of(weight, bias, per_tensor(1.0, 0, np.uint8))
    assert codes.bias is not None
    np.testing.assert_allclose(codes.bias.dequantize()[1], 0.001, rtol=1e-6)
    assert codes.raised == (1,)


@pytest.mark.parametrize("per_channel", [True, False])
def test_all_zero_weight_and_bias(per_channel: bool) -> None:
    codes = codes_of(np.zeros((2, 4), np.float32), np.zeros(2, np.float32), per_channel=per_channel)
    assert codes.accumulator_bound == 0
    assert codes.raised == ()
    np.testing.assert_array_equal(codes.weight.params.scale, 1.0)


def test_channels_twelve_powers_of_ten_apart() -> None:
    weight = weights(4, 9)
    weight *= np.array([[1e-3], [1.0], [1e2], [1e-10]], np.float32)
    bias = np.array([1.0, 1.0, 1.0, 1.0], np.float32)
    codes = codes_of(weight, bias)
    assert codes.bias is not None
    np.testing.assert_allclose(codes.bias.dequantize()[[0, 1, 3]], 1.0, rtol=1e-3)
    assert codes.raised == (3,)


def test_denormal_scales_stay_normal() -> None:
    weight = weights(2, 4) * np.float32(1e-42)
    codes = codes_of(weight, None, per_tensor(1e-6, 0, np.uint8))
    product = codes.weight.params.scale * np.float32(1e-6)
    assert (product >= SMALLEST_SCALE).all()
    assert codes.raised == (0, 1)


def test_long_sums_raise_the_scale() -> None:
    weight = np.ones((2, 80_000), np.float32)
    weight[1] = weights(80_000)
    x_params = per_tensor(1.0, 0, np.uint8)
    codes = codes_of(weight, None, x_params)
    assert codes.raised == (0,)
    assert ACCUMULATOR_MAX * 0.9 < codes.accumulator_bound <= ACCUMULATOR_MAX


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_constants_are_refused(bad: float) -> None:
    weight = weights(2, 2)
    weight[0, 0] = bad
    with pytest.raises(NonFiniteRangeError, match="its weight or bias is NaN or infinite"):
        codes_of(weight)
    with pytest.raises(NonFiniteRangeError, match="its weight or bias is NaN or infinite"):
        codes_of(weights(2, 2), np.array([0.0, bad], np.float32))


def test_scales_beyond_float32_are_refused() -> None:
    weight = np.full((2, 2), 3e38, np.float32)
    with pytest.raises(NonFiniteRangeError, match="exceeds float32; keep it float"):
        codes_of(weight, None, per_tensor(1e6, 0, np.uint8))


def brute_force_bound(
    weight_q: npt.NDArray[np.int64], bias: list[int], x_params: QuantParams
) -> int:
    """Python integers over every combination of extreme input codes."""
    ends = [end - int(x_params.zero_point) for end in (x_params.qmin, x_params.qmax)]
    worst = 0
    for row, offset in zip(weight_q.tolist(), bias, strict=True):
        for x in product(ends, repeat=len(row)):
            total = offset + sum(w * value for w, value in zip(row, x, strict=True))
            worst = max(worst, abs(total))
    return worst


@given(
    hnp.arrays(np.int8, (2, 5)),
    hnp.arrays(np.int32, 2),
    activation_params(),
    st.integers(-5, 5),
    st.sampled_from([0, 1]),
)
def test_bound_is_exact(
    data: IntegerArray, bias: IntegerArray, x_params: QuantParams, zero_point: int, axis: int
) -> None:
    params = per_tensor(0.1, zero_point, np.int8)
    weight = QuantizedTensor(np.ascontiguousarray(np.moveaxis(data, 0, axis)), params)
    expected = brute_force_bound(data.astype(np.int64) - zero_point, bias.tolist(), x_params)
    assert accumulator_bound(weight, bias, x_params, axis) == expected


def test_bound_takes_a_zero_point_per_channel() -> None:
    zero_points = np.array([3, -2], np.int32)
    params = QuantParams(np.ones(2, np.float32), zero_points, np.dtype(np.int8), 0)
    data = np.array([[10, -10], [5, 6]], np.int8)
    expected = brute_force_bound(data.astype(np.int64) - zero_points[:, None], [0, 0], X)
    assert accumulator_bound(QuantizedTensor(data, params), None, X, 0) == expected


@st.composite
def magnitudes(draw: st.DrawFn, shape: tuple[int, ...]) -> Array:
    """float32 of wildly different magnitude per row, zeros and denormals included."""
    rows = [draw(st.integers(-44, 12)) for _ in range(shape[0])]
    unit = draw(hnp.arrays(np.float64, shape, elements=st.floats(-1, 1)))
    scale = np.array([10.0**row for row in rows]).reshape(-1, *[1] * (len(shape) - 1))
    return np.asarray(unit * scale).astype(np.float32)


@given(
    magnitudes((3, 6)),
    magnitudes((3,)),
    activation_params(),
    st.booleans(),
    st.sampled_from([127, 64]),
)
def test_codes_keep_every_promise(
    weight: Array, bias: Array, x_params: QuantParams, per_channel: bool, qmax: int
) -> None:
    codes = codes_of(weight, bias, x_params, per_channel=per_channel, weight_qmax=qmax)
    assert codes.bias is not None
    assert codes.weight.data.dtype == np.int8
    assert np.abs(codes.weight.data.astype(int)).max() <= qmax
    assert not codes.weight.params.zero_point.any()
    assert (codes.bias.params.scale >= SMALLEST_SCALE).all()
    assert codes.accumulator_bound <= ACCUMULATOR_MAX
    assert codes.accumulator_bound == brute_force_bound(
        codes.weight.data.astype(np.int64), codes.bias.data.tolist(), x_params
    )
    # The bias survives to half a step, or to 2^-30 of itself.
    step = codes.bias.params.scale.astype(np.float64)
    error = np.abs(codes.bias.data * step - bias.astype(np.float64))
    assert (error <= np.maximum(step, np.abs(bias) * 2.0**-23)).all()


def test_bias_saturates() -> None:
    weight_params = per_tensor(1e-10, 0, np.int8)
    codes = quantize_bias(np.array([1e6, -1e6], np.float32), X, weight_params)
    assert codes.data.tolist() == [2**31 - 1, -(2**31)]


@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
def test_wide_inputs_have_int64_biases(dtype: npt.DTypeLike) -> None:
    x_params = per_tensor(1e-4, 7, dtype)
    weight, bias = weights(3, 8), np.array([0.5, -9e4, 1e5], np.float32)
    codes = codes_of(weight, bias, x_params)
    assert codes.bias is not None
    assert codes.bias.data.dtype == np.int64
    assert np.abs(codes.bias.data).max() > 2**31
    assert ACCUMULATOR_MAX < codes.accumulator_bound <= accumulator_max(x_params) == 2**47 - 1
    assert codes.raised == ()
    np.testing.assert_allclose(codes.bias.dequantize(), bias, rtol=1e-6)


def test_wide_sums_stay_within_48_bits() -> None:
    x_params = per_tensor(1e-6, 0, np.int16)
    codes = codes_of(weights(2, 8), np.array([1e20, 0.0], np.float32), x_params)
    assert codes.raised == (0,)
    assert 2**45 < codes.accumulator_bound <= 2**47 - 1


def test_bounds_with_biases_at_the_limits_of_int64() -> None:
    x_params = per_tensor(1.0, 0, np.uint16)
    weight = QuantizedTensor(np.array([[100, -1]], np.int8), per_tensor(1.0, 0, np.int8))
    bias = np.array([2**63 - 1], np.int64)
    assert accumulator_bound(weight, bias, x_params, 0) == 2**63 - 1 + 100 * 65535
    assert accumulator_bound(weight, -bias - 1, x_params, 0) == 2**63 + 65535


def test_rows_shared_by_groups_take_the_largest_bias() -> None:
    """Weight (C, O / group, taps) of a transposed convolution: two groups, three rows."""
    weight, bias = weights(4, 3, 2), np.array([1, 2, 3, -50, 5, 6], np.float32)
    codes = codes_of(weight, bias, axis=1, per_channel=False)
    assert codes.bias is not None
    assert codes.bias.data.shape == (6,)
    alone = [
        accumulator_bound(codes.weight, codes.bias.data[start : start + 3], X, 1)
        for start in (0, 3)
    ]
    assert codes.accumulator_bound == max(alone)


@pytest.mark.parametrize("shape", [(7,), (9, 4), (3, 9, 4), (2, 3, 9, 4)])
def test_every_column_of_a_stack_of_matrices_is_a_sum_of_its_own(shape: tuple[int, ...]) -> None:
    codes = codes_of(weights(*shape), axis=len(shape) - 1, per_channel=False)
    np.testing.assert_array_equal(codes.weight.data, quantized(weights(*shape), codes))
    columns = codes.weight.data.astype(int)
    columns = columns.reshape(-1, 1) if len(shape) == 1 else columns
    largest = np.abs(columns).sum(axis=-2).max() * 128
    assert largest * 0.4 < codes.accumulator_bound <= largest


def quantized(weight: Array, codes: WeightCodes) -> Array:
    scale = codes.weight.params.scale.astype(np.float64)
    return np.clip(np.rint(weight.astype(np.float64) / scale), -127, 127).astype(np.int8)
