import numpy as np
import pytest

from quantkit.calibration.statistics import statistics_of_sample
from quantkit.errors import UnknownNameError
from quantkit.range_estimators import RANGE_ESTIMATORS

X = np.array([[-1.5, 0.25, 7.0, 3.0]], np.float32)


@pytest.mark.parametrize("name", list(RANGE_ESTIMATORS))
def test_contract(name: str) -> None:
    """A finite range within what was seen, for signed, one-sided and constant tensors."""
    for x in (X, abs(X), -abs(X), np.zeros((1, 3), np.float32)):
        low, high = RANGE_ESTIMATORS[name](statistics_of_sample(x))
        assert x.min() <= low <= high <= x.max()
    assert RANGE_ESTIMATORS[name].__doc__


def test_minmax_takes_all() -> None:
    assert RANGE_ESTIMATORS["minmax"](statistics_of_sample(X)) == (-1.5, 7.0)


def test_unknown_name() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown range estimator 'kl'; known: .*minmax"):
        RANGE_ESTIMATORS["kl"]
