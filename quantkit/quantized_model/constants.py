"""Float weights and biases to integer codes, with the proof that no accumulator overflows int32."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantkit.errors import NonFiniteRangeError
from quantkit.graph.program import Array
from quantkit.numerics.affine import (
    SMALLEST_SCALE,
    IntegerArray,
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
        raised: Channels that need a scale above ``max|w| / qmax``.
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
       tiny against its bias, or zero);
    2. ``s_w`` or ``s_x s_w`` would leave float32's normal numbers;
    3. the accumulator could exceed int32.

    A channel without weights and bias has scale 1.

    Args:
        weight: float32, any shape.
        bias: float32, ``(C,)``, or None.
        x_params: Parameters of the input codes; per tensor.
        axis: The weight's output-channel axis.
        per_channel: One scale per channel, or one for all.
        weight_qmax: Largest code, 127 or 64.

    Raises:
        NonFiniteRangeError: Weight or bias is not finite, or too large for a float32 scale.
    """
    rows = np.moveaxis(np.asarray(weight, np.float64), axis, 0).reshape(weight.shape[axis], -1)
    offsets = np.zeros(len(rows)) if bias is None else np.asarray(bias, np.float64)
    if not (np.isfinite(rows).all() and np.isfinite(offsets).all()):
        raise NonFiniteRangeError("its weight or bias is NaN or infinite; export the model again")
    natural = np.abs(rows).max(axis=1, initial=0.0) / weight_qmax
    if not per_channel:
        natural = np.full_like(natural, natural.max(initial=0.0))
    scale = _needed_scale(natural, offsets, float(x_params.scale))
    for _ in range(32):
        # One channel has one scale: files cannot tell the two apart.
        params = _weight_params(scale, x_params, axis if per_channel and len(rows) > 1 else None)
        steps = np.broadcast_to(params.scale.astype(np.float64), len(rows))
        row_codes = np.clip(np.rint(rows / steps[:, None]), -weight_qmax, weight_qmax)
        bias_q = quantize_bias(offsets, x_params, params)
        bounds = _row_bounds(row_codes.astype(np.int64), bias_q.data, x_params)
        if (bounds <= ACCUMULATOR_MAX).all():
            break
        scale = np.where(bounds > ACCUMULATOR_MAX, steps * bounds / ACCUMULATOR_MAX * 1.001, scale)
    shape = np.moveaxis(weight, axis, 0).shape
    codes = np.moveaxis(row_codes.reshape(shape).astype(np.int8), 0, axis)
    return WeightCodes(
        QuantizedTensor(np.ascontiguousarray(codes), params),
        None if bias is None else bias_q,
        int(bounds.max(initial=0)),
        tuple(int(channel) for channel in np.flatnonzero(scale > natural)),
    )


def quantize_bias(
    bias: Array, x_params: QuantParams, weight_params: QuantParams
) -> QuantizedTensor:
    """``round(b / (s_x s_w))``, int32, half to even, at the float32 product of the two scales."""
    with np.errstate(under="ignore"):
        scale = np.asarray(x_params.scale * weight_params.scale, np.float32)
    axis = None if scale.ndim == 0 else 0
    params = QuantParams(scale, np.zeros(scale.shape, np.int32), np.dtype(np.int32), axis)
    codes = np.rint(np.asarray(bias, np.float64) / scale.astype(np.float64))
    info = np.iinfo(np.int32)
    return QuantizedTensor(np.clip(codes, info.min, info.max).astype(np.int32), params)


def accumulator_bound(
    weight: QuantizedTensor,
    bias_q: IntegerArray | None,
    x_params: QuantParams,
    axis: int,
) -> int:
    """The largest ``|sum (w - z_w)(x - z_x) + b|`` over all input codes, over all channels.

    Exact: a channel's extremes are reached with every x at the end of its range that suits the
    sign of its weight.

    Args:
        weight: Codes of a constant weight, whoever made them.
        bias_q: int32 codes, ``(C,)`` or one for all, or None.
        x_params: Parameters of the input codes; per tensor.
        axis: The weight's output-channel axis.
    """
    zero_point = weight.params.zero_point.astype(np.int64)
    if weight.params.axis is not None:
        shape = [1] * weight.data.ndim
        shape[weight.params.axis] = -1
        zero_point = zero_point.reshape(shape)
    centred = np.moveaxis(weight.data.astype(np.int64) - zero_point, axis, 0)
    rows = centred.reshape(len(centred), -1)
    return int(_row_bounds(rows, bias_q, x_params).max(initial=0))


def largest_distance(params: QuantParams) -> int:
    """The largest ``|q - zero_point|`` of per-tensor codes."""
    zero_point = int(params.zero_point)
    return max(params.qmax - zero_point, zero_point - params.qmin)


def quantize_operand(array: Array, params: QuantParams) -> QuantizedTensor:
    """Codes of a constant that takes the place of an activation (the second input of an Add)."""
    return QuantizedTensor(quantize(np.asarray(array, np.float32), params), params)


def _needed_scale(natural: Float64Array, offsets: Float64Array, x_scale: float) -> Float64Array:
    """Cases 1 and 2 of :func:`quantize_weight`; 0 for a channel without weights and bias."""
    for_bias = np.abs(offsets) / (x_scale * _BIAS_MAX)
    scale = np.maximum(natural, for_bias)
    smallest = max(SMALLEST_SCALE, 2 * SMALLEST_SCALE / x_scale)
    return np.where(scale > 0, np.maximum(scale, smallest), 0.0)


def _weight_params(scale: Float64Array, x_params: QuantParams, axis: int | None) -> QuantParams:
    """int8 parameters with these scales, or the largest of them where ``axis`` is None."""
    with np.errstate(over="ignore", under="ignore"):
        chosen = scale if axis is not None else scale.max(initial=0.0)
        rounded = np.where(chosen > 0, chosen, 1.0).astype(np.float32)
        product = rounded * x_params.scale
    if not (np.isfinite(rounded).all() and np.isfinite(product).all()):
        raise NonFiniteRangeError(
            f"its weight scale {np.max(scale):.3g} times its input's scale {x_params.scale:.3g} "
            "exceeds float32; keep it float with --nodes-to-exclude"
        )
    zero_point = np.zeros(rounded.shape, np.int32)
    return QuantParams(np.asarray(rounded), zero_point, np.dtype(np.int8), axis)


def _row_bounds(rows: Int64Array, bias_q: IntegerArray | None, x_params: QuantParams) -> Int64Array:
    """The largest ``|accumulator|`` of every row of centred weight codes."""
    positive = np.maximum(rows, 0).sum(axis=1)
    negative = np.minimum(rows, 0).sum(axis=1)
    top = int(x_params.qmax) - int(x_params.zero_point)
    bottom = int(x_params.qmin) - int(x_params.zero_point)
    offsets = np.int64(0) if bias_q is None else bias_q.astype(np.int64)
    highest = positive * top + negative * bottom + offsets
    lowest = positive * bottom + negative * top + offsets
    bounds: Int64Array = np.maximum(np.abs(highest), np.abs(lowest))
    return bounds
