"""Output lines and exit codes of the program itself and of ``inspect``."""

import json
import logging
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Never

import numpy as np
import onnx_ir as ir
import pytest
from typer.testing import CliRunner

from quantkit.errors import AccuracyError, ModelError
from quantkit.graph.model_io import save_model
from quantkit_cli import app as program
from quantkit_cli import console
from quantkit_cli.app import app, main


@pytest.fixture
def separable_model(tmp_path: Path) -> Path:
    """Depthwise 3x3, BatchNormalization, Relu, pointwise, Erf: 4 -> 8 channels on 6 x 6 pixels."""
    rng = np.random.default_rng(0)
    model = ir.from_onnx_text(
        """
        <ir_version: 10, opset_import: ["" : 17]>
        net (float[batch, 4, 6, 6] x) => (float[batch, 8, 6, 6] y) {
            [depthwise] h = Conv <group = 4, pads = [1, 1, 1, 1]> (x, w1)
            [bn] n = BatchNormalization (h, gamma, beta, mean, variance)
            [relu] r = Relu (n)
            [pointwise] p = Conv (r, w2)
            [erf] y = Erf (p)
        }
        """
    )
    constants = {
        "w1": rng.normal(size=(4, 1, 3, 3)),
        "w2": rng.normal(size=(8, 4, 1, 1)),
        "gamma": np.ones(4),
        "beta": np.zeros(4),
        "mean": np.zeros(4),
        "variance": np.ones(4),
    }
    used = {value.name: value for node in model.graph for value in node.inputs if value is not None}
    for name, array in constants.items():
        value = used[name]
        value.const_value = ir.tensor(array.astype(np.float32), name=name)
        model.graph.register_initializer(value)
    path = tmp_path / "net.onnx"
    save_model(model, path)
    return path


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


def test_inspect_shows_layers_and_savings(separable_model: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", str(separable_model)])
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    # 4 * 36 * 9 and 8 * 36 * 4; each has a bias after the fold.
    assert "depthwise Conv batchx4x6x6 1,296 40 int8" in lines
    assert "relu Relu batchx4x6x6 - - in Conv" in lines
    assert "pointwise Conv batchx8x6x6 1,152 40 int8" in lines
    assert "erf Erf batchx8x6x6 - - float" in lines
    assert any(line.startswith("stays float: erf: ") for line in lines)
    assert "BatchNormalization folded: 1" in lines
    # 1/8 + 1/9 of 8 * 36 * 4 * 9.
    assert "depthwise 8 3x3 2,448 10,368 0.2361" in lines
    assert "saved against standard convolutions: 7,920 of 10,368 MACs (76.4 %)" in lines
    assert "total: 2,448 MACs per sample, 80 parameters after folding" in lines
    assert "int8: 100.00 % of the MACs" in lines


def test_inspect_json(separable_model: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", str(separable_model), "--json"])
    facts = json.loads(result.output)
    assert facts["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["batch", 4, 6, 6]}]
    assert [layer["macs"] for layer in facts["layers"]] == [1296, 0, 1152, 0]
    assert [layer["int8"] for layer in facts["layers"]] == [True, True, True, False]
    assert facts["layers"][3]["float_reason"]
    assert facts["layers"][1]["absorbed_by"] == "depthwise"
    totals = facts["totals"]
    assert (totals["macs"], totals["int8_macs"], totals["saved_macs"]) == (2448, 2448, 7920)
    assert totals["parameters"] == 80
    assert [block["ratio"] for block in facts["separable_blocks"]] == [2448 / 10368]
    assert "fold_batch_norm" in {note["pass"] for note in facts["preparation"] if note["applied"]}


def test_inspect_says_what_was_refused_and_what_is_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "loose.onnx"
    model = ir.from_onnx_text(
        """
        <ir_version: 10, opset_import: ["" : 17]>
        net (float[batch, 2, height] x, float[4, 2, 1] w) => (float[batch, 4, width] y) {
            [conv] h = Conv (x, w)
            [relu] y = Relu (h)
        }
        """
    )
    save_model(model, path)
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert "total: at least 0 MACs" in out
    assert "not counted, for want of known shapes: 1 of the nodes: conv" in out
    assert "stays float: conv: " in out
