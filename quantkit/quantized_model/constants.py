"""Float weights and biases to integer codes, with the proof that no accumulator overflows.

Sums of 8-bit codes are int32, and so are their biases. Sums of 16-bit codes are int64, and proved
to stay within the 48 bits that TFLite's requantization takes and float64 carries.
"""

import math
from dataclasses import dataclass
from typing import TypeVar

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
from quantkit.numerics.integer_gemm import INT32_SUMS, INT64_SUMS, sums_of

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
Number = TypeVar("Number", bound=np.generic)

ACCUMULATOR_MAX = 2**31 - 1
WIDE_ACCUMULATOR_MAX = 2**47 - 1


def accumulator_max(*factors: QuantParams) -> int:
    """The largest ``|accumulator|`` a layer may reach whose products have these factors."""
    return ACCUMULATOR_MAX if sums_of(*factors) == INT32_SUMS else WIDE_ACCUMULATOR_MAX


@dataclass(frozen=True, slots=True, eq=False)
class WeightCodes:
    """Codes of one node's weight and bias.

    Attributes:
        weight: int8, zero point 0, per channel or per tensor.
        bias: int32 (int64 for 16-bit inputs) at scale ``s_x * s_w``, zero point 0; None where the
            op has no bias.
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
    found: Float64Array | None = None,
) -> WeightCodes:
    """Symmetric int8 codes of a weight, int32 (for 16-bit inputs int64) codes of its bias.

    ``s_w = max|w| / qmax`` per output channel, raised where

    1. the bias ``b / (s_x s_w)`` would leave [-2^30, 2^30] (for 16-bit inputs 2^46), half of what
       the accumulator may reach (a nearly dead channel: its weights are tiny against its bias, or
       zero);
    2. ``s_w`` or ``s_x s_w`` would leave float32's normal numbers;
    3. the accumulator could exceed :func:`accumulator_max`.

    A channel without weights and bias has scale 1.

    Args:
        weight: float32, any shape.
        bias: float32, ``(C,)`` (with shared scales ``(group * C,)``), or None.
        x_params: Parameters of the input codes; per tensor.
        axis: The weight's output-channel axis.
        per_channel: One scale per channel, or one for all.
        weight_qmax: Largest code, 127 or 64.
        found: Scales to begin with in place of ``max|w| / qmax``, one per row of
            :func:`weight_rows`; larger weights saturate.

    Raises:
        NonFiniteRangeError: Weight or bias is not finite, or too large for a float32 scale.
    """
    rows = weight_rows(weight, axis)
    offsets = np.zeros(len(rows)) if bias is None else np.asarray(bias, np.float64)
    limit = accumulator_max(x_params)
    if not (np.isfinite(rows).all() and np.isfinite(offsets).all()):
        raise NonFiniteRangeError("its weight or bias is NaN or infinite; export the model again")
    natural = np.abs(rows).max(axis=1, initial=0.0) / weight_qmax if found is None else found
    if not per_channel:
        natural = np.full_like(natural, natural.max(initial=0.0))
    # A grouped transposed convolution has one row for several biases.
    largest_offset = np.abs(_per_row(offsets, len(rows))).max(axis=0, initial=0.0)
    scale = _needed_scale(natural, largest_offset, float(x_params.scale), (limit + 1) // 2)
    for _ in range(32):
        # One channel has one scale: files cannot tell the two apart.
        params = _weight_params(scale, x_params, axis if per_channel and len(rows) > 1 else None)
        steps = np.broadcast_to(params.scale.astype(np.float64), len(rows))
        row_codes = np.clip(np.rint(rows / steps[:, None]), -weight_qmax, weight_qmax)
        bias_q = quantize_bias(offsets, x_params, params)
        bounds = _row_bounds(row_codes.astype(np.int64), bias_q.data, x_params)
        if (bounds <= limit).all():
            break
        excess = bounds.astype(np.float64) / limit
        scale = np.where(excess > 1.0, steps * excess * 1.001, scale)
    codes = np.empty(weight.shape, np.int8)
    outputs_first = _outputs_first(codes, axis)
    outputs_first[...] = row_codes.reshape(outputs_first.shape)
    return WeightCodes(
        QuantizedTensor(codes, params),
        None if bias is None else bias_q,
        int(bounds.max(initial=0)),
        tuple(int(channel) for channel in np.flatnonzero(scale > natural)),
    )


def weight_rows(weight: Array, axis: int) -> Float64Array:
    """What each sum runs over, float64, (sums, K); ``axis`` runs over output channels."""
    turned = _outputs_first(np.asarray(weight, np.float64), axis)
    return turned.reshape(_sum_count(weight.shape, axis), -1)


def quantize_bias(
    bias: Array, x_params: QuantParams, weight_params: QuantParams
) -> QuantizedTensor:
    """``round(b / (s_x s_w))``, half to even, at the float32 product of the two scales.

    int32, or int64 for inputs of 16 bits.
    """
    with np.errstate(under="ignore"):
        scale = np.asarray(x_params.scale * weight_params.scale, np.float32)
    axis = None if scale.ndim == 0 else 0
    sums = sums_of(x_params)
    params = QuantParams(scale, np.zeros(scale.shape, np.int32), sums.integer, axis)
    codes = np.rint(np.asarray(bias, np.float64) / scale.astype(np.float64))
    # Of the int64 codes only those that float64 holds; int32 has no others.
    largest = min(params.qmax, INT64_SUMS.exact)
    return QuantizedTensor(np.clip(codes, -largest - 1, largest).astype(params.dtype), params)


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
        bias_q: int32 or int64 codes, ``(C,)`` (with shared scales ``(group * C,)``) or one for
            all, or None.
        x_params: Parameters of the input codes; per tensor.
        axis: The weight's output-channel axis.
    """
    _, zero_point = weight.params.aligned(weight.data.ndim)
    centred = _outputs_first(weight.data.astype(np.int64) - zero_point, axis)
    rows = centred.reshape(_sum_count(weight.data.shape, axis), -1)
    return int(_row_bounds(rows, bias_q, x_params).max(initial=0))


