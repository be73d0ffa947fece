from collections.abc import Sequence

import pytest

from quantkit.reporting.axis_ticks import decades, round_ticks


def labels(low: float, high: float, most: int = 100) -> list[str]:
    def fits(found: Sequence[str]) -> bool:
        return len(found) <= most

    return [label for _, label in round_ticks(low, high, fits=fits)]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 6.0, ["0", "1", "2", "3", "4", "5", "6"]),
        (-20.7, 26.6, ["-20", "-10", "0", "10", "20"]),
        (0.0, 2.9, ["0", "0.5", "1.0", "1.5", "2.0", "2.5"]),
        (0.0, 0.0012, ["0", "0.0002", "0.0004", "0.0006", "0.0008", "0.0010", "0.0012"]),
        (0.0, 6e-9, ["0", "1e-09", "2e-09", "3e-09", "4e-09", "5e-09", "6e-09"]),
        (-2.4e7, 0.0, ["-2.0e+07", "-1.5e+07", "-1.0e+07", "-5e+06", "0"]),
        (7.0, 7.5, ["7.0", "7.1", "7.2", "7.3", "7.4", "7.5"]),
    ],
)
def test_labels(low: float, high: float, expected: list[str]) -> None:
    assert labels(low, high) == expected


@pytest.mark.parametrize("most", range(8))
def test_labels_fit(most: int) -> None:
    assert len(labels(-1.0, 1.0, most)) <= most
    assert most == 0 or labels(-1.0, 1.0, most)


@pytest.mark.parametrize(("low", "high"), [(-3.4e38, 3.4e38), (0.0, 1e-45), (1e-40, 1.1e-40)])
def test_extreme_axes_have_ticks_inside(low: float, high: float) -> None:
    ticks = round_ticks(low, high, fits=lambda found: True)
    assert ticks
    assert all(low * (1 - 1e-9) - 1e-60 <= value <= high * (1 + 1e-9) for value, _ in ticks)


@pytest.mark.parametrize(
    ("largest", "expected"),
    [(0.3, []), (1.0, [1]), (99.0, [1, 10]), (2e7, [1, 100, 1e4, 1e6])],
)
def test_decades(largest: float, expected: list[float]) -> None:
    assert decades(largest) == expected
