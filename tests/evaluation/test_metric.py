"""Metrics by name, and those of the user's own code."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from quantkit.errors import CalibrationError, ConfigError, ShapeMismatchError, UnknownNameError
from quantkit.evaluation.metric import drop_interval, metric_of, outputs_sqnr_db, users_metric
from quantkit.graph.program import Array
from quantkit.numerics.metrics import sqnr_db

SCORES = np.array([[3, 1], [0, 2], [1, 0], [5, 6]], np.float32)
OTHER = np.array([[3, 1], [2, 0], [1, 0], [5, 6]], np.float32)


def batches(array: Array, name: str = "y") -> list[dict[str, Array]]:
    return [{name: array[:3]}, {name: array[3:]}]


def test_top1_and_agreement_are_percentages() -> None:
    labels = np.array([0, 1, 1, 1], np.int64)
    top1, agreement = metric_of("top1"), metric_of("agreement")
    assert (top1.unit, agreement.unit) == ("%", "%")
    assert top1.score(batches(SCORES), batches(SCORES), labels) == 75.0
    assert top1.score(batches(SCORES), batches(OTHER), labels) == 50.0
    assert agreement.score(batches(SCORES), batches(OTHER), None) == 75.0


def test_sqnr_of_one_output_is_its_own() -> None:
    found = metric_of("sqnr").score(batches(SCORES), batches(OTHER), None)
    assert found == pytest.approx(sqnr_db(SCORES, OTHER), abs=1e-12)
    assert metric_of("sqnr").score(batches(SCORES), batches(SCORES), None) == math.inf


def test_small_outputs_count_as_much_as_large_ones() -> None:
    reference = [{"large": SCORES * 1e6, "small": SCORES, "index": np.arange(4)}]
    actual = [{"large": SCORES * 1e6, "small": OTHER, "index": np.arange(4)}]
    expected = sqnr_db(SCORES, OTHER) + 10.0 * math.log10(2.0)
    assert outputs_sqnr_db(reference, actual) == pytest.approx(expected, abs=1e-9)


def test_top1_without_labels() -> None:
    with pytest.raises(ConfigError, match=r"the metric top1 needs labels \(--labels\)"):
        metric_of("top1").score(batches(SCORES), batches(SCORES), None)


@pytest.mark.parametrize("name", ["top1", "agreement"])
def test_outputs_that_are_no_classes(name: str) -> None:
    image = batches(np.ones((4, 3, 5, 5), np.float32), "mask")
    with pytest.raises(ConfigError, match=r"'mask', of shape .* holds no scores of classes"):
        metric_of(name).score(image, image, np.zeros(4, np.int64))


def test_outputs_without_floats() -> None:
    codes = batches(np.arange(4))
    with pytest.raises(ConfigError, match="no output of the network holds floats"):
        metric_of("sqnr").score(codes, codes, None)


def test_outputs_of_different_shapes() -> None:
    mixed = [{"y": np.ones((1, 2), np.float32)}, {"y": np.ones((1, 3), np.float32)}]
    assert outputs_sqnr_db(mixed, mixed) == math.inf
    with pytest.raises(ShapeMismatchError, match=r"cannot be joined .* judge by SQNR"):
        metric_of("agreement").score(mixed, mixed, None)


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match="known: top1, agreement, sqnr, or module:function"):
        metric_of("accuracy")


def write(folder: Path, text: str) -> str:
    (folder / "mine.py").write_text(text)
    return f"{folder / 'mine.py'}:score"


def test_a_function_of_the_users(tmp_path: Path) -> None:
    """It gets arrays over all samples, may import its neighbours when called, and print."""
    (tmp_path / "neighbour.py").write_text("FACTOR = 2")
    name = write(
        tmp_path,
        "def score(outputs, labels):\n"
        "    from neighbour import FACTOR\n"
        "    print('hello')\n"
        "    assert outputs['y'].shape == (4, 2) and labels.tolist() == [0, 1, 1, 1]\n"
        "    return FACTOR * outputs['y'].sum()\n",
    )
    metric = metric_of(name)
    labels = np.array([0, 1, 1, 1], np.int64)
    assert metric.score(batches(SCORES), batches(OTHER), labels) == 2.0 * OTHER.sum()
    assert metric.unit == ""
    digest = metric.digest
    write(tmp_path, "def score(outputs, labels):\n    return 0\n")
    assert metric_of(name).digest != digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("score = 3", "metric '.*': 'score' is a int, expected a function"),
        ("import nothing_like_it", "metric '.*': '.*mine.py' cannot be imported"),
        ("", "metric '.*': '.*mine.py' has no 'score'"),
        ("def score(outputs, labels): 1 / 0", "metric '.*' failed: ZeroDivisionError"),
        ("def score(outputs, labels): return 'x'", "metric '.*' failed: ValueError"),
        ("def score(outputs): return 1", "metric '.*' failed: TypeError"),
        ("def score(o, l): return float('nan')", "returned nan, expected a finite number"),
        ("def score(o, l): raise SystemExit", "metric '.*' failed: SystemExit"),
    ],
)
def test_functions_that_fail(tmp_path: Path, text: str, message: str) -> None:
    name = write(tmp_path, text)
    with pytest.raises(CalibrationError, match=message):
        metric_of(name).score(batches(SCORES), batches(OTHER), None)


def mean_of_scores(outputs: Mapping[str, Array], labels: object) -> float:
    return float(outputs["y"].mean())


def fails_without_the_first(outputs: Mapping[str, Array], labels: object) -> float:
    if not (outputs["y"] == 0.0).any():
        raise ValueError("no sample to judge")
    return 0.0


def never(outputs: Mapping[str, Array], labels: object) -> float:
    raise ValueError("no sample to judge")


def values(count: int, shift: float = 0.0) -> list[dict[str, Array]]:
    column = np.arange(count, dtype=np.float64)[:, None] + shift
    return [{"y": part} for part in np.array_split(column, 3)]


def test_the_interval_of_a_drop_is_paired() -> None:
    """Both lose the same on every sample, so the difference does not scatter."""
    metric = metric_of(f"{__file__}:mean_of_scores")
    assert drop_interval(metric, values(30, 1.0), values(30), None, 30) == pytest.approx((1.0, 1.0))
    # What is paired otherwise scatters.
    found = drop_interval(metric, values(30, 1.0), values(30)[::-1], None, 30)
    assert found is not None
    assert found[1] - found[0] > 1.0


def test_draws_on_which_the_metric_fails_are_left_out() -> None:
    some = metric_of(f"{__file__}:fails_without_the_first")
    assert drop_interval(some, values(30), values(30), None, 30) == (0.0, 0.0)
    assert drop_interval(metric_of(f"{__file__}:never"), values(6), values(6), None, 6) is None


def test_outputs_that_are_not_per_sample_have_no_interval() -> None:
    metric = metric_of(f"{__file__}:mean_of_scores")
    assert drop_interval(metric, values(30), values(30), None, 10) is None


@pytest.mark.parametrize(("copied", "draws"), [(2_000_000_000, 1000), (3600, 300), (12, 100)])
def test_large_outputs_are_drawn_less_often(
    monkeypatch: pytest.MonkeyPatch, copied: int, draws: int
) -> None:
    monkeypatch.setattr("quantkit.evaluation.metric._COPIED_VALUES", copied)
    metric = metric_of(f"{__file__}:mean_of_scores")
    told: list[tuple[int, int]] = []
    drop_interval(metric, values(6), values(6), None, 6, lambda *pair: told.append(pair))
    assert told == [(done, draws) for done in range(1, draws + 1)]


def test_reports_hold_the_named_metrics_anyway() -> None:
    assert users_metric(f"{__file__}:mean_of_scores").unit == ""
    for name in ("top1", "agreement", "sqnr"):
        with pytest.raises(ConfigError, match=rf"every report holds {name}"):
            users_metric(name)
