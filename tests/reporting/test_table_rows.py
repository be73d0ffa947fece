import json
import math
from collections.abc import Mapping

import numpy as np
import pytest

from quantkit.calibration.preprocessing import PRESETS
from quantkit.calibration.statistics import TensorStatistics, statistics_of_sample
from quantkit.errors import UnknownNameError
from quantkit.range_estimators.contract import RANGE_ESTIMATORS, RangeOptions
from quantkit.reporting.table_rows import named_order, select, table_facts, table_rows
from tests.reporting.tables import normal, row_of, statistics_of, table_of

TENSORS: Mapping[str, TensorStatistics] = table_of().statistics


def test_a_row_per_tensor_and_method() -> None:
    rows = table_rows(TENSORS, ("minmax", "percentile"), RangeOptions(percentile=90.0))
    assert [row.name for row in rows] == list(TENSORS)
    for row in rows:
        assert list(row.ranges) == ["minmax", "percentile"]
        full, cut = row.ranges.values()
        assert (full.low, full.high) == (row.statistics.minimum, row.statistics.maximum)
        assert full.cut_percent == 0.0
        assert full.low <= cut.low <= cut.high <= full.high
        assert cut.cut_percent <= 21.0
    assert rows[0].ranges["percentile"].cut_percent == pytest.approx(20.0, abs=1.0)


def test_the_estimator_and_its_options_are_asked() -> None:
    statistics = normal()
    for percentile in (99.0, 99.9):
        found = row_of(statistics, percentile=percentile).ranges["percentile"]
        expected = RANGE_ESTIMATORS["percentile"](statistics, RangeOptions(percentile=percentile))
        assert (found.low, found.high, found.reason) == (
            expected.low,
            expected.high,
            expected.reason,
        )


def test_scales_are_those_of_codes_that_have_a_zero() -> None:
    found = row_of(statistics_of(2.0, 5.1)).ranges["minmax"]
    assert (found.low, found.zero_point) == (2.0, 0)
    assert found.scale == pytest.approx(5.1 / 255, rel=1e-6)


def test_channel_ratio_is_the_largest_over_the_median_reach() -> None:
    x = np.zeros((1, 3, 1, 2), np.float32)
    x[0, :, 0, 0] = (1.0, -2.0, 30.0)
    assert row_of(statistics_of_sample(x)).channel_ratio == 15.0
    x[0, :2] = 0.0
    assert row_of(statistics_of_sample(x)).channel_ratio is None
    assert row_of(statistics_of(1.0, 2.0)).channel_ratio is None


def test_tail_is_the_range_over_that_of_nearly_all_values() -> None:
    ramp = np.linspace(-1.0, 1.0, 4001)
    assert row_of(statistics_of(*ramp)).tail == pytest.approx(1.0, rel=0.01)
    assert row_of(statistics_of(*ramp, 9.0)).tail == pytest.approx(5.0, rel=0.01)
    assert row_of(statistics_of(3.0, 3.0)).tail == 1.0
    assert row_of(statistics_of(*[0.0] * 9999, 1.0)).tail == math.inf


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("name", ["/a[0]/Add", "constant", "wide"]),
        ("range", ["wide", "/a[0]/Add", "constant"]),
        ("tail", ["wide", "/a[0]/Add", "constant"]),
    ],
)
def test_orders(order: str, names: list[str]) -> None:
    rows = table_rows(
        {name: TENSORS[name] for name in sorted(TENSORS, reverse=True)}, ("minmax",), RangeOptions()
    )
    assert [row.name for row in sorted(rows, key=named_order(order))] == names


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match=r"'size' \(--sort\); known: name, range, tail"):
        named_order("size")
    with pytest.raises(UnknownNameError, match="unknown range estimator 'kl'"):
        table_rows(TENSORS, ("kl",), RangeOptions())


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ([], ["/a[0]/Add", "constant", "wide"]),
        (["/a[0]/Add"], ["/a[0]/Add"]),
        (["/*"], ["/a[0]/Add"]),
        (["wi?e", "con*"], ["constant", "wide"]),
        (["*", "wide"], ["/a[0]/Add", "constant", "wide"]),
    ],
)
def test_selection_keeps_the_order_of_the_table(patterns: list[str], names: list[str]) -> None:
    assert list(select(TENSORS, patterns)) == names


def test_a_pattern_without_a_match_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="no tensor is called 'wise', of 3; near it: wide;"):
        select(TENSORS, ["constant", "wise"])
    with pytest.raises(UnknownNameError, match="no tensor is called 'CONSTANT', of 3;"):
        select(TENSORS, ["CONSTANT"])


def test_facts_are_json() -> None:
    table = table_of(preprocessing=PRESETS["imagenet"])
    statistics = {"sparse": statistics_of(*[0.0] * 9999, 1.0), "wide": normal()}
    rows = table_rows(statistics, RANGE_ESTIMATORS, RangeOptions())
    facts = json.loads(json.dumps(table_facts(table, rows), allow_nan=False))
    assert (facts["samples"], facts["exact"], facts["tool_version"]) == (1, True, "1.0")
    assert facts["preprocessing"]["mean"] == [123.675, 116.28, 103.53]
    sparse, wide = facts["tensors"]
    assert (sparse["name"], sparse["count"], sparse["tail"]) == ("sparse", 10_000, None)
    assert (sparse["channels"], sparse["channel_ratio"]) == (None, None)
    assert (wide["channels"], wide["samples"], wide["maximum"]) == (3, 1, 100.0)
    assert set(wide["ranges"]) == set(RANGE_ESTIMATORS)
    assert set(wide["ranges"]["mse"]) == {
        *("low", "high", "reason", "cut_percent", "scale", "zero_point")
    }
