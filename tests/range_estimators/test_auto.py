import numpy as np
import pytest

from tests.range_estimators.distributions import SPECIAL, Float32, estimate, values

UNIFORM = values("uniform")


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (SPECIAL["zeros"], "minmax: all values are 0"),
        (values("student_t", 5_000), "minmax: 5000 values are too few to cut any"),
        (UNIFORM, "minmax: no long tail; the last 0.01 % of values would take 0.0 % of the codes"),
        (values("relu6"), "minmax: values end at a bound (6)"),
        (-values("relu6"), "minmax: values end at a bound (-6)"),
        (np.full((1, 50_000), 3, np.float32), "minmax: all values are 3"),
        (values("relu6") * np.float32(0.75), "minmax: values end at a bound (4.5)"),
    ],
)
def test_why_nothing_is_clipped(x: Float32, reason: str) -> None:
    found = estimate("auto", x)
    assert (found.low, found.high) == (x.min(), x.max())
    assert found.reason == reason


def test_a_long_tail_is_clipped() -> None:
    x = values("lognormal")
    found, cut = estimate("auto", x), estimate("percentile", x)
    assert (found.low, found.high) == (cut.low, cut.high)
    taken = 100 * (1 - cut.high / float(x.max()))
    assert found.reason == (
        f"percentile 99.99: the last 0.01 % of values would take {taken:.3g} % of the codes"
    )


def test_a_percentile_of_the_users() -> None:
    found = estimate("auto", values("normal"), 99.0)
    assert found.reason.startswith("percentile 99: the last 1 % of values would take ")
    assert found == estimate("auto", values("normal"), 99.0)
    assert estimate("auto", values("lognormal"), 100.0).reason.endswith("too few to cut any")


def test_zeros_are_not_counted() -> None:
    """97 % zeros: 0.01 % of all values would be 0.3 % of those that say something."""
    x = values("lognormal", 50_000)
    sparse = np.concatenate([x, np.zeros((1, 1_600_000), np.float32)], axis=1)
    found = estimate("auto", sparse)
    assert found.high == estimate("percentile", x).high
    assert estimate("percentile", sparse).high < 0.6 * found.high
    assert "the last 0.01 % of nonzero values would take" in found.reason


def test_a_tail_of_few_codes_is_kept() -> None:
    """5 % of the codes is the least worth clipping for."""
    body = np.linspace(0, 1, 100_000, dtype=np.float32)
    for top, clipped in ((1.04, False), (1.08, True)):
        x = np.append(body, np.float32(top))[np.newaxis]
        assert (estimate("auto", x).high < 1.01) == clipped


def test_a_largest_value_is_no_bound() -> None:
    """One value at the end, however many an even spread would have put below it."""
    for seed in range(20):
        x = np.random.default_rng(seed).random((1, 16_385), np.float32)
        assert "bound" not in estimate("auto", x).reason
