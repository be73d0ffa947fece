"""Workers that share a pass: processes of this machine, or those of a Dask cluster."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager

from quantkit.errors import ConfigError

_SECONDS_TO_CONNECT = 10


@contextmanager
def local_processes(workers: int) -> Iterator[Executor]:
    """Processes of this machine; unfinished tasks are dropped at the end.

    The processes leave interruptions to this one, and end when it ends, however that comes.

    Args:
        workers: How many.

    Raises:
        ConfigError: ``workers`` is below 1.
    """
    if workers < 1:
        raise ConfigError(f"the number of workers must be at least 1, got {workers}")
    others = multiprocessing.active_children()
    # A forked process would inherit the locks of threads that it does not have.
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_begin_worker
    )
    try:
        yield pool
    except BaseException:  # nobody waits for what is under way
        for process in multiprocessing.active_children():
            if process not in others:
                process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all of its processes
    # What a worker would warn of reaches the user with its part.
    logging.getLogger("quantkit").setLevel(logging.ERROR)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def dask_cluster(address: str) -> Iterator[Executor]:
    """The workers of a running Dask cluster; tasks of a worker that dies go to another one.

    Args:
        address: Of the scheduler, as ``tcp://host:8786``.

    Raises:
        ConfigError: The package ``distributed`` is not installed, or nobody answers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError(
            "a Dask cluster needs the package distributed; install quantkit with its extra 'dask'"
        ) from error
    # What goes wrong is told in one line here.
    for name in ("distributed", "asyncio", "tornado"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        client = Client(address, timeout=_SECONDS_TO_CONNECT)
    except Exception as error:  # a malformed address leads to errors of several kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"no Dask scheduler answers at {address!r} ({reason}); give an address such as "
            "tcp://host:8786"
        ) from error
    with client:
        yield client.get_executor(pure=False)
