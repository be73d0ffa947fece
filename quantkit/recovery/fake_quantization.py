"""Quantize and dequantize within floats, with gradients that see through the rounding.

``y = s * clip(round(x / s), lowest, highest)``, ``lowest`` and ``highest`` counted in steps from
the zero point, which is fixed. The derivative of the rounding is taken as 1 (straight-through), so

- ``dy/dx = 1`` within the bounds, otherwise 0;
- ``dy/ds = round(x / s) - x / s`` within the bounds, otherwise the bound that was hit.

Source: Esser et al. 2020, Learned Step Size Quantization, arXiv:1902.08153, (1) to (3).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from quantkit.numerics.affine import QuantParams
from quantkit.reference.arrays import FloatArray

# Numbers that are worked on at a time: a few arrays of them stay in the L2 cache.
_CACHED = 32 * 1024


@dataclass(frozen=True, slots=True)
class Grid:
    """Where quantized values may lie: ``step * k`` for ``lowest <= k <= highest``.

    Attributes:
        step: The scale, > 0.
        lowest: Steps below the zero point, at most 0.
        highest: Steps above it, at least 0.
    """

    step: float
    lowest: int
    highest: int


def grid_of(params: QuantParams, step: float, low: float, high: float) -> Grid:
    """The values of per-tensor codes that a clamp to ``[low, high]`` leaves.

    Args:
        params: dtype and zero point are read.
        step: Takes the place of their scale.
        low: -inf where nothing clamps.
        high: inf where nothing clamps.
    """
    zero_point = int(params.zero_point)
    lowest, highest = params.qmin - zero_point, params.qmax - zero_point
    return Grid(
        step,
        min(int(np.clip(np.rint(low / step), lowest, highest)), 0),
        max(int(np.clip(np.rint(high / step), lowest, highest)), 0),
    )


def fake_quantize(x: FloatArray, grid: Grid) -> FloatArray:
    """The nearest value of the grid, half to even.

    Args:
        x: Any shape.
        grid: The values there are.

    Returns:
        Shaped and typed like ``x``.
    """
    flat_x = x.reshape(-1)
    flat_y = np.empty_like(flat_x)
    for part in _parts(x.size):
        y = np.multiply(flat_x[part], 1.0 / grid.step, out=flat_y[part])
        np.rint(y, out=y)
        np.maximum(y, grid.lowest, out=y)
        np.minimum(y, grid.highest, out=y)
        y *= grid.step
    return flat_y.reshape(x.shape)


def fake_quantize_backward(
    grad_y: FloatArray, x: FloatArray, y: FloatArray, grid: Grid
) -> tuple[FloatArray, float]:
    """Gradients of :func:`fake_quantize`.

    Args:
        grad_y: Gradient of the output, shaped like ``x``.
        x: The input of the forward call.
        y: Its output.
        grid: As in the forward call.

    Returns:
        The gradient of ``x``, shaped and typed like it, and that of the step.
    """
    flat_g, flat_x, flat_y = grad_y.reshape(-1), x.reshape(-1), y.reshape(-1)
    flat_grad_x = np.empty_like(flat_x)
    low, high = grid.lowest * grid.step, grid.highest * grid.step
    total = 0.0
    for part in _parts(x.size):
        g, some = flat_g[part], flat_x[part]
        is_within = some >= low
        is_within &= some <= high
        grad_x = np.multiply(g, is_within, out=flat_grad_x[part])
        # y / s is the rounded number or the bound; x / s is taken off where x passed.
        total += float(np.vdot(g, flat_y[part])) - float(np.vdot(grad_x, some))
    return flat_grad_x.reshape(x.shape), total / grid.step


def _parts(size: int) -> Iterator[slice]:
    for start in range(0, size, _CACHED):
        yield slice(start, start + _CACHED)