def quantize_operand(array: Array, params: QuantParams) -> QuantizedTensor:
    """Codes of a constant that takes the place of an activation (the second input of an Add)."""
    return QuantizedTensor(quantize(np.asarray(array, np.float32), params), params)


def _needed_scale(
    natural: Float64Array, largest_offset: Float64Array, x_scale: float, bias_max: int
) -> Float64Array:
    """Cases 1 and 2 of :func:`quantize_weight`; 0 for a channel without weights and bias."""
    for_bias = largest_offset / (x_scale * bias_max)
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


def _row_bounds(
    rows: Int64Array, bias_q: IntegerArray | None, x_params: QuantParams
) -> npt.NDArray[np.object_]:
    """The largest ``|accumulator|`` of every row of centred weight codes, as Python integers."""
    positive = np.maximum(rows, 0).sum(axis=1)
    negative = np.minimum(rows, 0).sum(axis=1)
    top = int(x_params.qmax) - int(x_params.zero_point)
    bottom = int(x_params.qmin) - int(x_params.zero_point)
    bias = np.zeros(1, np.int32) if bias_q is None else bias_q
    # Python integers: a bias near the ends of int64 would overflow.
    offsets = _per_row(bias, len(rows)).astype(object)
    highest = (positive * top + negative * bottom).astype(object) + offsets
    lowest = (positive * bottom + negative * top).astype(object) + offsets
    bounds: npt.NDArray[np.object_] = np.maximum(np.abs(highest), np.abs(lowest)).max(axis=0)
    return bounds


def _outputs_first(weight: npt.NDArray[Number], axis: int) -> npt.NDArray[Number]:
    """A view whose last axes are what one sum runs over; ``axis`` runs over output channels.

    Where that is the last axis, the weight is a matrix or a stack of them (MatMul): every column is
    a sum of its own. A vector is one column.
    """
    if axis == weight.ndim - 1:
        return weight.swapaxes(-1, -2) if weight.ndim > 1 else weight
    return np.moveaxis(weight, axis, 0)


def _sum_count(shape: tuple[int, ...], axis: int) -> int:
    """How many sums the weight makes; see :func:`_outputs_first`."""
    if axis == len(shape) - 1:
        return math.prod(shape[:-2]) * shape[-1] if axis else 1
    return shape[axis]


def _per_row(bias: npt.NDArray[Number], rows: int) -> npt.NDArray[Number]:
    """The biases of each row of weights, (biases per row, rows); a single one for all: (1, 1)."""
    return bias.reshape(-1, 1 if bias.size == 1 else rows)
