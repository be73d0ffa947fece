"""Output lines and exit codes of the program itself."""

import logging
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Never

import pytest
from typer.testing import CliRunner

from quantkit.errors import AccuracyError, ModelError
from quantkit_cli import app as program
from quantkit_cli import console
from quantkit_cli.app import app, main


def command_that_raises(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(**options: object) -> Never:
        raise error

    monkeypatch.setattr(program, "app", run)


def test_help_names_every_command() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    for command in app.registered_commands:
        assert re.search(rf"^  {command.name} +\S", result.output, re.MULTILINE), command.name


def test_help_imports_neither_numpy_nor_the_library() -> None:
    code = (
        "import sys; from quantkit_cli.app import main; main(sys.argv[1:]); "
        "heavy = {'numpy', 'onnx', 'onnxruntime', 'quantkit', 'rich'}; "
        "print('imported:', *sorted(heavy & set(sys.modules)))"
    )
    for arguments in (["--help"], ["inspect", "--help"], ["--version"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "imported:", arguments


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"quantkit \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["inspekt"], "no such command 'inspekt'"),
        (["inspect"], "missing argument"),
        (["inspect", "m.onnx", "--jsn"], "no such option"),
    ],
)
def test_usage_errors(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert line in captured.err
    assert captured.out == ""


def test_no_such_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "missing.onnx"]) == 2
    captured = capsys.readouterr()
    expected = "error: model 'missing.onnx' does not exist; give the path of an ONNX file\n"
    assert captured.err == expected
    assert captured.out == ""


def test_not_an_onnx_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("no model")
    assert main(["inspect", str(path)]) == 2
    assert re.fullmatch(r"error: .*text\.onnx' is not an ONNX model.*\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("error", "code", "stderr"),
    [
        (ModelError("node 'a':\n  two lines"), 2, "error: node 'a': two lines\n"),
        (AccuracyError("drop 1.2 > 0.5"), 1, "error: drop 1.2 > 0.5\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (
            KeyError("x"),
            2,
            "error: this is a bug in quantkit (KeyError: 'x'); QUANTKIT_TRACEBACK=1 shows where\n",
        ),
    ],
)
def test_errors_are_one_line_and_a_code(
    error: BaseException,
    code: int,
    stderr: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command_that_raises(error, monkeypatch)
    assert main([]) == code
    assert capsys.readouterr().err == stderr


def test_a_traceback_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command_that_raises(KeyError("x"), monkeypatch)
    monkeypatch.setenv(program.TRACEBACK_VARIABLE, "1")
    assert main([]) == 2
    stderr = capsys.readouterr().err
    assert stderr.startswith("Traceback (most recent call last):")
    assert "this is a bug in quantkit" in stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["warning: a warning", "error: an error"]),
        (["-q"], ["error: an error"]),
        (["-v"], ["info: some news", "warning: a warning", "error: an error"]),
        (["-vv"], ["debug: a detail", "info: some news", "warning: a warning", "error: an error"]),
    ],
)
@pytest.mark.parametrize("before_command", [True, False])
def test_log_lines(
    options: list[str],
    expected: list[str],
    before_command: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = (
        [*options, "inspect", "no.onnx"] if before_command else ["inspect", "no.onnx", *options]
    )
    assert main(arguments) == 2
    capsys.readouterr()
    library = logging.getLogger("quantkit.somewhere")
    library.debug("a %s", "detail")
    library.info("some news")
    library.warning("a\nwarning")
    library.error("an error")
    assert capsys.readouterr().err.splitlines() == expected


def test_python_warnings_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    console.set_up_logging()
    with warnings.catch_warnings(action="always"):
        warnings.showwarning = console._show_warning
        warnings.warn("divided by\nzero", RuntimeWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: divided by zero\n"


def test_tables_keep_long_cells_and_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    name = "/block[red]" + "x" * 200
    console.print_table(["node", "count"], [[name, "7"], ["b", "123"]], right=["count"])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[2] == f"{name}      7"
    assert lines[3].endswith("     123")
