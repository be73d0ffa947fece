"""Calibration tables whose contents are known."""

from dataclasses import replace
from typing import Any

import numpy as np

from quantkit.calibration.statistics import TensorStatistics, statistics_of_sample
from quantkit.calibration.table import CalibrationTable, format_digest
from quantkit.range_estimators.contract import RANGE_ESTIMATORS, RangeOptions
from quantkit.reporting.table_rows import TensorRow, table_rows


def statistics_of(*values: float) -> TensorStatistics:
    """Of a vector, without channels."""
    return statistics_of_sample(np.array(values, np.float32))


def normal(seed: int = 0, size: int = 6000) -> TensorStatistics:
    """Of three channels, the last ten times as wide, with one value far outside."""
    x = np.random.default_rng(seed).normal(size=(1, 3, size // 3)).astype(np.float32)
    x[0, 2] *= 10.0
    x[0, 2, 0] = 100.0
    return statistics_of_sample(x)


def row_of(statistics: TensorStatistics, name: str = "t", **options: Any) -> TensorRow:
    """With the ranges of all methods."""
    (row,) = table_rows({name: statistics}, RANGE_ESTIMATORS, RangeOptions(**options))
    return row


def table_of(**changes: Any) -> CalibrationTable:
    """Three tensors: a ramp, a constant one, and a wide one."""
    table = CalibrationTable(
        statistics={
            "/a[0]/Add": statistics_of(*np.linspace(-1, 3, 400)),
            "constant": statistics_of(2.5, 2.5),
            "wide": normal(),
        },
        model_digest="ab" * 32,
        model_name="net.onnx",
        data_digest=format_digest(255),
        sample_count=1,
        exact=True,
        preprocessing=None,
        tool_version="1.0",
    )
    return replace(table, **changes)
