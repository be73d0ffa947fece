"""Resize: nearest moves codes, linear averages them with integer weights.

An output position has a coordinate on the input axis (``sampling``). Nearest rounds it and moves
that code: the coordinate is computed in float32, step by step as onnxruntime 1.32 computes it
(``core/providers/cpu/tensor/upsamplebase.h``), which moves the codes too. Linear takes the codes
left and right of it with weights ``1 - t`` and ``t``, one axis after the other:

    ``y_q = z + rint(sum(w_1 ... w_n * (x_q - z)) / (d_1 ... d_n))``, half to even,

where the weights of axis k are integers whose sum is ``d_k``. Coordinates are exact rationals
(scales are rationals: float32 values, or quotients of sizes). ``d_k`` is their common denominator
where that has at most b bits; then y_q is the exact interpolation, rounded once. Otherwise ``d_k =
2^b`` and every ``t`` is rounded to a multiple of ``1 / d_k``. ``b = (61 - bits of a code) / n``, so
that sums fit int64: two axes of 8-bit codes have 26 bits and an error of 2^-18 codes before the
rounding. onnxruntime interpolates in floats between DequantizeLinear and QuantizeLinear: at most 1
code away.

Where another tool's model gives the output parameters of its own, the interpolation is kept with 12
bits below the code and rescaled by ``Arithmetic.average_requantizer``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import IntegerArray
from quantkit.numerics.code_table import requantize_codes
from quantkit.ops.contract import OPS, Kernel, Lowering, Op, QuantRule, optional_input, real_input
from quantkit.ops.movement import computed_operand
from quantkit.ops.sampling import COORDINATES, NEAREST, Axis, Sampling

Number = TypeVar("Number", bound=np.generic)

_ROI, _SCALES, _SIZES = 1, 2, 3
_SUM_BITS = 62
_BITS_BELOW_THE_CODE = 12


@dataclass(frozen=True, slots=True, eq=False)
class Taps:
    """One axis of a linear interpolation: ``y = (x[low] * (d - weight) + x[high] * weight) / d``.

    Attributes:
        low: The positions to the left, one per output position.
        high: The positions to the right.
        weight: int64, one per output position.
        denominator: ``d``.
    """

    low: npt.NDArray[np.int64]
    high: npt.NDArray[np.int64]
    weight: npt.NDArray[np.int64]
    denominator: int


class Resize(Op):
    """Resample a tensor's axes (ONNX Resize since opset 11)."""

    rule = QuantRule("same_as_input", data_inputs=(0,))

    def refusal(self, node: Node, constants: Sequence[Array | None]) -> str | None:
        """Why this node cannot have an integer kernel, or None."""
        mode = node.text("mode", "nearest")
        if mode not in ("nearest", "linear"):
            return f"the interpolation is {mode}; integer kernels do nearest and linear"
        if node.integer("antialias", 0):
            return "an antialiasing filter is asked for"
        transformation = node.text("coordinate_transformation_mode", "half_pixel")
        if transformation not in COORDINATES:
            return f"coordinate_transformation_mode {transformation!r} is not supported"
        rounding = node.text("nearest_mode", "round_prefer_floor")
        if mode == "nearest" and rounding not in NEAREST:
            return f"nearest_mode {rounding!r} is not supported"
        reason = computed_operand(node, constants)
        if reason is not None:
            return reason
        roi = optional_input(constants, _ROI)
        if transformation == "tf_crop_and_resize" and (
            roi is None or roi.min(initial=0) < 0 or roi.max(initial=0) > 1
        ):
            return "the region of interest reaches beyond the input, which asks for extrapolation"
        return None

    def has_onnxruntime_kernel(self, node: Node) -> bool:
        """Nearest only: the codes are moved, unless a region is cropped."""
        is_cropped = node.text("coordinate_transformation_mode", "") == "tf_crop_and_resize"
        return node.text("mode", "nearest") == "nearest" and not is_cropped

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Float resampling."""
        x = real_input(inputs, 0)
        sampling = _sampling(node, inputs)
        if node.text("mode", "nearest") == "nearest":
            return (_nearest(x, sampling),)
        for axis, sampled in sampling.axes_of(x.shape).items():
            low, high, position = sampled.neighbours()
            weight = _along(np.array(position, x.dtype), axis, x.ndim)
            x = np.take(x, low, axis) * (1 - weight) + np.take(x, high, axis) * weight
        return (x,)

    def lower(self, lowering: Lowering) -> Kernel:
        """Move the codes, or sum them with integer weights."""
        node = lowering.node
        sampling = _sampling(node, [None, *(lowering.array(i) for i in range(1, len(node.inputs)))])
        x, y = lowering.params(0), lowering.outputs[0]
        if node.text("mode", "nearest") == "nearest":
            convert = requantize_codes(x, y)
            return lambda inputs: (convert(_nearest(inputs[0], sampling)),)
        zero_point = int(x.zero_point)
        average = lowering.arithmetic.average_requantizer(x, y)
        is_moved = x.equals(y)
        unit = 1 if is_moved else 1 << _BITS_BELOW_THE_CODE
        # One bit more than a code has: x_q - z.
        bits = _SUM_BITS - 1 - 8 * x.dtype.itemsize

        def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
            centered = inputs[0].astype(np.int64) - zero_point
            total, denominator = _weighted_sum(centered, sampling, bits)
            mean = _divide_half_to_even(total, denominator, unit)
            mean += zero_point * unit
            return (mean.astype(y.dtype) if is_moved else average(mean, unit),)

        return kernel


def _sampling(node: Node, inputs: Sequence[Array | None]) -> Sampling:
    def numbers(position: int) -> tuple[float, ...]:
        array = optional_input(inputs, position)
        return () if array is None else tuple(float(value) for value in array)

    return Sampling(
        transformation=node.text("coordinate_transformation_mode", "half_pixel"),
        nearest_mode=node.text("nearest_mode", "round_prefer_floor"),
        aspect_policy=node.text("keep_aspect_ratio_policy", "stretch"),
        axes=node.integers("axes", ()),
        scales=numbers(_SCALES),
        sizes=tuple(int(size) for size in numbers(_SIZES)),
        roi=numbers(_ROI),
    )


def _nearest(x: Array, sampling: Sampling) -> Array:
    for axis, sampled in sampling.axes_of(x.shape).items():
        x = np.take(x, sampled.nearest(sampling.nearest_mode), axis)
    return x


def _weighted_sum(
    total: npt.NDArray[np.int64], sampling: Sampling, bits: int
) -> tuple[npt.NDArray[np.int64], int]:
    """The interpolation of ``total`` times a denominator, and the denominator."""
    axes = sampling.axes_of(total.shape)
    denominator = 1
    for axis, sampled in axes.items():
        taps = _taps(sampled, bits // len(axes))
        weight = _along(taps.weight, axis, total.ndim)
        low, high = np.take(total, taps.low, axis), np.take(total, taps.high, axis)
        total = low * (taps.denominator - weight) + high * weight
        denominator *= taps.denominator
    return total, denominator


@cache
def _taps(axis: Axis, bits: int) -> Taps:
    low, high, distance = axis.neighbours()
    denominator = math.lcm(*(fraction.denominator for fraction in distance))
    denominator = min(denominator, 1 << bits)
    weight = [round(fraction * denominator) for fraction in distance]
    return Taps(
        np.array(low, np.int64), np.array(high, np.int64), np.array(weight, np.int64), denominator
    )


def _divide_half_to_even(
    total: npt.NDArray[np.int64], denominator: int, unit: int
) -> npt.NDArray[np.int64]:
    """``rint(total * unit / denominator)``; the product itself might not fit."""
    whole, remainder = np.divmod(total, denominator)
    fraction, rest = np.divmod(remainder * unit, denominator)
    quotient: npt.NDArray[np.int64] = whole * unit + fraction
    is_odd = (quotient & 1) == 1
    quotient += (2 * rest > denominator) | ((2 * rest == denominator) & is_odd)
    return quotient


def _along(values: npt.NDArray[Number], axis: int, ndim: int) -> npt.NDArray[Number]:
    """One value per position of ``axis``, shaped to broadcast."""
    return values.reshape((-1,) + (1,) * (ndim - 1 - axis))


OPS.register("Resize")(Resize())
