import subprocess
import sys
from dataclasses import replace
from threading import Barrier, Event, get_ident
from time import sleep

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkit.ops import parallel
from quantkit.ops.parallel import cut, for_each
from tests.ops.case import Case
from tests.ops.checks import lower, run
from tests.ops.product_cases import conv_cases


@given(st.integers(0, 20), st.integers(1, 300), st.integers(1, 2**24), st.integers(1, 9))
def test_blocks_cover_a_batch_once(samples: int, rows: int, row_bytes: int, threads: int) -> None:
    visits = np.zeros((samples, rows), int)
    for some_samples, some_rows in cut(samples, rows, row_bytes, threads):
        block = visits[some_samples, some_rows]
        assert block.size
        assert block.size * row_bytes <= parallel._BLOCK_BYTES or block.size == 1
        block += 1
    assert (visits == 1).all()


@pytest.mark.parametrize(
    ("samples", "rows", "threads", "blocks"),
    [(8, 4, 2, 2), (8, 4, 3, 3), (1, 7, 2, 2), (2, 7, 4, 4), (3, 5, 2, 2), (1, 1, 4, 1)],
)
def test_every_thread_has_a_block_of_the_same_size(
    samples: int, rows: int, threads: int, blocks: int
) -> None:
    row_bytes = parallel._BLOCK_BYTES // (samples * rows)
    sizes = [
        (part.stop - part.start) * (row.stop - row.start)
        for part, row in cut(samples, rows, row_bytes, threads)
    ]
    assert len(sizes) == blocks
    assert max(sizes) - min(sizes) <= rows


def test_a_small_batch_is_not_cut() -> None:
    assert cut(2, 3, parallel._SHARE_BYTES // 6, 4) == [(slice(0, 2), slice(0, 3))]


def test_blocks_are_worked_on_at_the_same_time() -> None:
    # Every block waits for the other one: on a single thread this would time out.
    meeting, threads = Barrier(2), set()

    def work(_: int) -> None:
        meeting.wait(timeout=10)
        threads.add(get_ident())

    for_each(work, [0, 1], threads=2)
    assert len(threads) == 2


def test_every_block_is_taken_once() -> None:
    taken: list[int] = []
    for_each(taken.append, list(range(1000)), threads=8)
    assert sorted(taken) == list(range(1000))


def test_one_thread_is_the_calling_one() -> None:
    threads: list[int] = []
    for_each(lambda _: threads.append(get_ident()), [0, 1, 2], threads=1)
    assert threads == [get_ident()] * 3


def test_errors_of_other_threads_are_raised() -> None:
    meeting, caller = Barrier(2), get_ident()

    def work(_: int) -> None:
        meeting.wait(timeout=10)
        if get_ident() != caller:
            raise MemoryError("block")

    with pytest.raises(MemoryError, match="block"):
        for_each(work, [0, 1], threads=2)


def test_nobody_begins_a_block_after_an_interruption() -> None:
    begun, interrupted = Barrier(2), Event()
    taken: list[int] = []

    def work(block: int) -> None:
        taken.append(block)
        begun.wait(timeout=10)
        if get_ident() == caller:
            interrupted.set()
            raise KeyboardInterrupt
        interrupted.wait(timeout=10)
        sleep(0.1)

    caller = get_ident()
    with pytest.raises(KeyboardInterrupt):
        for_each(work, list(range(100)), threads=2)
    sleep(0.3)
    assert sorted(taken) == [0, 1]


def test_a_forked_process_has_threads_of_its_own() -> None:
    program = """
import os
from threading import Barrier
from quantkit.ops.parallel import for_each

def meet():
    meeting = Barrier(2)
    for_each(lambda _: meeting.wait(timeout=10), [0, 1], threads=2)

meet()
child = os.fork()
meet()
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_thread_that_outlives_the_main_one_works_alone() -> None:
    program = """
import threading
from quantkit.ops.parallel import for_each

def late():
    threading.main_thread().join()
    taken = []
    for_each(taken.append, list(range(100)), threads=2)
    print(sorted(taken) == list(range(100)))

for_each(print, [], threads=2)
threading.Thread(target=late).start()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, timeout=60, capture_output=True, text=True
    )
    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize("strict_integer", [False, True])
@pytest.mark.parametrize("case", conv_cases(), ids=repr)
def test_codes_depend_neither_on_blocks_nor_on_threads(
    case: Case, strict_integer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(case, "onnxruntime", strict_integer=strict_integer)
    monkeypatch.setattr(parallel, "_SHARE_BYTES", 1)
    for block_bytes, threads in ((2**23, 2), (2**23, 7), (2**12, 3), (1, 1)):
        monkeypatch.setattr(parallel, "_BLOCK_BYTES", block_bytes)
        lowering = replace(
            case.lowering("onnxruntime", strict_integer=strict_integer), threads=threads
        )
        (codes,) = lower(lowering)(case.data)
        np.testing.assert_array_equal(codes, expected)
