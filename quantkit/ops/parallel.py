"""A kernel's work in blocks, on several threads.

NumPy releases the interpreter's lock while it computes, so threads run at the same time as long as
each call takes much longer than handing over that lock: some 10 µs, or 100,000 numbers. Blocks are
independent and the arithmetic is exact: codes depend neither on the blocks nor on the threads.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import TypeVar

import numpy as np

Block = TypeVar("Block")

# Larger than the L2 cache, which costs less than it saves: calls long enough for threads, and
# arrays above the 4 MiB from which NumPy asks the system for huge pages.
_BLOCK_BYTES = 8 * 1024 * 1024
# Less work than this is done before another thread has begun.
_SHARE_BYTES = 512 * 1024
# Requantizing a sum in integers takes some eight temporaries of 64 bits.
_INTEGER_SUM_BYTES = 64


def available_threads() -> int:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cut(samples: int, rows: int, row_bytes: int, threads: int) -> list[tuple[slice, slice]]:
    """Cut a batch into blocks of whole samples or, where those are large, of rows of one sample.

    Args:
        samples: Size of the batch.
        rows: Rows (channels, or whatever else is independent) of a sample.
        row_bytes: What a row needs while it is worked on.
        threads: How many to have blocks for, nearly equal ones, where that much can be cut.

    Returns:
        Pairs of a slice of samples and a slice of rows.
    """
    threads = max(1, min(threads, samples * rows * row_bytes // _SHARE_BYTES))
    most = max(1, _BLOCK_BYTES // row_bytes)
    if samples >= threads and rows <= most:
        return [(some, slice(0, rows)) for some in _even(samples, most // rows, threads)]
    return [
        (slice(sample, sample + 1), some)
        for sample in range(samples)
        for some in _even(rows, most, -(-threads // samples))
    ]


def sum_bytes(carrier: np.dtype[np.number]) -> int:
    """What a sum needs until it is a code."""
    return _INTEGER_SUM_BYTES if carrier.kind == "i" else carrier.itemsize


def for_each(work: Callable[[Block], None], blocks: Sequence[Block], threads: int) -> None:
    """Call ``work`` once per block, on the calling thread and up to ``threads - 1`` others.

    Args:
        work: Must not call this function; writes its results to where no other block does.
        blocks: In the order in which they are begun.
        threads: At least 1.
    """
    # The interpreter's lock makes next() on a list's iterator atomic: every block is taken once.
    remaining = iter(blocks)

    def take_blocks() -> None:
        for block in remaining:
            work(block)

    others: list[Future[None]] = []
    try:
        for _ in range(min(threads, len(blocks)) - 1):
            others.append(_pool().submit(take_blocks))
    except RuntimeError as error:
        # Once the main thread has ended Python begins no others: the calling one does it all.
        if "shutdown" not in str(error):
            raise
    try:
        take_blocks()
    except BaseException:
        # Ctrl-C comes to the calling thread: nobody shall begin another block.
        for _ in remaining:
            pass
        raise
    for other in others:
        # A thread that has not begun by now finds nothing left to do.
        if not other.cancel():
            other.result()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(available_threads(), thread_name_prefix="quantkit")


# A forked process inherits the pool but none of its threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)


def _even(total: int, most: int, multiple: int) -> list[slice]:
    """Slices of at most ``most``, nearly equal, whose number is a multiple where that is possible.

    ``multiple`` threads then finish at the same time.
    """
    count = -(-total // most)
    count = min(total, -(-count // multiple) * multiple)
    bounds = [index * total // count for index in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]
