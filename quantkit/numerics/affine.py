"""The affine scheme ``x ≈ scale * (q - zero_point)``: Jacob et al. 2018, arXiv:1712.05877, (1)."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from quantkit.errors import NonFiniteRangeError, ShapeMismatchError

FloatArray = npt.NDArray[np.floating]
IntegerArray = npt.NDArray[np.integer]

_CODE_DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "int64")
# Below this a product of two scales would leave float32's normal numbers.
SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True, eq=False)
class QuantParams:
    """What integer codes mean: ``x = scale * (q - zero_point)``.

    Attributes:
        scale: float32, ``()`` per tensor or ``(C,)`` per channel; finite and > 0.
        zero_point: int32, shaped like ``scale``; within the range of ``dtype``.
        dtype: The codes' dtype: int8, uint8, int16 or uint16; int32 or int64 for biases.
        axis: The channel axis of a per-channel tensor, otherwise None.
    """

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int32]
    dtype: np.dtype[np.integer]
    axis: int | None = None

    def __post_init__(self) -> None:
        if self.dtype.name not in _CODE_DTYPES:
            raise ShapeMismatchError(
                f"codes are one of {', '.join(_CODE_DTYPES)}, got {self.dtype}"
            )
        if self.scale.dtype != np.float32 or self.zero_point.dtype != np.int32:
            raise ShapeMismatchError(
                f"scale must be float32 and zero_point int32, got {self.scale.dtype} and "
                f"{self.zero_point.dtype}"
            )
        if self.scale.shape != self.zero_point.shape:
            raise ShapeMismatchError(
                f"scale {self.scale.shape} and zero_point {self.zero_point.shape} differ in shape"
            )
        if self.scale.ndim != (0 if self.axis is None else 1):
            raise ShapeMismatchError(
                f"scale of shape {self.scale.shape} does not go with axis {self.axis}: "
                "a per-tensor scale is (), a per-channel scale is (C,) with an axis"
            )
        if not np.all(np.isfinite(self.scale)) or not np.all(self.scale > 0):
            raise NonFiniteRangeError("a scale must be finite and greater than 0")
        if np.any(self.zero_point < self.qmin) or np.any(self.zero_point > self.qmax):
            raise ShapeMismatchError(f"zero point outside {self.dtype} [{self.qmin}, {self.qmax}]")

    @property
    def qmin(self) -> int:
        """The smallest code."""
        return int(np.iinfo(self.dtype).min)

    @property
    def qmax(self) -> int:
        """The largest code."""
        return int(np.iinfo(self.dtype).max)

    @property
    def reach(self) -> int:
        """The largest ``|q - zero_point|`` of per-tensor codes."""
        zero_point = int(self.zero_point)
        return max(self.qmax - zero_point, zero_point - self.qmin)

    @property
    def is_per_channel(self) -> bool:
        """Whether there is one scale per channel."""
        return self.axis is not None

    def aligned(self, ndim: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        """Scale and zero point, shaped to broadcast against codes of ``ndim`` axes."""
        if self.axis is None:
            return self.scale, self.zero_point
        shape = [1] * ndim
        shape[self.axis] = -1
        return self.scale.reshape(shape), self.zero_point.reshape(shape)

    def equals(self, other: "QuantParams") -> bool:
        """Whether both give every code the same meaning, bit for bit."""
        return (
            self.dtype == other.dtype
            and self.axis == other.axis
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedTensor:
    """Integer codes and what they mean.

    Attributes:
        data: The codes, of dtype ``params.dtype``.
        params: Scale and zero point; per channel, ``len(scale) == data.shape[axis]``.
    """

    data: IntegerArray
    params: QuantParams

    def __post_init__(self) -> None:
        if self.data.dtype != self.params.dtype:
            raise ShapeMismatchError(f"codes are {self.data.dtype}, parameters {self.params.dtype}")
        axis = self.params.axis
        if axis is not None and not -self.data.ndim <= axis < self.data.ndim:
            raise ShapeMismatchError(f"axis {axis} is not an axis of codes {self.data.shape}")
        if axis is not None and self.data.shape[axis] != self.params.scale.size:
            raise ShapeMismatchError(
                f"{self.params.scale.size} scales for axis {axis} of codes {self.data.shape}"
            )

    def dequantize(self) -> npt.NDArray[np.float32]:
        """The real values, float32, shaped like ``data``."""
        return dequantize(self.data, self.params)


def per_tensor(scale: float, zero_point: int, dtype: npt.DTypeLike) -> QuantParams:
    """Per-tensor parameters from Python numbers (``scale`` is rounded to float32)."""
    return QuantParams(
        np.array(scale, np.float32), np.array(zero_point, np.int32), _code_dtype(dtype)
    )


def per_channel_symmetric(
    scale: npt.NDArray[np.float32], dtype: npt.DTypeLike, axis: int
) -> QuantParams:
    """Per-channel parameters with zero point 0."""
    return QuantParams(scale, np.zeros(scale.shape, np.int32), _code_dtype(dtype), axis)


def params_from_range(
    low: float, high: float, dtype: npt.DTypeLike = np.uint8, *, symmetric: bool = False
) -> QuantParams:
    """Per-tensor parameters that cover ``[low, high]`` with 0.0 exactly representable.

    ``scale = (high - low) / (qmax - qmin)``, ``zero_point = round(qmin - low / scale)``, after the
    range was widened to contain 0 (Jacob et al. 2018, section 3: zero padding needs an exact 0).
    Symmetric: zero point 0 (unsigned codes: the middle), ``scale = max|x| / qmax``.
    An all-zero range gives scale 1.

    Args:
        low: Smallest real value to cover.
        high: Largest real value to cover.
        dtype: Dtype of the codes.
        symmetric: Whether the zero point is fixed.

    Raises:
        NonFiniteRangeError: ``low`` or ``high`` is NaN or infinite, or ``low > high``.
    """
    if not (np.isfinite(low) and np.isfinite(high)) or low > high:
        raise NonFiniteRangeError(f"a range must be finite with low <= high, got [{low}, {high}]")
    info = np.iinfo(np.dtype(dtype))
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    if symmetric:
        middle = 0 if info.min < 0 else (info.max + 1) // 2
        scale = max(-low, high) / (info.max - middle)
        return per_tensor(_usable_scale(scale), middle, dtype)
    scale = float(np.float32(_usable_scale((high - low) / (int(info.max) - int(info.min)))))
    zero_point = int(np.rint(info.min - low / scale))
    return per_tensor(scale, min(max(zero_point, info.min), info.max), dtype)


def dynamic_params(x: FloatArray) -> QuantParams:
    """The uint8 parameters that ONNX DynamicQuantizeLinear takes from the data itself.

    ``scale = (high - low) / 255``, ``zero_point = saturate(rint(0 - low / scale))``, half to even,
    with ``low = min(0, min x)`` and ``high = max(0, max x)``; every step in float32. All zeros give
    scale 1, as in onnxruntime.

    Args:
        x: Real values, any shape; at least one.

    Raises:
        NonFiniteRangeError: ``x`` holds NaN or infinity.
    """
    values = np.asarray(x, np.float32)
    low, high = min(values.min(), np.float32(0)), max(values.max(), np.float32(0))
    if not (np.isfinite(low) and np.isfinite(high)):
        raise NonFiniteRangeError("a range must be finite, got NaN or infinity in the data")
    scale = (high - low) / np.float32(255) or np.float32(1)
    zero_point = int(np.clip(np.rint(-low / scale), 0, 255))
    return per_tensor(float(scale), zero_point, np.uint8)


def quantize(x: FloatArray, params: QuantParams) -> IntegerArray:
    """``saturate(rint(x / scale) + zero_point)``, half to even, as ONNX QuantizeLinear.

    The division is carried out in float32, which is what onnxruntime does.

    Args:
        x: Real values, any shape; NaN is not allowed.
        params: Parameters; per channel along ``params.axis``.

    Returns:
        Codes of ``params.dtype``, shaped like ``x``.

    Raises:
        NonFiniteRangeError: ``x`` holds NaN.
    """
    scale, zero_point = params.aligned(x.ndim)
    # NumPy turns results without axes into scalars, hence asarray.
    scaled = np.asarray(np.asarray(x, np.float32) / scale)
    np.rint(scaled, out=scaled)
    if np.isnan(scaled).any():
        raise NonFiniteRangeError("NaN cannot be quantized")
    # Saturate before adding the zero point: the sum then never leaves the integers float32 holds.
    if params.dtype.itemsize >= 4:
        # The largest int64 is no float64: the cast of the nearest one would overflow.
        largest = np.nextafter(2.0**63, 0.0) if params.dtype == np.int64 else params.qmax
        wide = np.clip(scaled.astype(np.float64) + zero_point, params.qmin, largest)
        return np.asarray(wide).astype(params.dtype)
    np.clip(scaled, params.qmin - zero_point, params.qmax - zero_point, out=scaled)
    return np.asarray(scaled.astype(np.int32) + zero_point).astype(params.dtype)


def dequantize(q: IntegerArray, params: QuantParams) -> npt.NDArray[np.float32]:
    """``(q - zero_point) * scale`` in float32, as ONNX DequantizeLinear.

    Args:
        q: Codes, any shape.
        params: Parameters; per channel along ``params.axis``.

    Returns:
        Real values, float32, shaped like ``q``.
    """
    scale, zero_point = params.aligned(q.ndim)
    difference = np.asarray(q.astype(np.int64) - zero_point)
    return np.asarray(difference.astype(np.float32) * scale)


def _code_dtype(dtype: npt.DTypeLike) -> np.dtype[np.integer]:
    return cast("np.dtype[np.integer]", np.dtype(dtype))


def _usable_scale(scale: float) -> float:
    return 1.0 if scale == 0.0 else max(scale, SMALLEST_SCALE)
