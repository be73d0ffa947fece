import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkit.numerics.affine import dequantize, per_tensor, quantize
from quantkit.recovery.fake_quantization import (
    Grid,
    fake_quantize,
    fake_quantize_backward,
    grid_of,
)

DELTA = 1e-6


@given(st.integers(0, 255), st.floats(0.01, 1.0), st.integers(0, 2**32 - 1))
def test_is_quantize_and_dequantize(zero_point: int, scale: float, seed: int) -> None:
    params = per_tensor(scale, zero_point, np.uint8)
    x = np.random.default_rng(seed).normal(0.0, 100 * scale, 50)
    grid = grid_of(params, float(params.scale), -np.inf, np.inf)
    expected = dequantize(quantize(x.astype(np.float32), params), params)
    # Ties may fall either way: the reciprocal is multiplied here.
    off_ties = np.abs(x / grid.step % 1.0 - 0.5) > 1e-3
    np.testing.assert_allclose(fake_quantize(x, grid)[off_ties], expected[off_ties], rtol=1e-6)


def test_clamp_narrows_the_grid() -> None:
    signed = per_tensor(0.1, 0, np.int8)
    assert grid_of(signed, 0.1, 0.0, 6.0) == Grid(0.1, 0, 60)
    assert grid_of(signed, 0.1, 0.0, np.inf) == Grid(0.1, 0, 127)


@pytest.mark.parametrize("grid", [Grid(0.3, -4, 5), Grid(0.3, 0, 5)])
def test_gradients_are_those_of_a_frozen_rounding(grid: Grid) -> None:
    """The function whose true derivative straight-through is: what rounding adds stays as it is."""
    rng = np.random.default_rng(0)
    x, grad_y = rng.normal(0.0, 1.2, 200), rng.normal(0.0, 1.0, 200)
    added = np.rint(x / grid.step) - x / grid.step
    is_within = (x >= grid.lowest * grid.step) & (x <= grid.highest * grid.step)
    hit = np.where(x > 0, grid.highest, grid.lowest)

    def loss(values: np.ndarray, step: float) -> float:
        steps = np.where(is_within, values / step + added, hit)
        return float(np.sum(grad_y * step * steps))

    grad_x, grad_step = fake_quantize_backward(grad_y, x, fake_quantize(x, grid), grid)
    for index in range(0, 200, 7):
        moved = x.copy()
        moved[index] += DELTA
        difference = (loss(moved, grid.step) - loss(x, grid.step)) / DELTA
        assert grad_x[index] == pytest.approx(difference, abs=1e-6)
    assert not is_within.all()
    difference = (loss(x, grid.step + DELTA) - loss(x, grid.step - DELTA)) / (2 * DELTA)
    assert grad_step == pytest.approx(difference, rel=1e-6)
