"""What every command prints, in text and JSON, and which exit code it has."""

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import quantkit
from quantkit.calibration.preprocessing import PRESETS
from quantkit.exporters.contract import EXPORTERS
from quantkit.numerics.arithmetic import ARITHMETICS
from quantkit.range_estimators.contract import RANGE_ESTIMATORS
from quantkit_cli.app import app
from tests.cli.runner import progress_lines, run, run_json

COMMANDS = (
    *("demo", "inspect", "calibrate", "merge", "show"),
    *("export", "quantize", "tune", "verify", "report", "diff"),
)
TWO_POINTS = re.compile(r"\d+\.\d\d")


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(run(f"{command} --help", capsys)[0].split())


def test_every_command_is_here() -> None:
    assert [command.name for command in app.registered_commands] == list(COMMANDS)


def test_without_arguments_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = run("", capsys)
    assert out.startswith("Usage: quantkit")
    assert err == ""


def test_help_of_commands_is_not_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    assert "..." not in run("--help", capsys)[0].replace("[ARGS]...", "")


@pytest.mark.parametrize(
    ("command", "option", "names"),
    [
        ("quantize", "--method", RANGE_ESTIMATORS),
        ("quantize", "--format", EXPORTERS),
        ("calibrate", "--preset", PRESETS),
        ("verify", "--arithmetic", ARITHMETICS),
    ],
)
def test_help_names_every_member_of_a_registry(
    command: str, option: str, names: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = help_of(command, capsys)
    described = text[text.index(option) :].split(" --")[0]
    for name in names:
        assert re.search(rf"\b{name}\b", described), (name, described)


def fastest(arguments: Sequence[str]) -> float:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run([*arguments], capture_output=True, check=True)
        times.append(time.perf_counter() - start)
        assert done.stdout
    return min(times)


def test_help_is_instant() -> None:
    program = str(Path(sys.executable).parent / "quantkit")
    assert fastest([program, "--help"]) < 0.25
    assert fastest([program, "report", "--help"]) < 0.6


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_is_quick(command: str) -> None:
    assert fastest([str(Path(sys.executable).parent / "quantkit"), command, "--help"]) < 0.6


def test_calibrate(workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "a.npz", tmp_path / "b.npz"
    out, err = run(f"calibrate m.onnx c.npz -o {first}", capsys)
    assert out == f"wrote {first}: 13 tensors over 100 samples\n"
    assert progress_lines(err) == [f"calibrate: {done} of 100" for done in (25, 50, 75, 100)]
    facts = run_json(f"calibrate m.onnx c.npz -o {second} --batch-size 7 --threads 1", capsys)
    assert (facts["output"], facts["samples"], facts["tensors"]) == (str(second), 100, 13)
    assert second.read_bytes() == first.read_bytes() == (workbench / "m.calib.npz").read_bytes()


def test_the_default_names_lie_in_the_working_folder(
    workbench: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    model, data = workbench / "m.onnx", workbench / "c.npz"
    assert run(f"calibrate {model} {data}", capsys)[0].startswith("wrote m.calib.npz: ")
    assert "wrote m.int8.onnx: " in run(f"quantize {model} {data}", capsys)[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.calib.npz", "m.int8.onnx"]


def test_num_samples(workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "o"
    assert "over 7 samples" in run(f"calibrate m.onnx c.npz -o {output} --num-samples 7", capsys)[0]
    out, err = run(f"calibrate m.onnx c.npz -o {output} --num-samples 1000", capsys)
    assert "over 100 samples" in out
    assert "warning: 1000 samples asked for, the data hold 100: all are used" in err


def test_quantize_is_calibrate_and_export(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once, table, again = tmp_path / "once.onnx", tmp_path / "t.npz", tmp_path / "again.onnx"
    out, _ = run(
        f"quantize m.onnx c.npz -o {once} --recipe fast --save-calibration {table}", capsys
    )
    assert "biases of 10 nodes corrected" in out
    assert f"wrote {once}: 56.9 kB, m.onnx has 89.7 kB; 100.0 % of multiply-acc" in out
    assert table.read_bytes() == (workbench / "m.calib.npz").read_bytes()
    facts = run_json(f"export m.onnx -c {table} -o {again}", capsys)
    assert again.read_bytes() == once.read_bytes()
    assert facts["bytes"] == once.stat().st_size
    assert facts["source_bytes"] == (workbench / "m.onnx").stat().st_size
    assert (facts["int8_mac_percent"], facts["kept_float"]) == (100.0, {})


def test_options_of_export(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each option does what its help says, read from the exported model."""
    output, recipe = tmp_path / "o.onnx", tmp_path / "r.toml"
    recipe.write_text("per_channel = false\nreduce_range = true\n")

    def exported(options: str) -> quantkit.QuantizedModel:
        run(f"export m.onnx -c m.calib.npz -o {output} {options}", capsys)
        return quantkit.load_quantized(output)

    def weights(model: quantkit.QuantizedModel) -> list[Any]:
        return [x for x in model.constants.values() if x.data.dtype == "int8"]

    assert all(x.params.is_per_channel for x in weights(exported("")))
    assert not any(x.params.is_per_channel for x in weights(exported("--per-tensor")))
    assert max(abs(x.data.astype(int)).max() for x in weights(exported(""))) == 127
    assert max(abs(x.data.astype(int)).max() for x in weights(exported("--reduce-range"))) == 64
    from_recipe = weights(exported(f"--recipe {recipe}"))
    assert not any(x.params.is_per_channel for x in from_recipe)
    assert max(abs(x.data.astype(int)).max() for x in from_recipe) == 64
    won = weights(exported(f"--recipe {recipe} --per-channel --full-range"))
    assert all(x.params.is_per_channel for x in won)
    assert max(abs(x.data.astype(int)).max() for x in won) == 127
    assert "classifier" in exported("--nodes-to-exclude classifier").plan.kept_float
    kept = exported("--op-types-to-quantize Gemm").plan.kept_float
    assert "stem/conv" in kept
    assert "classifier" not in kept


def test_excluded_nodes_are_told(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "o.onnx"
    command = f"export m.onnx -c m.calib.npz -o {output} --nodes-to-exclude block_2/pointwise/conv"
    out, _ = run(command, capsys)
    assert "stays float: block_2/pointwise/conv: excluded" in out
    assert "89.3 % of multiply-accumulates in integers" in out
    report, _ = run(f"report m.onnx {output} --data e.npz --num-samples 32", capsys)
    assert "stays float: block_2/pointwise/conv: excluded by --nodes-to-exclude" in report
    verified, _ = run(f"verify {output} --data e.npz --num-samples 2", capsys)
    assert "stays float: block_2/pointwise/conv: excluded by --nodes-to-exclude" in verified
    assert verified.splitlines()[0].startswith("PASS: 0 of ")
    _, err = run(f"verify {output} --data e.npz --strict-integer", capsys, code=2)
    assert "node 'block_2/pointwise/conv' stays float" in err


def test_a_quantized_model_is_exported_as_it_is(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "again.onnx"
    out, _ = run(f"export m8.onnx -o {output}", capsys)
    assert f"wrote {output}: " in out
    again, _ = run(f"verify {output} --data c.npz", capsys)
    assert again.splitlines()[0].startswith("PASS")


@pytest.mark.parametrize(
    "command",
    [
        "inspect m.onnx",
        "calibrate m.onnx c.npz -o {}",
        "export m.onnx -c m.calib.npz -o {}",
        "quantize m.onnx c.npz -o {}",
        "verify m8.onnx --data e.npz --num-samples 2",
        "report m.onnx m8.onnx --data e.npz --num-samples 2",
    ],
)
def test_quiet_verbose_and_json(
    command: str, workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = command.format(tmp_path / "o")
    out, err = run(f"{command} -q", capsys)
    assert out
    assert err == ""
    assert run_json(f"{command} -vv", capsys)
    _, err = run(f"{command} -vv", capsys)
    if command.startswith(("calibrate", "quantize")):
        assert re.search(r"^info: m.onnx: \d+ nodes after \d+ edits$", err, re.MULTILINE)
        assert "debug: fold_batch_norm: " in err


def test_the_preprocessing_of_the_model_is_used_again(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "o.onnx"
    run(f"quantize m.onnx pictures --mean 8 --std 16 -o {output}", capsys)
    stored, _ = run(f"verify {output} --data pictures --json", capsys)
    given, _ = run(f"verify {output} --data pictures --mean 8 --std 16 --json", capsys)
    other, _ = run(f"verify {output} --data pictures --preset unit --json", capsys)
    assert stored == given
    assert stored != other
    run(f"report m.onnx {output} --data pictures --labels good.csv", capsys)


def test_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    start = time.perf_counter()
    out, err = run("demo --output there", capsys)
    assert time.perf_counter() - start < 60
    commands = [line for line in out.splitlines() if line.startswith("$ ")]
    verbs = [line.split()[2] for line in commands]
    assert verbs == ["calibrate", "export", "verify", "report", "export", "report"]
    for text in ("PASS: 0 of ", "No cause found: ", "--per-channel"):
        assert text in out
    listed = out[out.index("The files in there/:") :].splitlines()[1:]
    files = sorted(path.name for path in (tmp_path / "there").iterdir())
    assert sorted(line.split()[0] for line in listed) == files
    assert "error" not in err
    # What is shown can be typed.
    assert run(commands[1].removeprefix("$ quantkit "), capsys)[0]
