"""Where the output positions of a Resize lie on the input's axes.

Source: ONNX operator specification, Resize-19; the order of the float32 operations is that of
onnxruntime's ``core/providers/cpu/tensor/upsamplebase.h``. Each formula is written once, for any
type of number: ``numpy.float32`` scalars give onnxruntime's coordinates, ``Fraction`` exact ones.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

_HALF = Fraction(1, 2)
# onnxruntime 1.32 takes a coordinate this near to a half for one (measured: 9.54e-7 is, 1.01e-6 is
# not, at 0.5 as at 4.5).
_HALF_TOLERANCE = Fraction(1, 10**6)


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis that is resampled.

    Attributes:
        size: Of the input.
        resized: Size of the output.
        scale: ``resized / size`` as given or computed; exactly what a float32 may be.
        transformation: ``coordinate_transformation_mode``.
        start: Of the region of interest, in [0, 1].
        end: Of the region of interest, in [0, 1].
    """

    size: int
    resized: int
    scale: Fraction
    transformation: str
    start: float = 0.0
    end: float = 1.0

    def nearest(self, nearest_mode: str) -> tuple[int, ...]:
        """The input position of every output position, as onnxruntime rounds it."""
        return _nearest_positions(self, nearest_mode)

    def neighbours(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[Fraction, ...]]:
        """Per output position: the input positions around it, and how far it is from the first."""
        low, high, distance = [], [], []
        for index in range(self.resized):
            exact = COORDINATES[self.transformation](self, index, Fraction, Fraction)
            exact = min(max(exact, Fraction(0)), Fraction(self.size - 1))
            low.append(math.floor(exact))
            high.append(min(low[-1] + 1, self.size - 1))
            distance.append(exact - low[-1])
        return tuple(low), tuple(high), tuple(distance)


@dataclass(frozen=True, slots=True)
class Sampling:
    """The attributes and constants of a Resize node.

    Attributes:
        transformation: ``coordinate_transformation_mode``.
        nearest_mode: How a coordinate is rounded.
        aspect_policy: ``keep_aspect_ratio_policy``.
        axes: Which axes ``scales``, ``sizes`` and ``roi`` speak of; empty: all.
        scales: One per axis, or empty.
        sizes: One per axis, or empty.
        roi: All starts, then all ends, or empty.
    """

    transformation: str
    nearest_mode: str
    aspect_policy: str
    axes: tuple[int, ...]
    scales: tuple[float, ...]
    sizes: tuple[int, ...]
    roi: tuple[float, ...]

    def axes_of(self, shape: tuple[int, ...]) -> Mapping[int, Axis]:
        """The axes of an input that are resampled.

        A size is ``floor(f32(scale * size))``; with an aspect policy it is the one scale times the
        size, rounded half up. Where no size changes nothing does, whatever the scales, as in
        onnxruntime.
        """
        axes = [axis % len(shape) for axis in self.axes] or list(range(len(shape)))
        if self.scales:
            scales = [Fraction(scale) for scale in self.scales]
            resized = [
                int(np.float32(scale) * np.float32(shape[axis]))
                for scale, axis in zip(self.scales, axes, strict=True)
            ]
        else:
            scales = [Fraction(s, shape[axis]) for s, axis in zip(self.sizes, axes, strict=True)]
            resized = list(self.sizes)
            if self.aspect_policy != "stretch":
                scale = min(scales) if self.aspect_policy == "not_larger" else max(scales)
                scales = [scale] * len(scales)
                resized = [math.floor(scale * shape[axis] + _HALF) for axis in axes]
        is_cropped = self.transformation == "tf_crop_and_resize"
        if resized == [shape[axis] for axis in axes] and not is_cropped:
            return {}
        begins, ends = self.roi[: len(axes)], self.roi[len(axes) :]
        sampled = {}
        for position, axis in enumerate(axes):
            region = (begins[position], ends[position]) if is_cropped else (0.0, 1.0)
            if scales[position] != 1 or region != (0.0, 1.0):
                sampled[axis] = Axis(
                    shape[axis], resized[position], scales[position], self.transformation, *region
                )
        return sampled


Coordinate = Callable[[Axis, int, Callable[..., Any], Callable[..., Any]], Any]
"""(axis, output index, number, wide number) -> coordinate on the input; C's float and double."""


def _half_pixel(axis: Axis, index: int, number: Callable[..., Any], _: Callable[..., Any]) -> Any:
    return (number(index) + number(_HALF)) / number(axis.scale) - number(_HALF)


def _pytorch_half_pixel(
    axis: Axis, index: int, number: Callable[..., Any], wide: Callable[..., Any]
) -> Any:
    return _half_pixel(axis, index, number, wide) if axis.resized > 1 else number(0)


def _half_pixel_symmetric(
    axis: Axis, index: int, number: Callable[..., Any], wide: Callable[..., Any]
) -> Any:
    scale, size = number(axis.scale), number(axis.size)
    adjustment = number(axis.resized) / (scale * size)
    offset = size / number(2) * (number(1) - adjustment)
    return number(wide(offset) + (wide(index) + wide(_HALF)) / wide(scale) - wide(_HALF))


def _asymmetric(axis: Axis, index: int, number: Callable[..., Any], _: Callable[..., Any]) -> Any:
    return number(index) / number(axis.scale)


def _tf_half_pixel_for_nn(
    axis: Axis, index: int, number: Callable[..., Any], _: Callable[..., Any]
) -> Any:
    return (number(index) + number(_HALF)) / number(axis.scale)


def _align_corners(
    axis: Axis, index: int, number: Callable[..., Any], _: Callable[..., Any]
) -> Any:
    if axis.resized == 1:
        return number(0)
    return number(index) * number(axis.size - 1) / number(axis.resized - 1)


def _tf_crop_and_resize(
    axis: Axis, index: int, number: Callable[..., Any], _: Callable[..., Any]
) -> Any:
    start, end, last = number(axis.start), number(axis.end), number(axis.size - 1)
    if axis.resized == 1:
        return number(_HALF) * (start + end) * last
    return start * last + number(index) * (end - start) * last / number(axis.resized - 1)


COORDINATES: Mapping[str, Coordinate] = {
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "tf_half_pixel_for_nn": _tf_half_pixel_for_nn,
    "asymmetric": _asymmetric,
    "align_corners": _align_corners,
    "tf_crop_and_resize": _tf_crop_and_resize,
}
"""By ONNX's ``coordinate_transformation_mode``."""


def _is_half(value: Fraction) -> bool:
    return abs(value - math.floor(value) - _HALF) <= _HALF_TOLERANCE


def _prefer_ceil(value: Fraction) -> int:
    return math.ceil(value) if _is_half(value) else math.floor(value + _HALF)


def _prefer_floor(value: Fraction) -> int:
    return math.floor(value) if _is_half(value) else math.floor(value + _HALF)


NEAREST: Mapping[str, Callable[[Fraction], int]] = {
    "round_prefer_floor": _prefer_floor,
    "round_prefer_ceil": _prefer_ceil,
    "floor": math.floor,
    "ceil": math.ceil,
}
"""By ONNX's ``nearest_mode``; negative coordinates end at 0 in any case."""


@cache
def _nearest_positions(axis: Axis, nearest_mode: str) -> tuple[int, ...]:
    coordinate, rounding = COORDINATES[axis.transformation], NEAREST[nearest_mode]
    return tuple(
        min(
            max(rounding(Fraction(float(coordinate(axis, index, np.float32, np.float64)))), 0),
            axis.size - 1,
        )
        for index in range(axis.resized)
    )
