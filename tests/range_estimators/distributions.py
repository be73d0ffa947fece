"""Values of many shapes, their statistics, and what ranges cost on the values themselves."""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from quantkit.calibration.statistics import TensorStatistics, statistics_of_sample
from quantkit.numerics.affine import dequantize, params_from_range, quantize
from quantkit.range_estimators import RANGE_ESTIMATORS, Range, RangeOptions

Float32 = npt.NDArray[np.float32]
Draw = Callable[[np.random.Generator, int], npt.NDArray[np.float64]]


def _with_points(rng: np.random.Generator, size: int) -> npt.NDArray[np.float64]:
    """A third zeros, a fiftieth at the upper end."""
    x = np.minimum(rng.normal(1.0, 1.0, size), 3.5)
    x[rng.random(size) < 1 / 3] = 0.0
    x[rng.random(size) < 1 / 50] = 3.5
    return x


def _hard_swish(rng: np.random.Generator, size: int) -> npt.NDArray[np.float64]:
    x = rng.normal(0.0, 2.0, size)
    return np.asarray(x * np.clip(x + 3, 0, 6) / 6)


DRAWS: Mapping[str, Draw] = {
    "normal": lambda rng, size: rng.normal(0.5, 1.0, size),
    "laplace": lambda rng, size: rng.laplace(0.0, 1.0, size),
    "student_t": lambda rng, size: rng.standard_t(3, size),
    "relu": lambda rng, size: np.maximum(rng.normal(0.0, 1.0, size), 0.0),
    "relu6": lambda rng, size: np.clip(rng.normal(2.0, 3.0, size), 0.0, 6.0),
    "uniform": lambda rng, size: rng.uniform(-1.0, 3.0, size),
    "lognormal": lambda rng, size: rng.lognormal(0.0, 1.5, size),
    "points": _with_points,
    "hard_swish": _hard_swish,
    "negative": lambda rng, size: -np.abs(rng.normal(3.0, 1.0, size)),
    "tiny": lambda rng, size: rng.normal(0.0, 1e-30, size),
    "huge": lambda rng, size: rng.normal(0.0, 1e30, size),
}

# No histogram, or hardly any.
SPECIAL: Mapping[str, Float32] = {
    "zeros": np.zeros((1, 5), np.float32),
    "constant": np.full((1, 9), 2.7, np.float32),
    "negative_constant": np.full((1, 9), -1e-3, np.float32),
    "single": np.array([[-3.3]], np.float32),
    "denormal": np.array([[1e-44, 3e-45]], np.float32),
    "largest": np.array([[-3.4e38, 3.4e38, 1.0]], np.float32),
    "one_outlier": np.concatenate([np.ones(30_000), [1e30]]).astype(np.float32)[np.newaxis],
}


def values(name: str, size: int = 100_000, seed: int = 0) -> Float32:
    """float32, (1, size)."""
    rng = np.random.default_rng((seed, size))
    return np.asarray(DRAWS[name](rng, size)[np.newaxis], np.float32)


def estimate(method: str, x: Float32 | TensorStatistics, percentile: float = 99.99) -> Range:
    statistics = x if isinstance(x, TensorStatistics) else statistics_of_sample(x)
    return RANGE_ESTIMATORS[method](statistics, RangeOptions(percentile=percentile))


def scale_of(low: float, high: float) -> float:
    return float(params_from_range(low, high).scale)


def squared_error(x: Float32, low: float, high: float) -> float:
    """Mean squared error of the values quantized over a range, in float64."""
    params = params_from_range(low, high)
    difference = dequantize(quantize(x, params), params).astype(np.float64) - x
    return float(np.mean(difference * difference))
