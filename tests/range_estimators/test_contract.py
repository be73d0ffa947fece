import hypothesis.extra.numpy as hnp
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkit.calibration.statistics import TensorStatistics, statistics_of_sample
from quantkit.errors import ConfigError, NonFiniteRangeError, UnknownNameError
from quantkit.range_estimators import RANGE_ESTIMATORS, Range, RangeOptions
from quantkit_cli.quantization_options import METHODS
from tests.range_estimators.distributions import DRAWS, SPECIAL, estimate, values

Float32 = npt.NDArray[np.float32]
NAMES = list(RANGE_ESTIMATORS)
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
# Twelve octaves apart at most, far from float32's ends.
MODERATE = st.one_of(
    st.just(0.0), st.floats(2.0**-6, 2.0**6, width=32), st.floats(-(2.0**6), -(2.0**-6), width=32)
)
SAMPLES = st.lists(hnp.arrays(np.float32, (1, 2, 30), elements=MODERATE), min_size=2, max_size=4)


def assert_kept(x: Float32, found: Range) -> None:
    assert np.isfinite([found.low, found.high]).all()
    assert x.min() <= found.low <= found.high <= x.max()


@pytest.mark.parametrize("method", NAMES)
@given(x=hnp.arrays(np.float32, (1, 40), elements=FINITE), percentile=st.floats(51, 100))
def test_any_values_give_a_range_within_them(method: str, x: Float32, percentile: float) -> None:
    assert_kept(x, estimate(method, x, percentile))


@pytest.mark.parametrize("method", NAMES)
@pytest.mark.parametrize("name", [*DRAWS, *SPECIAL])
def test_every_shape_gives_a_range_within_it(method: str, name: str) -> None:
    x = SPECIAL[name] if name in SPECIAL else values(name, 20_000)
    found = estimate(method, x)
    assert_kept(x, found)
    if name in ("zeros", "constant", "negative_constant", "single"):
        assert found.low == found.high == x.min()


@pytest.mark.parametrize("method", NAMES)
@given(x=hnp.arrays(np.float32, (1, 60), elements=MODERATE), power=st.integers(-90, 90))
def test_twice_the_values_twice_the_range(method: str, x: Float32, power: int) -> None:
    """A power of two moves every bucket to another one and changes nothing else."""
    factor = 2.0**power
    plain, scaled = estimate(method, x, 95.0), estimate(method, x * np.float32(factor), 95.0)
    assert (scaled.low, scaled.high) == (plain.low * factor, plain.high * factor)


@pytest.mark.parametrize("method", NAMES)
@given(samples=SAMPLES, seed=st.integers(0, 99))
def test_the_order_of_merging_does_not_matter(
    method: str, samples: list[Float32], seed: int
) -> None:
    def merged(order: list[int]) -> TensorStatistics:
        first, *others = (statistics_of_sample(samples[index]) for index in order)
        for other in others:
            first = first.merge(other)
        return first

    order = list(range(len(samples)))
    shuffled = [int(index) for index in np.random.default_rng(seed).permutation(order)]
    assert estimate(method, merged(order), 90.0) == estimate(method, merged(shuffled), 90.0)


@pytest.mark.parametrize("name", DRAWS)
def test_minmax_takes_all(name: str) -> None:
    x = values(name, 1000)
    assert estimate("minmax", x) == Range(float(x.min()), float(x.max()))


def test_unknown_name() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown range estimator 'kl'; known: .*minmax"):
        RANGE_ESTIMATORS["kl"]


def test_the_command_line_describes_every_method() -> None:
    lines = {name: (RANGE_ESTIMATORS[name].__doc__ or "").split("\n")[0] for name in NAMES}
    assert lines == METHODS


@pytest.mark.parametrize("percentile", [50, 100.01, -1, float("nan")])
def test_bad_percentiles(percentile: float) -> None:
    with pytest.raises(ConfigError, match="percentile must be above 50 and at most 100, got"):
        RangeOptions(percentile=percentile)


@pytest.mark.parametrize("levels", [1, 257])
def test_bad_levels(levels: int) -> None:
    with pytest.raises(ConfigError, match=f"levels must be 2 to 256, got {levels}"):
        RangeOptions(levels=levels)


@pytest.mark.parametrize(("low", "high"), [(1.0, 0.0), (0.0, np.inf), (np.nan, 0.0)])
def test_bad_ranges(low: float, high: float) -> None:
    with pytest.raises(NonFiniteRangeError, match="finite with low <= high, got"):
        Range(low, high)
