"""A calibration table, tensor by tensor: ranges of each method and what they cut off."""

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

import numpy as np

from quantkit.calibration.statistics import ChannelStatistics, TensorStatistics
from quantkit.calibration.table import CalibrationTable
from quantkit.errors import UnknownNameError
from quantkit.numerics.affine import params_from_range
from quantkit.range_estimators.contract import RANGE_ESTIMATORS, Range, RangeOptions
from quantkit.reporting.linear_histogram import central_range, share_outside

# The far tail is what lies outside the range of this share of the values.
_BULK = 0.999


@dataclass(frozen=True, slots=True, eq=False)
class MethodRange:
    """What a range estimator chose, and what uint8 codes make of it.

    Attributes:
        low: Lowest value covered.
        high: Highest value covered.
        reason: Why, in the estimator's words.
        cut_percent: Values outside, in percent of those counted.
        scale: Of the codes, after the range was widened to contain 0.
        zero_point: Of the codes.
    """

    low: float
    high: float
    reason: str
    cut_percent: float
    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True, eq=False)
class TensorRow:
    """One tensor of a table.

    Attributes:
        name: The tensor's.
        statistics: What was collected.
        ranges: By method.
        tail: Length of [minimum, maximum] over that of the range which holds the central 99.9 % of
            the values; infinite where almost all values are equal.
        channel_ratio: How many times as far the widest channel reaches as the median one; None
            without channels, or where the median channel is always 0.
    """

    name: str
    statistics: TensorStatistics
    ranges: Mapping[str, MethodRange]
    tail: float
    channel_ratio: float | None

    @property
    def width(self) -> float:
        """Length of [minimum, maximum]."""
        return self.statistics.maximum - self.statistics.minimum


ORDERS: Mapping[str, Callable[[TensorRow], tuple[float, str]]] = MappingProxyType(
    {
        "name": lambda row: (0.0, row.name),
        "range": lambda row: (-row.width, row.name),
        "tail": lambda row: (-row.tail, row.name),
    }
)
"""By name: the names themselves, the widest range first, the longest tail first."""


def named_order(name: str) -> Callable[[TensorRow], tuple[float, str]]:
    """The sort key of that name in :data:`ORDERS`.

    Raises:
        UnknownNameError: No such order.
    """
    if name not in ORDERS:
        raise UnknownNameError(f"unknown order {name!r} (--sort); known: {', '.join(ORDERS)}")
    return ORDERS[name]


def table_rows(
    statistics: Mapping[str, TensorStatistics], methods: Iterable[str], options: RangeOptions
) -> list[TensorRow]:
    """A row per tensor, in the order given.

    Args:
        statistics: By tensor name.
        methods: Names of range estimators.
        options: For all of them.

    Raises:
        UnknownNameError: No such method.
    """
    estimators = {method: RANGE_ESTIMATORS[method] for method in methods}
    return [
        TensorRow(
            name=name,
            statistics=tensor,
            ranges={
                method: _method_range(tensor, estimate(tensor, options))
                for method, estimate in estimators.items()
            },
            tail=_tail(tensor),
            channel_ratio=None if tensor.channels is None else _channel_ratio(tensor.channels),
        )
        for name, tensor in statistics.items()
    ]


def select(
    statistics: Mapping[str, TensorStatistics], patterns: Sequence[str]
) -> dict[str, TensorStatistics]:
    """The tensors that any pattern matches; all of them without a pattern.

    Args:
        statistics: By tensor name.
        patterns: Names, or globs of them: ``*`` and ``?`` also match slashes.

    Raises:
        UnknownNameError: A pattern matches nothing.
    """
    if not patterns:
        return dict(statistics)
    for pattern in patterns:
        if not any(_matches(name, pattern) for name in statistics):
            near = difflib.get_close_matches(pattern, statistics, n=3, cutoff=0.5)
            hint = f"; near it: {', '.join(near)}" if near else ""
            raise UnknownNameError(
                f"no tensor is called {pattern!r}, of {len(statistics)}{hint}; "
                "`quantkit show` without --tensor lists all"
            )
    return {
        name: tensor
        for name, tensor in statistics.items()
        if any(_matches(name, pattern) for pattern in patterns)
    }


def table_facts(table: CalibrationTable, rows: Iterable[TensorRow]) -> dict[str, Any]:
    """A table as JSON types.

    Returns:
        ``model_name``, ``model_digest``, ``data_digest``, ``samples``, ``exact``, ``preprocessing``
        (null for arrays), ``tool_version`` and ``tensors``, a list of objects: ``name``,
        ``minimum``, ``maximum``, ``count``, ``samples``, ``channels`` (null: none),
        ``channel_ratio`` (null: unknown), ``tail`` (null: infinite) and ``ranges``, by method:
        ``low``, ``high``, ``reason``, ``cut_percent``, ``scale`` and ``zero_point``. See
        :class:`TensorRow` and :class:`MethodRange`.
    """
    return {
        "model_name": table.model_name,
        "model_digest": table.model_digest,
        "data_digest": table.data_digest,
        "samples": table.sample_count,
        "exact": table.exact,
        "preprocessing": None if table.preprocessing is None else table.preprocessing.to_json(),
        "tool_version": table.tool_version,
        "tensors": [_facts(row) for row in rows],
    }


def _facts(row: TensorRow) -> dict[str, Any]:
    statistics = row.statistics
    return {
        "name": row.name,
        "minimum": statistics.minimum,
        "maximum": statistics.maximum,
        "count": statistics.count,
        "samples": statistics.sample_count,
        "channels": None if statistics.channels is None else statistics.channels.channels,
        "channel_ratio": row.channel_ratio,
        "tail": row.tail if math.isfinite(row.tail) else None,
        "ranges": {method: asdict(found) for method, found in row.ranges.items()},
    }


def _matches(name: str, pattern: str) -> bool:
    # Names may hold brackets themselves.
    return name == pattern or fnmatchcase(name, pattern)


def _method_range(statistics: TensorStatistics, found: Range) -> MethodRange:
    params = params_from_range(found.low, found.high)
    return MethodRange(
        low=found.low,
        high=found.high,
        reason=found.reason,
        cut_percent=100.0 * share_outside(statistics, found.low, found.high),
        scale=float(params.scale),
        zero_point=int(params.zero_point),
    )


def _tail(statistics: TensorStatistics) -> float:
    width = statistics.maximum - statistics.minimum
    low, high = central_range(statistics, _BULK)
    if width == 0.0:
        return 1.0
    return width / (high - low) if high > low else math.inf


def _channel_ratio(channels: ChannelStatistics) -> float | None:
    reach = np.maximum(np.abs(channels.minimum), np.abs(channels.maximum)).astype(np.float64)
    median = float(np.median(reach))
    return float(reach.max()) / median if median > 0.0 else None
