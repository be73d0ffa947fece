"""Float weights and biases to integer codes, with the proof that no accumulator overflows int32."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantkit.errors import NonFiniteRangeError
from quantkit.graph.program import Array
from quantkit.numerics.affine import (
    SMALLEST_SCALE,
    QuantizedTensor,
    QuantParams,
    quantize,
)

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

ACCUMULATOR_MAX = 2**31 - 1
# Half of int32 for the bias leaves the other half to 33,000 products of extreme codes.
_BIAS_MAX = 2**30


@dataclass(frozen=True, slots=True, eq=False)
class WeightCodes:
    """Codes of one node's weight and bias.

    Attributes:
        weight: int8, zero point 0, per channel or per tensor.
        bias: int32 at scale ``s_x * s_w``, zero point 0; None where the op has no bias.
        accumulator_bound: The largest ``|accumulator|`` any input codes can produce.
        raised: Channels whose scale had to be raised above ``max|w| / qmax``.
    """

    weight: QuantizedTensor
    bias: QuantizedTensor | None
    accumulator_bound: int
    raised: tuple[int, ...]


def quantize_weight(
    weight: Array,
    bias: Array | None,
    x_params: QuantParams,
    *,
    axis: int,
    per_channel: bool,
    weight_qmax: int,
) -> WeightCodes:
    """Symmetric int8 codes of a weight, int32 codes of its bias.

    ``s_w = max|w| / qmax`` per output channel, raised where

    1. the bias ``b / (s_x s_w)`` would leave [-2^30, 2^30] (a nearly dead channel: its weights are
       tiny against its bias);
    2. ``s_x s_w`` would leave float32's normal numbers;
    3. the accumulator could exceed int32.

    Args:
        weight: float32, any shape.
        bias: float32, ``(C,)``, or None.
        x_params: Parameters of the input codes; per tensor.
        axis: The weight's output-channel axis.
        per_channel: One scale per channel, or one for all.
        weight_qmax: Largest code, 127 or 64.

    Raises:
        NonFiniteRangeError: Weight or bias is not finite.
    """
    rows = np.moveaxis(np.asarray(weight, np.float64), axis, 0).reshape(weight.shape[axis], -1)
    offsets = np.zeros(len(rows)) if bias is None else np.asarray(bias, np.float64)
    if not (np.isfinite(rows).all() and np.isfinite(offsets).all()):
        raise NonFiniteRangeError("a weight or bias is NaN or infinite; export the model again")
    natural = weight_scale(rows, per_channel=per_channel, weight_qmax=weight_qmax)
    scale = _raised(natural, rows, offsets, x_params, weight_qmax)
    if not per_channel:
        scale = np.full_like(scale, scale.max())
    raised = np.flatnonzero(scale > natural)
    params = (
        QuantParams(scale, np.zeros(scale.shape, np.int32), np.dtype(np.int8), axis)
        if per_channel
        else QuantParams(scale[0], np.array(0, np.int32), np.dtype(np.int8))
    )
    shape = [1] * weight.ndim
    shape[axis] = -1
    codes = np.rint(np.asarray(weight, np.float64) / scale.astype(np.float64).reshape(shape))
    weight_q = QuantizedTensor(np.clip(codes, -weight_qmax, weight_qmax).astype(np.int8), params)
    bias_q = None if bias is None else quantize_bias(bias, x_params, params)
    return WeightCodes(
        weight_q,
        bias_q,
        accumulator_bound(weight_q, None if bias_q is None else bias_q.data, x_params, axis),
        tuple(int(channel) for channel in raised) if per_channel else (),
    )


def weight_scale(rows: Float64Array, *, per_channel: bool, weight_qmax: int) -> Float32Array:
    """``max|w| / qmax`` of each row, float32 ``(C,)``; 1 for an all-zero row.

    Per tensor, every row gets the largest one's.
    """
    largest = np.abs(rows).max(axis=1, initial=0.0)
    if not per_channel:
        largest = np.full_like(largest, largest.max(initial=0.0))
    scale = np.where(largest > 0, largest / weight_qmax, 1.0)
    return np.maximum(scale, SMALLEST_SCALE).astype(np.float32)


def quantize_bias(
    bias: Array, x_params: QuantParams, weight_params: QuantParams
) -> QuantizedTensor:
    """``round(b / (s_x s_w))``, int32, half to even, at the float32 product of the two scales."""
    with np.errstate(under="ignore"):
        scale = np.asarray(x_params.scale * weight_params.scale, np.float32)
    if scale.ndim == 0:
        params = QuantParams(scale, np.array(0, np.int32), np.dtype(np.int32))
    else:
        params = QuantParams(scale, np.zeros(scale.shape, np.int32), np.dtype(np.int32), 0)
    codes = np.rint(np.asarray(bias, np.float64) / scale.astype(np.float64))
    info = np.iinfo(np.int32)
    return QuantizedTensor(np.clip(codes, info.min, info.max).astype(np.int32), params)


def accumulator_bound(
    weight: QuantizedTensor,
    bias_q: npt.NDArray[np.integer] | None,
    x_params: QuantParams,
    axis: int,
) -> int:
    """The largest ``|sum (w - z_w)(x - z_x) + b|`` over all input codes, over all channels.

    Exact: a channel's extremes are reached with every x at the end of its range that suits the
    sign of its weight.
    """
    return int(_row_bounds(weight, bias_q, x_params, axis).max(initial=0))


def quantize_operand(array: Array, params: QuantParams) -> QuantizedTensor:
    """Codes of a constant that takes the place of an activation (the second input of an Add)."""
    return QuantizedTensor(quantize(np.asarray(array, np.float32), params), params)


def _row_bounds(
    weight: QuantizedTensor,
    bias_q: npt.NDArray[np.integer] | None,
    x_params: QuantParams,
    axis: int,
) -> Int64Array:
    centred = weight.data.astype(np.int64)
    if weight.params.axis is None:
        centred -= int(weight.params.zero_point)
    else:
        shape = [1] * centred.ndim
        shape[weight.params.axis] = -1
        centred = centred - weight.params.zero_point.reshape(shape)
    rows = np.moveaxis(centred, axis, 0).reshape(centred.shape[axis], -1)
    positive = np.maximum(rows, 0).sum(axis=1)
    negative = np.minimum(rows, 0).sum(axis=1)
    top = int(x_params.qmax) - int(x_params.zero_point)
    bottom = int(x_params.qmin) - int(x_params.zero_point)
    offsets = np.int64(0) if bias_q is None else bias_q.astype(np.int64)
    highest = positive * top + negative * bottom + offsets
    lowest = positive * bottom + negative * top + offsets
    bounds: Int64Array = np.maximum(np.abs(highest), np.abs(lowest))
    return bounds


def _raised(
    natural: Float32Array,
    rows: Float64Array,
    offsets: Float64Array,
    x_params: QuantParams,
    weight_qmax: int,
) -> Float32Array:
    """The scales, raised as :func:`quantize_weight` says."""
    x_scale = float(x_params.scale)
    for_bias = np.abs(offsets) / (x_scale * _BIAS_MAX)
    for_product = 2 * SMALLEST_SCALE / x_scale
    scale = np.maximum(natural, np.maximum(for_bias, for_product)).astype(np.float32)
    reach = max(x_params.qmax - int(x_params.zero_point), int(x_params.zero_point) - x_params.qmin)
    for _ in range(32):
        codes = np.clip(np.rint(rows / scale[:, None]), -weight_qmax, weight_qmax)
        bounds = np.abs(codes).sum(axis=1) * reach + np.abs(offsets) / (scale * x_scale)
        if (bounds <= ACCUMULATOR_MAX - 1).all():
            break
        factor = np.maximum(bounds / (ACCUMULATOR_MAX - 1), 1.0) * 1.001
        scale = np.where(bounds > ACCUMULATOR_MAX - 1, scale * factor, scale).astype(np.float32)
    return scale
