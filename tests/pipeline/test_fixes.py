"""Remedies, applied and measured."""

from pathlib import Path

import numpy as np
import pytest

import quantkit
from quantkit.calibration.dataset import open_dataset
from quantkit.config import QuantConfig
from quantkit.passes.prepare import prepare
from quantkit.pipeline import calibrate, report
from quantkit.pipeline.fixes import split_samples, try_fixes
from quantkit.pipeline.remedies import MOST_REMEDIES, distinct_remedies, with_changes
from quantkit.reporting.report import Cause, Remedy, Report
from tests.reporting.causes.planted import PER_TENSOR, Planted, healthy, plant, samples


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """Its third layer has one scale for channels that differ by 300."""
    constants = healthy()
    constants["w1"][3] *= 300.0
    constants["b1"][3] = -1e5
    return plant(tmp_path_factory.mktemp("fixes"), constants, PER_TENSOR)


@pytest.fixture(scope="module")
def made(planted: Planted) -> Report:
    return report(
        planted.floating, planted.quantized, samples(48, seed=5), with_integer_session=False
    )


def with_causes(made: Report, *remedies: Remedy) -> Report:
    causes = tuple(
        Cause(node="", cause=f"cause {number}", evidence="", remedy=remedy)
        for number, remedy in enumerate(remedies)
    )
    return made.model_copy(update={"causes": causes})


PER_CHANNEL = Remedy(text="--per-channel", config={"per_channel": True})
MIN_MAX = Remedy(text="--method minmax", config={"range_estimator": "minmax"})
ANEW = Remedy(text="more samples", recalibrate=True)


def test_the_control_changes_nothing_and_the_remedy_helps(planted: Planted, made: Report) -> None:
    told: list[tuple[str, int, int]] = []
    rows = try_fixes(
        made,
        planted.floating,
        planted.quantized,
        samples(48, seed=5),
        progress=lambda *state: told.append(state),
    )
    control, first, *_ = rows
    assert control.cause == ""
    assert "on other samples than judge" in control.text
    assert first.cause == "dead channel"
    assert control.sqnr_db is not None
    assert first.sqnr_db is not None
    assert control.sqnr_db[1] == pytest.approx(control.sqnr_db[0], abs=2.0)
    assert first.sqnr_db[0] == control.sqnr_db[0]
    assert first.sqnr_db[1] > control.sqnr_db[1] + 3.0
    assert first.agreement_percent is not None
    assert told
    assert all(0 <= done <= total for _, done, total in told)


def test_few_samples_calibrate_and_judge(planted: Planted, made: Report) -> None:
    rows = try_fixes(
        with_causes(made, PER_CHANNEL), planted.floating, planted.quantized, samples(20)
    )
    assert "on the same samples that judge" in rows[0].text


def test_a_remedy_that_fails_says_why(planted: Planted, made: Report) -> None:
    wrong = Remedy(text="--nodes-to-exclude nowhere", config={"nodes_to_exclude": ("nowhere",)})
    other_colours = Remedy(text="--channel-order BGR", preprocessing={"channel_order": "BGR"})
    rows = try_fixes(
        with_causes(made, wrong, other_colours),
        planted.floating,
        planted.quantized,
        samples(20),
    )
    assert [row.sqnr_db is None for row in rows] == [False, True, True]
    assert "nowhere" in (rows[1].error or "")
    assert "arrays" in (rows[2].error or "")


def test_all_that_helped_is_tried_together(planted: Planted, made: Report) -> None:
    float_layer = Remedy(text="--nodes-to-exclude fourth", config={"nodes_to_exclude": ("fourth",)})
    rows = try_fixes(
        with_causes(made, PER_CHANNEL, float_layer, ANEW),
        planted.floating,
        planted.quantized,
        samples(48, seed=5),
    )
    assert [row.cause for row in rows[:4]] == ["", "cause 0", "cause 1", "cause 2"]
    # Quantizing anew is what the control did.
    assert rows[3].sqnr_db == rows[0].sqnr_db
    if len(rows) == 5:
        assert rows[4].text == "--per-channel and --nodes-to-exclude fourth"
        assert rows[4].sqnr_db is not None
        assert all(
            rows[4].sqnr_db[1] > row.sqnr_db[1] - 1.0
            for row in rows[1:3]
            if row.sqnr_db is not None
        )


def test_a_calibration_file_or_other_samples(
    planted: Planted, made: Report, tmp_path: Path
) -> None:
    table = tmp_path / "network.calib.npz"
    calibrate(planted.floating, samples(32, seed=3)).save(table)
    found = [
        try_fixes(
            with_causes(made, PER_CHANNEL),
            planted.floating,
            planted.quantized,
            samples(20),
            calibration=calibration,
        )
        for calibration in (table, samples(32, seed=3))
    ]
    for rows in found:
        assert rows[1].sqnr_db is not None
    assert found[0] == found[1] or found[0][1].sqnr_db == found[1][1].sqnr_db


def test_nothing_to_apply(planted: Planted, made: Report) -> None:
    only_text = with_causes(made, Remedy(text="look at the labels"))
    assert try_fixes(only_text, planted.floating, planted.quantized, samples(20)) == ()


def test_remedies_are_distinct_and_few(made: Report) -> None:
    many = [
        Remedy(text=f"{n}", config={"nodes_to_exclude": (f"{n}",)})
        for n in range(MOST_REMEDIES + 2)
    ]
    report_ = with_causes(made, PER_CHANNEL, PER_CHANNEL.model_copy(update={"text": "x"}), *many)
    assert [name for name, _ in distinct_remedies(report_)] == [
        "cause 0",
        "cause 2",
        "cause 3",
        "cause 4",
    ]


def test_changes_join_lists() -> None:
    config = QuantConfig(nodes_to_exclude=("a",))
    changes: list[dict[str, object]] = [
        {"nodes_to_exclude": ("a", "b")},
        {"per_channel": False},
    ]
    found = with_changes(config, changes)
    assert found.nodes_to_exclude == ("a", "b")
    assert not found.per_channel
    with pytest.raises(quantkit.QuantkitError):
        with_changes(config, [{"percentile": 3.0}])


@pytest.mark.parametrize("count", [1, 31, 32, 100, 300])
def test_samples_that_calibrate_do_not_judge(planted: Planted, count: int) -> None:
    inputs = prepare(planted.floating).program.inputs
    dataset = open_dataset(np.zeros((count, 3, 10, 10), np.float32), inputs, preprocessing=None)
    calibrating, judging = split_samples(dataset)
    if count < 31:
        assert calibrating is judging is dataset
    else:
        assert not {*calibrating.positions} & {*judging.positions}
        assert len(judging) >= 16
        assert max(len(calibrating), len(judging)) <= 128
