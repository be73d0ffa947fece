"""The ``quantkit`` program: its commands, its errors and its exit codes.

Exit codes: 0 done; 1 a limit asked for was missed; 2 bad usage, model or data; 130 interrupted.
Nothing here imports the library before a command runs.
"""

import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

import typer

from quantkit_cli import console
from quantkit_cli.calibrate_command import calibrate
from quantkit_cli.demo_command import demo
from quantkit_cli.diff_command import diff
from quantkit_cli.export_command import export
from quantkit_cli.inspect_command import inspect
from quantkit_cli.merge_command import merge
from quantkit_cli.quantize_command import quantize
from quantkit_cli.report_command import report
from quantkit_cli.show_command import show
from quantkit_cli.tune_command import tune
from quantkit_cli.verify_command import verify

TRACEBACK_VARIABLE = "QUANTKIT_TRACEBACK"
INTERRUPTED = 130

app = typer.Typer(
    name="quantkit",
    add_completion=False,
    # Plain help texts: rich alone would take half of the start-up time.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMANDS = (
    *(demo, inspect, calibrate, merge, show),
    *(export, quantize, tune, verify, report, diff),
)
for command in _COMMANDS:
    app.command(command.__name__)(command)


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        print(f"quantkit {version('quantkit')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
    quiet: console.Quiet = False,
    verbose: console.Verbose = 0,
) -> None:
    """Post-training quantization of ONNX networks: exact integers, and what they cost."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        arguments: What follows the program's name; None: ``sys.argv``.

    Returns:
        The exit code.
    """
    sys.stdout, sys.stderr = (  # None where they were closed
        stream or io.TextIOWrapper(io.BytesIO()) for stream in (sys.stdout, sys.stderr)
    )
    # Integer kernels have threads of their own; OpenBLAS's wait for each other on a busy machine.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    console.set_up_logging()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name must not fail on an ASCII terminal
            stream.reconfigure(errors="replace")
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with _signals_interrupt():
            code = app(args=given or ["--help"], prog_name="quantkit", standalone_mode=False)
    except SystemExit as done:
        code = done.code
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:
        return _report(error)
    if code == INTERRUPTED:  # Typer turns the exception into this number
        print("interrupted", file=sys.stderr)
    return code if isinstance(code, int) else 0


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """A polite request to end is as good as Ctrl-C, and a second one does not wait for anything."""
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    before = {number: signal.getsignal(number) for number in numbers}
    handled = [n for n, handler in before.items() if handler != signal.SIG_IGN]  # as nohup has it

    def end_at_once(number: int, frame: FrameType | None) -> None:
        os.write(2, b"interrupted\n")
        os._exit(INTERRUPTED)

    def interrupt(number: int, frame: FrameType | None) -> None:
        for other in handled:
            signal.signal(other, end_at_once)
        raise KeyboardInterrupt

    for number in handled:
        signal.signal(number, interrupt)
    try:
        yield
    finally:  # an interrupted process is about to end: a second signal then hastens that
        for number in handled:
            if signal.getsignal(number) is interrupt:
                signal.signal(number, before[number])


def _report(error: Exception) -> int:
    """One line on stderr; every command comes here, so nobody ever sees a traceback unasked."""
    if os.environ.get(TRACEBACK_VARIABLE):
        traceback.print_exception(error)
    usage = getattr(error, "format_message", None)
    if usage is not None:  # a wrong option or argument, found before any command runs
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "quantkit"
        print(f"error: {_sentence(usage())}; see `{command} --help`", file=sys.stderr)
        return 2
    from quantkit.errors import AccuracyError, QuantkitError

    message = " ".join(str(error).split())
    if isinstance(error, QuantkitError | OSError):
        print(f"error: {message}", file=sys.stderr)
        return 1 if isinstance(error, AccuracyError) else 2
    print(
        f"error: this is a bug in quantkit ({type(error).__name__}: {message}); "
        f"{TRACEBACK_VARIABLE}=1 shows where",
        file=sys.stderr,
    )
    return 2


def _sentence(text: str) -> str:
    """Typer's sentence as a part of ours: one line, no capital, no full stop."""
    line = " ".join(text.split()).rstrip(".")
    return line[:1].lower() + line[1:]


if __name__ == "__main__":
    sys.exit(main())
