"""What every command shares: log lines, progress, tables and the options ``-q`` and ``-v``.

Results go to stdout; everything else (log lines, progress, errors) goes to stderr.
"""

import logging
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Annotated, TextIO

import typer

from quantkit_cli.pace import measured_pace

logger = logging.getLogger("quantkit")
Progress = Callable[[int, int], None]
"""Called with what is done and what there is in all."""
LONGEST_SILENCE_S = 30.0


class _LineHandler(logging.Handler):
    """One line per record, to whatever ``sys.stderr`` is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write ``level: message``."""
        message = " ".join(record.getMessage().split())
        print(f"{record.levelname.lower()}: {message}", file=sys.stderr)


def set_up_logging() -> None:
    """Show warnings of the library, and Python's, as one line each; once per process or test."""
    logger.handlers = [_LineHandler()]
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    warnings.showwarning = _show_warning


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    logger.warning("%s", message)


def _be_quiet(value: bool) -> bool:
    if value:
        logger.setLevel(logging.ERROR)
    return value


def _be_verbose(value: int) -> int:
    if value:
        logger.setLevel(logging.INFO if value == 1 else logging.DEBUG)
    return value


Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", help="Neither progress nor warnings on stderr.", callback=_be_quiet
    ),
]
"""Give every command a parameter ``quiet: Quiet = False``; the callback does the work."""

Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        show_default=False,
        metavar="",
        help="Say on stderr what is being done; twice: in detail.",
        callback=_be_verbose,
    ),
]
"""Give every command a parameter ``verbose: Verbose = 0``; the callback does the work."""


@contextmanager
def progress(description: str) -> Iterator[Progress]:
    """A bar on a terminal, otherwise plain lines; nothing with ``-q``.

    A line comes at each quarter, and after 30 s without one. The rate is the mean since the first
    call, so what an earlier run had done does not count.

    Args:
        description: What is being done, in a word or two ("calibrate").

    Yields:
        To be called with what is done and what there is in all.
    """
    if not logger.isEnabledFor(logging.WARNING):
        yield lambda done, total: None
    elif sys.stderr.isatty():
        with _bar(description) as advance:
            yield advance
    else:
        yield _lines(description)


@contextmanager
def sections() -> Iterator[Callable[[str, int, int], None]]:
    """One :func:`progress` after the other, each begun when it is first heard of.

    Yields:
        To be called with the section's name, what is done of it and what there is in all.
    """
    with ExitStack() as stack:
        known: dict[str, Progress] = {}

        def advance(section: str, done: int, total: int) -> None:
            if section not in known:
                stack.close()
                known[section] = stack.enter_context(progress(section.replace("_", " ")))
            known[section](done, total)

        yield advance


@contextmanager
def _bar(description: str) -> Iterator[Progress]:
    import rich.progress
    from rich.console import Console

    with rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn("{task.fields[pace]}"),
        console=Console(stderr=True),
    ) as bars:
        task = bars.add_task(description, total=None, pace="")
        pace = measured_pace()

        def advance(done: int, total: int) -> None:
            words = ", ".join(pace(done, total))
            bars.update(task, completed=done, total=total, pace=words)

        yield advance


def _lines(description: str) -> Progress:
    said, said_at = 0, time.monotonic()
    pace = measured_pace()

    def advance(done: int, total: int) -> None:
        nonlocal said, said_at
        words = pace(done, total)
        quarter = 4 * done // total if total else 4
        if quarter > said or time.monotonic() - said_at >= LONGEST_SILENCE_S:
            said, said_at = quarter, time.monotonic()
            line = ", ".join((f"{description}: {done} of {total}", *words))
            print(line, file=sys.stderr)

    return advance


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[str] = (),
    name: str | None = None,
    title: str | None = None,
) -> None:
    """Print a table to stdout; cells are never cut off unless the terminal is too narrow.

    Args:
        columns: Their headings.
        rows: One text per column.
        right: Headings of the columns that are aligned to the right (numbers).
        name: Heading of the column of layers' names, shortened on a narrow terminal.
        title: A line above it.
    """
    from quantkit.reporting.terminal_table import make_console, make_table

    if title is not None:
        print(f"{title}\n")
    console = make_console()
    console.print(make_table(columns, rows, width=console.width, right=right, name=name))
    print()
