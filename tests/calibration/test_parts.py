from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkit.calibration.parts import Interval, Part, missing, parts_of_workers, shards, united
from quantkit.calibration.statistics import statistics_of_sample
from quantkit.calibration.table import CalibrationTable, format_digest
from quantkit.errors import CalibrationError, UnreadableSampleError

INTERVALS = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 9)).map(lambda pair: (pair[0], sum(pair))),
    max_size=6,
)


def samples_of(intervals: Any) -> list[int]:
    return [index for first, stop in intervals for index in range(first, stop)]


@given(INTERVALS, st.integers(1, 45))
def test_missing_and_united_are_sets_of_samples(done: list[Interval], count: int) -> None:
    gaps = missing(done, count)
    assert samples_of(gaps) == sorted(set(range(count)) - set(samples_of(done)))
    joined = united(done)
    assert samples_of(joined) == sorted(set(samples_of(done)))
    assert all(stop < first for (_, stop), (first, _) in pairwise(joined))


@given(INTERVALS, st.integers(1, 7))
def test_shards_are_small_and_leave_nothing_out(done: list[Interval], size: int) -> None:
    pieces = shards(united(done), size)
    assert samples_of(pieces) == samples_of(united(done))
    assert all(0 < stop - first <= size for first, stop in pieces)


def part_of(interval: Interval) -> Part:
    found = statistics_of_sample(np.full((1, 2), interval[0], np.float32))
    table = CalibrationTable(
        {"x": found}, "m", "net", format_digest(interval[0]), 1, True, None, "1"
    )
    return Part(interval, table)


def test_parts_of_workers_come_all() -> None:
    pieces = shards([(0, 20)], 3)
    with ThreadPoolExecutor(3) as pool:
        found = list(parts_of_workers(pool, part_of, pieces))
    assert sorted(part.interval for part in found) == list(pieces)


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (UnreadableSampleError("sample 3"), UnreadableSampleError, "sample 3"),
        (BrokenProcessPool("gone"), CalibrationError, "a worker ended abruptly.*--resume"),
        (ImportError("no quantkit"), CalibrationError, "failed: ImportError: no quantkit"),
    ],
)
def test_failures_of_workers(error: Exception, expected: type[Exception], message: str) -> None:
    class Queue(Executor):
        """One task fails, the others are never begun."""

        def __init__(self) -> None:
            self.tasks: list[Future[Any]] = []

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            task: Future[Any] = Future()
            if not self.tasks:
                task.set_exception(error)
            self.tasks.append(task)
            return task

    queue = Queue()
    parts: Iterator[Part] = parts_of_workers(queue, part_of, [(0, 1), (1, 2), (2, 3)])
    with pytest.raises(expected, match=message):
        list(parts)
    assert all(task.cancelled() for task in queue.tasks[1:])
