"""``quantkit report``: its files, its limits, and what it refuses before it measures."""

import csv
import json
import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from quantkit.pipeline import fixes
from quantkit.reporting.report import Report, TriedFix
from quantkit_cli import report_options
from tests.cli.runner import contents, run

DAMAGE = "--per-tensor --no-bias-correction --no-cross-layer-equalization"
SHORT = "--data e.npz --num-samples 48 --no-integer-session"


@pytest.fixture(scope="module")
def damaged(filled_workbench: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network with one scale per weight, of which almost nothing is left."""
    from quantkit_cli.app import main

    path = tmp_path_factory.mktemp("damaged") / "d8.onnx"
    model, table = filled_workbench / "m.onnx", filled_workbench / "m.calib.npz"
    assert main(["export", str(model), "-c", str(table), "-o", str(path), *DAMAGE.split()]) == 0
    return path


def test_every_form_and_one_line_for_the_limits(
    workbench: Path, damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("r.html", "r.md", "r.json", "r.csv", "r.xml")
    files = " ".join(f"-o {tmp_path / name}" for name in names)
    limits = "--max-drop 0.5 --min-sqnr 0 --min-agreement 50"
    out, err = run(f"report m.onnx {damaged} {SHORT} {files} {limits}", capsys, code=1)
    assert sorted(contents(tmp_path)) == sorted(names)
    for line, name in zip(out.splitlines()[-5:], names, strict=True):
        assert line.startswith(f"wrote {tmp_path / name}: ")
        assert line.endswith((" kB", " MB"))
    report = Report.model_validate_json((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert report.drop is not None
    (error,) = [line for line in err.splitlines() if line.startswith("error: ")]
    drop = f"{report.drop.points:.2f}"
    assert error.startswith(f"error: top-1 drop {drop} points exceeds --max-drop 0.5 by ")
    assert f"exceeds --max-drop 0.5 by {report.drop.points - 0.5:.2f} (95 % interval +" in error
    assert "; SQNR -" in error
    assert "; agreement " in error
    root = ElementTree.fromstring((tmp_path / "r.xml").read_text(encoding="utf-8"))
    messages = [node.attrib["message"] for node in root.iter("failure")]
    assert error == f"error: {'; '.join(messages)}"
    with (tmp_path / "r.csv").open(newline="", encoding="utf-8") as stream:
        assert len(list(csv.DictReader(stream))) == len(report.layers)


def test_kept_limits_end_well(workbench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = "--max-drop 0 --min-sqnr 30 --min-agreement 100"
    _, err = run(f"report m.onnx m8.onnx {SHORT} {limits}", capsys)
    assert "error" not in err


def test_json_on_stdout_is_json_alone(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.json"
    out, _ = run(f"report m.onnx m8.onnx {SHORT} --json -o {path}", capsys)
    assert out == path.read_text(encoding="utf-8")
    assert Report.model_validate_json(out).samples == 48


def test_a_metric_is_judged_in_its_own_units(
    workbench: Path, damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = "def right(outputs, labels):\n    (found,) = outputs.values()\n"
    source += "    return float((found.argmax(1) == labels).mean())\n"
    (tmp_path / "own.py").write_text(source)
    metric = f"{tmp_path / 'own.py'}:right"
    command = f"report m.onnx {damaged} {SHORT} --metric {metric} --max-drop 0.5"
    out, err = run(command, capsys, code=1)
    assert "\nright: the drop of 0." in out
    assert "exceeds --max-drop 0.5 by 0." in err


def test_without_a_float_model(workbench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "report m8.onnx --data e.npz --num-samples 48 --min-sqnr 60 --min-agreement 100"
    out, _ = run(command, capsys)
    assert out.startswith("m8.onnx, without a float model\n48 samples.\nThere is no float model: ")


def test_class_names(
    workbench: Path, damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "names.txt").write_text("".join(f"digit{n}\n" for n in range(10)))
    out, _ = run(f"report m.onnx {damaged} {SHORT} --class-names {tmp_path}/names.txt", capsys)
    row = out[out.index("Changed classes") :].splitlines()[3].split()
    assert row[0].startswith("digit")
    assert row[1].startswith("digit")


def test_fixes_are_tried(
    workbench: Path, damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--try-fixes --calibration m.calib.npz --json"
    out, _ = run(f"report m.onnx {damaged} {SHORT} {options}", capsys)
    control, *found = json.loads(out)["fixes"]
    assert control["cause"] == ""
    assert found[0]["sqnr_db"][1] > found[0]["sqnr_db"][0] + 20.0
    assert found[0]["text"].startswith("--per-channel")


def test_fixes_that_fail_lose_no_report(
    workbench: Path,
    damaged: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "r.json"
    command = f"report m.onnx {damaged} {SHORT} --try-fixes -o {path}"
    run(f"{command} --calibration nine_rows.npz", capsys)
    written = Report.model_validate_json(path.read_text(encoding="utf-8"))
    assert [fix.sqnr_db for fix in written.fixes] == [None] * len(written.fixes)
    assert all("9" in str(fix.error) for fix in written.fixes)
    _, err = run(f"{command} --calibration no_sample.npz", capsys)
    assert "warning: no fix was tried: " in err
    assert Report.model_validate_json(path.read_text(encoding="utf-8")).fixes == ()
    path.unlink()

    def interrupted(*arguments: object, **options: object) -> tuple[TriedFix, ...]:
        raise KeyboardInterrupt

    monkeypatch.setattr(fixes, "try_fixes", interrupted)
    run(command, capsys, code=130)
    assert Report.model_validate_json(path.read_text(encoding="utf-8")).samples == 48


def test_a_healthy_network_has_nothing_to_fix(
    workbench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, err = run(f"report m.onnx m8.onnx {SHORT} --try-fixes", capsys)
    assert "warning: no fix was tried: no cause has a remedy that can be applied" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("m.onnx m8.onnx m8.onnx --data e.npz", "[FLOAT] QUANTIZED, got 3: m.onnx, m8.onnx, m8"),
        ("m.onnx m8.onnx --data e.npz -o x.pdf", "known: .html, .md, .json, .csv, .xml"),
        ("m.onnx m8.onnx --data e.npz -o report", "a report has no form ''"),
        ("m.onnx m8.onnx --data e.npz -o r.md -o ./r.md", "'r.md' is given twice"),
        ("m.onnx m8.onnx --data e.npz -o no/r.md", "the folder 'no' does not exist"),
        ("m.onnx m8.onnx --data e.npz -o d.html", "'d.html' is a folder"),
        ("m.onnx m8.onnx --data e.npz -o sealed/r.md", "the folder 'sealed' is read-only"),
        ("m.onnx same.xml --data e.npz -o same.xml", "would overwrite 'same.xml'"),
        ("m.onnx m8.onnx --data e.npz --labels good.csv -o good.csv", "would overwrite 'good.csv'"),
        ("m.onnx m8.onnx --data e.npz --max-drop nan", "--max-drop: a number of 0 or more"),
        ("m.onnx m8.onnx --data e.npz --min-sqnr -3", "--min-sqnr: a number of 0 or more"),
        ("m.onnx m8.onnx --data e.npz --min-agreement 101", "a share of per cent"),
        ("m8.onnx --data e.npz --max-drop 1", "--max-drop cannot be judged: .*float model"),
        ("m.onnx m8.onnx --data c.npz --max-drop 1", "--max-drop cannot be judged: .*--labels"),
        ("m.onnx m8.onnx --data pictures --max-drop 1", "--max-drop cannot be judged: "),
        ("m8.onnx --data e.npz --min-sqnr 1 --no-integer-session", "leave out --no-integer-ses"),
        ("m8.onnx --data e.npz --try-fixes", "--try-fixes needs the float model"),
        ("m.onnx m8.onnx --data e.npz --calibration m.calib.npz", "--calibration is for --try-fix"),
        ("m.onnx m8.onnx --data e.npz --try-fixes --calibration zz", "'zz' does not exist"),
        ("m.onnx m8.onnx --data e.npz --try-fixes -c truncated.calib.npz", "truncated.calib.npz"),
        ("m.onnx m8.onnx --data e.npz --class-names zz.txt", "'zz.txt' cannot be read"),
        ("m.onnx m8.onnx --data e.npz --metric top2", "top2"),
    ],
)
def test_refused_before_anything_is_measured(
    arguments: str,
    message: str,
    workbench: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for path in workbench.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "same.xml").write_bytes((workbench / "m8.onnx").read_bytes())
    (tmp_path / "d.html").mkdir()
    (tmp_path / "sealed").mkdir(mode=0o500)
    access = os.access
    # Root may write anywhere.
    monkeypatch.setattr(
        "os.access", lambda path, mode: str(path) != "sealed" and access(path, mode)
    )
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    out, err = run(f"report {arguments}", capsys, code=2)
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    part, _, rest = message.partition(".*")
    assert part in line
    assert rest in line
    assert contents(tmp_path) == before


def test_a_limit_that_turns_out_unjudgeable_loses_no_report(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Labels may come with a function's samples; only reading them tells."""
    source = "import numpy as np\n\ndef samples():\n    found = np.load('c.npz')['input']\n"
    (tmp_path / "own.py").write_text(f"{source}    return [{{'input': x}} for x in found[:8]]\n")
    data, files = f"{tmp_path / 'own.py'}:samples", f"-o {tmp_path / 'r.xml'}"
    command = f"report m.onnx m8.onnx --data {data} --no-integer-session --max-drop 1 {files}"
    out, err = run(command, capsys, code=2)
    assert "wrote " in out
    assert err.splitlines()[-1].startswith("error: --max-drop cannot be judged: ")
    assert 'errors="1"' in (tmp_path / "r.xml").read_text(encoding="utf-8")


def test_the_command_line_is_kept_without_the_users_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    given = ["/usr/bin/quantkit", "report", f"{tmp_path}/a b.onnx", "-d", f"{tmp_path}x/e.npz"]
    monkeypatch.setattr("sys.argv", given)
    expected = f"quantkit report '~/a b.onnx' -d {tmp_path}x/e.npz"
    assert report_options.command_line() == expected
