"""Scale and zero point: what codes mean, and the parameters of a range."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkit.errors import NonFiniteRangeError, ShapeMismatchError
from quantkit.numerics.affine import (
    QuantizedTensor,
    QuantParams,
    dequantize,
    dynamic_params,
    params_from_range,
    per_channel_symmetric,
    per_tensor,
    quantize,
)
from tests.strategies import activation_params

finite = st.floats(-1e6, 1e6, width=32)


@given(activation_params(), st.lists(finite, min_size=1, max_size=20))
def test_a_round_trip_stays_within_half_a_step(params: QuantParams, values: list[float]) -> None:
    low, high = dequantize(np.array([params.qmin, params.qmax]), params)
    x = np.clip(np.array(values, np.float32), low, high)
    error = np.abs(dequantize(quantize(x, params), params).astype(np.float64) - x)
    assert error.max() <= float(params.scale) * (0.5 + 1e-4)


@given(activation_params(), st.lists(finite, min_size=2, max_size=20))
def test_quantize_is_monotone(params: QuantParams, values: list[float]) -> None:
    codes = quantize(np.sort(np.array(values, np.float32)), params)
    assert np.all(np.diff(codes.astype(int)) >= 0)


@given(activation_params())
def test_every_code_survives(params: QuantParams) -> None:
    codes = np.arange(params.qmin, params.qmax + 1).astype(params.dtype)
    np.testing.assert_array_equal(quantize(dequantize(codes, params), params), codes)
    assert quantize(np.zeros(1, np.float32), params)[0] == params.zero_point


@given(finite, finite, st.sampled_from([np.uint8, np.int8]), st.booleans())
def test_a_range_is_covered_and_zero_is_exact(
    a: float, b: float, dtype: npt.DTypeLike, symmetric: bool
) -> None:
    low, high = min(a, b), max(a, b)
    params = params_from_range(low, high, dtype, symmetric=symmetric)
    ends = dequantize(np.array([params.qmin, params.qmax]), params).astype(np.float64)
    # The rounded zero point may move the range by half a step.
    step = float(params.scale)
    assert ends[0] <= min(low, 0) + step * 0.501
    assert ends[1] >= max(high, 0) - step * 0.501
    assert dequantize(params.zero_point.reshape(1), params)[0] == 0.0


def test_halves_round_to_even() -> None:
    params = per_tensor(1.0, 10, np.uint8)
    codes = quantize(np.array([0.5, 1.5, 2.5, -0.5, -1.5, 1e9, -1e9], np.float32), params)
    np.testing.assert_array_equal(codes, [10, 12, 12, 10, 8, 255, 0])


def test_per_channel_with_one_channel_equals_per_tensor() -> None:
    x = np.random.default_rng(0).normal(size=(1, 5)).astype(np.float32)
    channel = per_channel_symmetric(np.array([0.02], np.float32), np.int8, 0)
    np.testing.assert_array_equal(quantize(x, channel), quantize(x, per_tensor(0.02, 0, np.int8)))


def test_per_channel_scales_run_along_their_axis() -> None:
    params = per_channel_symmetric(np.array([1.0, 2.0], np.float32), np.int8, 1)
    codes = quantize(np.full((3, 2), 4.0, np.float32), params)
    np.testing.assert_array_equal(codes, [[4, 2]] * 3)
    np.testing.assert_array_equal(QuantizedTensor(codes, params).dequantize(), np.full((3, 2), 4))


def test_int32_codes_saturate() -> None:
    params = per_tensor(1e-6, 0, np.int32)
    codes = quantize(np.array([1e9, -1e9, 0.5], np.float32), params)
    np.testing.assert_array_equal(codes, [2**31 - 1, -(2**31), 500000])


def test_construction_is_checked() -> None:
    one, zero = np.ones((), np.float32), np.zeros((), np.int32)
    with pytest.raises(ShapeMismatchError, match="codes are one of"):
        QuantParams(one, zero, np.dtype(np.uint32))
    with pytest.raises(ShapeMismatchError, match="scale must be float32"):
        QuantParams(one.astype(np.float64), zero, np.dtype(np.int8))
    with pytest.raises(ShapeMismatchError, match="differ in shape"):
        QuantParams(np.ones(2, np.float32), zero, np.dtype(np.int8), 0)
    with pytest.raises(ShapeMismatchError, match="does not go with axis"):
        QuantParams(one, zero, np.dtype(np.int8), 0)
    with pytest.raises(ShapeMismatchError, match="zero point outside"):
        per_tensor(1.0, 300, np.uint8)
    for scale in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(NonFiniteRangeError, match="finite and greater than 0"):
            per_tensor(scale, 0, np.uint8)


def test_tensors_are_checked() -> None:
    codes = np.zeros((2, 3), np.int8)
    with pytest.raises(ShapeMismatchError, match="codes are int8, parameters uint8"):
        QuantizedTensor(codes, per_tensor(1.0, 0, np.uint8))
    with pytest.raises(ShapeMismatchError, match="2 scales for axis 1"):
        QuantizedTensor(codes, per_channel_symmetric(np.ones(2, np.float32), np.int8, 1))
    with pytest.raises(ShapeMismatchError, match="is not an axis"):
        QuantizedTensor(codes, per_channel_symmetric(np.ones(2, np.float32), np.int8, 2))


@pytest.mark.parametrize(("low", "high"), [(np.nan, 1.0), (0.0, np.inf), (2.0, 1.0)])
def test_impossible_ranges_are_refused(low: float, high: float) -> None:
    with pytest.raises(NonFiniteRangeError, match="finite with low <= high"):
        params_from_range(low, high)


def test_nan_cannot_be_quantized() -> None:
    with pytest.raises(NonFiniteRangeError, match="NaN"):
        quantize(np.array([np.nan], np.float32), per_tensor(1.0, 0, np.uint8))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_an_array_without_axes_stays_an_array(dtype: npt.DTypeLike) -> None:
    params = per_tensor(0.5, 3, dtype)
    codes = quantize(np.array(2.0, np.float32), params)
    assert isinstance(codes, np.ndarray)
    assert (codes.shape, codes.dtype, int(codes)) == ((), np.dtype(dtype), 7)
    assert dequantize(codes, params).shape == ()
    assert float(dequantize(codes, params)) == 2.0


def test_reach_is_the_largest_distance_from_the_zero_point() -> None:
    assert per_tensor(1.0, 3, np.uint8).reach == 252
    assert per_tensor(1.0, 100, np.int8).reach == 228
    assert per_tensor(1.0, -1, np.int16).reach == 32768


def test_int64_codes_saturate_within_float64() -> None:
    params = per_tensor(1e-12, 0, np.int64)
    codes = quantize(np.array([1e9, -1e9], np.float32), params)
    np.testing.assert_array_equal(codes, [2**63 - 1024, -(2**63)])


@pytest.mark.parametrize(
    ("values", "scale", "zero_point"),
    [
        ([0.0, 2.0, -3.0, -2.5, 1.34, 0.5], 5.0 / 255, 153),
        ([-1.0, -2.1, -1.3, -2.5, -3.34, -4.0], 4.0 / 255, 255),
        ([1.0, 2.55], 2.55 / 255, 0),
        ([0.0, 0.0], 1.0, 0),
    ],
)
def test_dynamic_params_cover_the_data_and_zero(
    values: list[float], scale: float, zero_point: int
) -> None:
    params = dynamic_params(np.array(values, np.float32))
    assert float(params.scale) == pytest.approx(scale, rel=1e-6)
    assert int(params.zero_point) == zero_point


def test_dynamic_params_refuse_what_is_not_finite() -> None:
    with pytest.raises(NonFiniteRangeError, match="must be finite"):
        dynamic_params(np.array([1.0, np.nan], np.float32))
