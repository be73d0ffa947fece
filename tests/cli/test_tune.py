"""``quantkit tune``: what it says and writes, and how it is interrupted."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from quantkit.recipes import read_config
from quantkit_cli.app import main
from tests.cli.runner import contents, progress_lines, run, run_json
from tests.tuned_network import CONFIG, CULPRIT, planted_network, samples

PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from quantkit_cli.app import main
sys.exit(main(sys.argv[1:]))
"""
RECIPE = "".join(
    f"{name} = false\n" for name, value in CONFIG.model_dump().items() if value is False
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the planted network in it."""
    ir.save(planted_network(), tmp_path / "p.onnx")
    np.save(tmp_path / "d.npy", samples())
    np.save(tmp_path / "labels.npy", np.arange(24) % 4)
    (tmp_path / "base.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


TUNE = "tune p.onnx d.npy --recipe base.toml --min-sqnr 25 -o o.toml"


def test_the_recipe_is_what_quantize_takes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = run(TUNE, capsys)
    assert re.search(rf"^{CULPRIT} +Conv +40\.0 ", out, re.MULTILINE)
    assert re.search(r"^in float +SQNR dB  MACs in int8 %  latency ms$", out, re.MULTILINE)
    assert re.search(r"^1 +\d+\.\d\d +60\.0 +\d+\.\d\d +chosen$", out, re.MULTILINE)
    text = " ".join(out.split())
    assert (
        f"Kept in float, 1 layer ({CULPRIT}): meets an SQNR of at least 25.00 dB on these 24 "
        "samples" in text
    )
    assert "Other samples may say otherwise" in text
    assert "wrote o.toml: quantkit quantize p.onnx DATA --recipe o.toml" in text
    assert "rank layers: 4 of 4" in progress_lines(err)
    config = read_config("o.toml")
    assert config == CONFIG.model_copy(update={"nodes_to_exclude": (CULPRIT,)})
    assert (folder / "o.toml").read_text().startswith("# quantkit tune p.onnx: meets an SQNR of")
    facts = run_json("quantize p.onnx d.npy --recipe o.toml -o p8.onnx", capsys)
    assert CULPRIT in facts["kept_float"]


def test_json_and_resuming(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run_json(TUNE, capsys)
    assert first["is_met"]
    assert first["chosen"]["kept"] == [CULPRIT]
    assert first["layers"][0]["name"] == CULPRIT
    assert first["state"] == "o.toml.tune.jsonl"
    assert first["float_value"] is None
    assert first["measurements"] > 0
    second = run_json(f"{TUNE} --resume", capsys)
    assert second["measurements"] == 0
    assert second["layers"] == first["layers"]
    assert second["config"] == first["config"]
    _, err = run(TUNE, capsys)
    assert "warning: measuring anew: --resume would take the measurements in o.toml.tune" in err


def test_a_limit_that_is_missed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "tune p.onnx d.npy --recipe base.toml --min-sqnr 90 --keep 16bit -o o.toml"
    out, err = run(command, capsys, code=1)
    assert "No set of layers found meets an SQNR of at least 90.00 dB" in " ".join(out.split())
    last = err.splitlines()[-1]
    assert last.startswith("error: no set of layers found meets an SQNR of at least 90.00 dB")
    assert last.endswith("its recipe is in o.toml")
    read_config("o.toml")


def test_top1_comes_with_its_interval(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run("tune p.onnx d.npy --max-drop 50 --labels labels.npy", capsys)
    text = " ".join(out.split())
    assert "All layers in int8 meet top1 of at least" in text
    assert "on these 24 samples" in text
    assert "(95 % interval of the drop" in text
    assert (folder / "p.recipe.toml").is_file()


def test_a_calibration_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("calibrate p.onnx d.npy -o t.npz", capsys)
    _, err = run(f"{TUNE} --calibration t.npz", capsys)
    assert "calibrate" not in err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("tune none.onnx d.npy --max-drop 1", "model 'none.onnx' does not exist"),
        ("tune p.onnx none.npy --max-drop 1", "data 'none.npy' does not exist"),
        ("tune p.onnx d.npy", "say how much may be lost: either --max-drop"),
        ("tune p.onnx d.npy --max-drop 1 --min-sqnr 9", "are two limits"),
        ("tune p.onnx d.npy --max-drop -1", "0 or more is expected, got -1"),
        ("tune p.onnx d.npy --max-drop 1 --metric sqnr", "give --min-sqnr"),
        ("tune p.onnx d.npy --max-drop 1 --metric nope", "unknown metric 'nope'; known: top1"),
        ("tune p.onnx d.npy --max-drop 1 --metric a:b", "metric 'a:b': 'a' cannot be imported"),
        ("tune p.onnx d.npy --max-drop 1 --metric top1", "the data hold no labels"),
        ("tune p.onnx d.npy --max-drop 1 --labels none.csv", "labels 'none.csv' do not exist"),
        ("tune p.onnx d.npy --max-drop x", "invalid value for '--max-drop'"),
        ("tune p.onnx d.npy --max-drop nan", "--max-drop: a number is expected, got nan"),
        ("tune p.onnx d.npy --max-drop 1 --keep 8bit", "--keep: float or 16bit, got '8bit'"),
        ("tune p.onnx d.npy --max-drop 1 --calibration d.npy", "is not a calibration file"),
        ("tune p.onnx d.npy --max-drop 1 --recipe none.toml", "none.toml"),
        ("tune p.onnx d.npy --max-drop 1 --nodes-to-exclude no", "no node is called 'no'"),
        ("tune p.onnx d.npy --max-drop 1 --search-data none", "data 'none' does not exist"),
        ("tune p.onnx d.npy --max-drop 1 -o d.npy", "would overwrite 'd.npy', which is read here"),
        ("tune p.onnx d.npy --max-drop 1 -o none/o.toml", "the folder 'none' does not exist"),
        ("tune p.onnx d.npy --max-drop 1 -o o --resume", "the measurements in 'o.tune.jsonl'"),
        ("tune p.onnx d.npy --max-drop 1 --num-samples 0", "invalid value for '--num-samples'"),
    ],
)
def test_one_clear_line(
    command: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "o.tune.jsonl").write_text('{"work": "other"}\n')
    before = contents(folder)
    assert main(command.split()) == 2
    captured = capsys.readouterr()
    progress = re.compile(r"calibrate: \d+ of \d+")
    lines = [line for line in progress_lines(captured.err) if not progress.fullmatch(line)]
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert "bug in quantkit" not in lines[0]
    assert captured.out == ""
    assert {name: at for name, at in contents(folder).items() if "pycache" not in name} == before


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted(
    number: signal.Signals, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("many.npy", np.tile(samples(), (80, 1, 1, 1)))
    command = TUNE.replace("d.npy", "many.npy --num-samples 1920")
    whole = run_json(command.replace("o.toml", "whole.toml"), capsys)
    state = folder / "o.toml.tune.jsonl"
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *command.split()], stderr=subprocess.PIPE, text=True
    ) as process:
        end = time.monotonic() + 60
        while not state.exists() or state.read_bytes().count(b"\n") < 4:
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    assert "Traceback" not in err
    if number == signal.SIGINT:
        assert err.splitlines()[-1] == "interrupted"
        assert f"what is measured is kept in {state.name}: go on with --resume" in err
    assert not (folder / "o.toml").exists()
    done = state.read_bytes().count(b"\n") - 1
    resumed = run_json(f"{command} --resume", capsys)
    assert resumed["measurements"] == whole["measurements"] - done
    assert resumed["layers"] == whole["layers"]
    assert resumed["config"] == whole["config"]
