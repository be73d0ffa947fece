"""Hypothesis strategies: shapes and attributes of convolutions and poolings."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from quantkit.reference.arrays import FloatArray


@dataclass(frozen=True)
class ConvCase:
    """Shapes and attributes that fit each other, and the seed of the numbers."""

    x_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    attributes: dict[str, Any]
    seed: int

    def arrays(self, dtype: type[np.floating]) -> tuple[FloatArray, FloatArray, FloatArray]:
        generator = np.random.default_rng(self.seed)
        x, weight, bias = (
            generator.standard_normal(shape).astype(dtype)
            for shape in (self.x_shape, self.weight_shape, self.weight_shape[:1])
        )
        return x, weight, bias


@dataclass(frozen=True)
class PoolCase:
    """Shape and attributes that fit each other, and the seed of the numbers."""

    x_shape: tuple[int, ...]
    attributes: dict[str, Any]
    seed: int

    def x(self, dtype: type[np.floating]) -> FloatArray:
        """Distinct values at least 0.01 apart, so that no maximum is near a tie."""
        count = int(np.prod(self.x_shape))
        order = np.random.default_rng(self.seed).permutation(count)
        return (0.01 * (order - count // 2)).astype(dtype).reshape(self.x_shape)


@st.composite
def conv_cases(draw: st.DrawFn, *, spare: int = 5) -> ConvCase:
    rank = draw(st.integers(1, 3))
    group = draw(st.integers(1, 3))
    kind = draw(st.sampled_from(["general", "depthwise", "pointwise"]))
    inputs = 1 if kind == "depthwise" else draw(st.integers(1, 3))
    outputs = draw(st.integers(1, 2))
    kernel = [1 if kind == "pointwise" else draw(st.integers(1, 3)) for _ in range(rank)]
    dilations = [draw(st.integers(1, 2)) for _ in range(rank)]
    padless = kind == "pointwise" and draw(st.booleans())
    pads = [0 if padless else draw(st.integers(0, 2)) for _ in range(2 * rank)]
    # From the size of the window, pads included, up.
    sizes = [
        max(1, (k - 1) * d + 1 - pads[axis] - pads[rank + axis]) + draw(st.integers(0, spare))
        for axis, (k, d) in enumerate(zip(kernel, dilations, strict=True))
    ]
    return ConvCase(
        x_shape=(draw(st.integers(1, 2)), group * inputs, *sizes),
        weight_shape=(group * outputs, inputs, *kernel),
        attributes={
            "strides": [draw(st.integers(1, 3)) for _ in range(rank)],
            "pads": pads,
            "dilations": dilations,
            "group": group,
        },
        seed=draw(st.integers(0, 2**16)),
    )


@st.composite
def pool_cases(draw: st.DrawFn, *, spare: int = 5) -> PoolCase:
    rank = draw(st.integers(1, 3))
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    dilations = [draw(st.integers(1, 2)) for _ in range(rank)]
    # Beyond these a window could hold nothing but padding.
    pads = [draw(st.integers(0, kernel[axis % rank] - 1)) for axis in range(2 * rank)]
    sizes = [
        (k - 1) * d + 1 + draw(st.integers(0, spare))
        for k, d in zip(kernel, dilations, strict=True)
    ]
    return PoolCase(
        x_shape=(draw(st.integers(1, 2)), draw(st.integers(1, 3)), *sizes),
        attributes={
            "kernel_shape": kernel,
            "strides": [draw(st.integers(1, 3)) for _ in range(rank)],
            "pads": pads,
            "dilations": dilations,
            "ceil_mode": draw(st.booleans()),
        },
        seed=draw(st.integers(0, 2**16)),
    )
