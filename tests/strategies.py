"""All Hypothesis strategies."""

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantkit.numerics.affine import QuantParams, per_tensor

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


def int32_values() -> st.SearchStrategy[int]:
    """The whole range, and often what rounding trips over: ends, powers of two and neighbours."""
    power = st.integers(0, 31).map(lambda exponent: 1 << exponent)
    near_power = st.tuples(power, st.integers(-2, 2)).map(sum)
    signed = st.tuples(near_power, st.sampled_from([-1, 1])).map(lambda pair: pair[0] * pair[1])
    clamped = signed.map(lambda value: min(max(value, INT32_MIN), INT32_MAX))
    ends = st.sampled_from([INT32_MIN, INT32_MIN + 1, INT32_MAX - 1, INT32_MAX, 0])
    return st.one_of(st.integers(INT32_MIN, INT32_MAX), clamped, ends, st.integers(-70000, 70000))


def int32_arrays(size: int = 32) -> st.SearchStrategy[npt.NDArray[np.int32]]:
    """One axis of :func:`int32_values`."""
    return hnp.arrays(np.int32, size, elements=int32_values())


def multipliers() -> st.SearchStrategy[float]:
    """Positive float32 numbers: usual requantization multipliers, simple ratios, any magnitude."""
    usual = st.floats(2.0**-20, 2.0, width=32)
    ratio = st.tuples(st.integers(1, 64), st.integers(1, 4096)).map(lambda pair: pair[0] / pair[1])
    power = st.integers(-149, 127).map(lambda exponent: 2.0**exponent)
    anything = st.floats(2.0**-149, 2.0**127, width=32)
    return st.one_of(usual, ratio, power, anything).map(lambda value: float(np.float32(value)))


def code_dtypes() -> st.SearchStrategy[npt.DTypeLike]:
    """The dtypes of activations."""
    return st.sampled_from([np.uint8, np.int8])


@st.composite
def activation_params(draw: st.DrawFn, dtype: npt.DTypeLike | None = None) -> QuantParams:
    """Per-tensor parameters with simple and arbitrary scales."""
    chosen = draw(code_dtypes()) if dtype is None else dtype
    info = np.iinfo(np.dtype(chosen))
    simple = st.sampled_from([0.25, 0.125, 1 / 3, 0.05, 0.02, 1 / 255, 1 / 256])
    scale = draw(st.one_of(simple, st.floats(2.0**-12, 1.0, width=32)))
    return per_tensor(scale, draw(st.integers(int(info.min), int(info.max))), chosen)
