"""A pass over the data in parts: each part is a table of its own, and tables can be joined.

Parts come from one process that stops for a moment now and then, or from workers that have a shard
of the data each. Joining is exact, so neither their number nor their order shows in the result.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, as_completed
from dataclasses import dataclass

from quantkit.calibration.table import CalibrationTable
from quantkit.errors import CalibrationError, QuantkitError

Interval = tuple[int, int]
"""Samples ``first`` up to, but not including, ``last``, by their index in the dataset."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What is known of some consecutive samples of a dataset.

    Attributes:
        interval: Which samples.
        table: Their statistics; those that could not be read are missing from it.
        skipped: Why a sample could not be read, by name.
    """

    interval: Interval
    table: CalibrationTable
    skipped: tuple[tuple[str, str], ...] = ()


def shards(intervals: Iterable[Interval], size: int) -> tuple[Interval, ...]:
    """The intervals cut into pieces of at most ``size`` samples."""
    return tuple(
        (first, min(first + size, stop))
        for start, stop in intervals
        for first in range(start, stop, size)
    )


def missing(done: Iterable[Interval], count: int) -> tuple[Interval, ...]:
    """What of the ``count`` samples is in none of the intervals."""
    gaps, reached = [], 0
    for start, stop in sorted(done):
        if min(start, count) > reached:
            gaps.append((reached, min(start, count)))
        reached = max(reached, stop)
    if reached < count:
        gaps.append((reached, count))
    return tuple(gaps)


def united(done: Iterable[Interval]) -> tuple[Interval, ...]:
    """The intervals in order, neighbours made one."""
    joined: list[Interval] = []
    for start, stop in sorted(done):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return tuple(joined)


def parts_of_workers(
    executor: Executor, work: Callable[[Interval], Part], intervals: Sequence[Interval]
) -> Iterator[Part]:
    """Have every interval worked on by an executor; parts come as they are finished.

    Args:
        executor: Processes of this machine, or any other ``concurrent.futures.Executor``. It is
            not shut down.
        work: What a worker does; it and its result are pickled where workers are processes.
        intervals: One task each.

    Raises:
        CalibrationError: A worker process died, and the executor does not start it again.
        CalibrationError: A worker failed otherwise, for instance because it lacks quantkit.
        QuantkitError: What ``work`` raised; unfinished tasks are cancelled.
    """
    tasks: list[Future[Part]] = []
    try:
        tasks.extend(executor.submit(work, interval) for interval in intervals)
        for task in as_completed(tasks):
            yield task.result()
    except QuantkitError:
        raise
    except BrokenExecutor as error:
        raise CalibrationError(
            f"a worker ended abruptly, perhaps for lack of memory ({error}); what the others have "
            "finished is kept: go on with --resume, and with fewer workers"
        ) from error
    except CancelledError as error:
        raise CalibrationError(
            "the executor has dropped its tasks (has the cluster gone away?); what is finished is "
            "kept: go on with --resume"
        ) from error
    except Exception as error:  # whatever a foreign executor or a missing module leads to
        reason = " ".join(str(error).split())
        raise CalibrationError(f"a worker failed: {type(error).__name__}: {reason}") from error
    finally:
        for task in tasks:
            task.cancel()
