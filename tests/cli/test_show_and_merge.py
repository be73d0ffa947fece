"""``show`` and ``merge``: what they print and write."""

import os
import re
import shutil
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantkit.calibration.table import CalibrationTable
from quantkit.range_estimators.contract import RANGE_ESTIMATORS
from tests.cli.runner import run, run_json

PROGRAM = [sys.executable, "-m", "quantkit_cli.app"]


@pytest.fixture
def shards(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[list[Path], Path]:
    """Tables of three parts of the calibration data, and the table of all."""
    data = np.load(workbench / "c.npz")["input"]
    tables = []
    for index, part in enumerate(np.split(data, (20, 53))):
        np.save(tmp_path / f"{index}.npy", part)
        tables.append(tmp_path / f"{index}.calib.npz")
        run(f"calibrate m.onnx {tmp_path / f'{index}.npy'} -o {tables[-1]}", capsys)
    return tables, workbench / "m.calib.npz"


def test_parts_in_any_order_are_the_whole(
    shards: tuple[list[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables, whole = shards
    merged = tmp_path / "merged.npz"
    for order in permutations(tables):
        out, err = run(f"merge {' '.join(map(str, order))} -o {merged}", capsys)
        assert merged.read_bytes() == whole.read_bytes()
        assert err == ""
    assert out == f"wrote {merged}: 13 tensors over 100 samples (47 + 33 + 20)\n"


def test_merging_in_steps_is_the_same(
    shards: tuple[list[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (a, b, c), whole = shards
    run(f"merge {b} {c} -o {tmp_path / 'bc'}", capsys)
    run(f"merge {tmp_path / 'bc'} {a} -o {tmp_path / 'all'}", capsys)
    assert (tmp_path / "all").read_bytes() == whole.read_bytes()


def test_merge_json(
    shards: tuple[list[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (a, b, _), _ = shards
    facts = run_json(f"merge {a} {b} -o {tmp_path / 'o'}", capsys)
    table = CalibrationTable.load(tmp_path / "o")
    assert facts == {
        "output": str(tmp_path / "o"),
        "inputs": [{"file": str(a), "samples": 20}, {"file": str(b), "samples": 33}],
        "samples": 53,
        "tensors": 13,
        "model_digest": table.model_digest,
        "data_digest": table.data_digest,
    }


def test_equal_samples_in_two_files_are_warned_of(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy.npz"
    shutil.copyfile("m.calib.npz", copy)
    out, err = run(f"merge m.calib.npz {copy} -o {tmp_path / 'o'}", capsys)
    assert "over 200 samples (100 + 100)" in out
    assert err == f"warning: m.calib.npz and {copy} hold the same samples: they count twice\n"


def test_many_files_are_not_all_listed(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copies = [tmp_path / f"{index}.npz" for index in range(9)]
    for copy in copies:
        shutil.copyfile("m.calib.npz", copy)
    out, _ = run(f"merge -q {' '.join(map(str, copies))} -o {tmp_path / 'o'}", capsys)
    assert out.endswith("13 tensors over 900 samples (9 files)\n")


def test_show(workbench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = run("show m.calib.npz --method minmax", capsys)
    assert err == ""
    lines = out.splitlines()
    assert re.fullmatch(
        r"m\.calib\.npz: m\.onnx \(digest \w{12}\), 13 tensors over 100 samples \(digest \w{12}\)",
        lines[0],
    )
    assert lines[1] == "arrays, fed as they are"
    rows = {line.split()[0]: line.split() for line in lines if line}
    assert len(rows.keys() & CalibrationTable.load("m.calib.npz").statistics.keys()) == 13
    # Relu6: from 0 to 6 in 255 steps, nothing cut off.
    stem = rows["stem/relu6/output"]
    assert (stem[1], stem[3]) == ("0", "6")
    assert stem[-5:-1] == ["0", "6", "-", "0.02353"]


def test_show_of_pictures(workbench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run("show pictures.calib.npz", capsys)
    assert re.search(r"^pictures: preset raw, .*size 8x8", out, re.MULTILINE)


@pytest.mark.parametrize("key", ["range", "tail", "name"])
def test_show_sorts(key: str, workbench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = run_json(f"show m.calib.npz --sort {key}", capsys)["tensors"]
    keys = {
        "range": [tensor["minimum"] - tensor["maximum"] for tensor in tensors],
        "tail": [-tensor["tail"] for tensor in tensors],
        "name": [tensor["name"] for tensor in tensors],
    }
    assert keys[key] == sorted(keys[key])


def test_show_json_has_every_method(workbench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = run_json("show m.calib.npz --tensor logits --percentile 99", capsys)
    assert (facts["file"], facts["model_name"], facts["samples"]) == (
        *("m.calib.npz", "m.onnx", 100),
    )
    (tensor,) = facts["tensors"]
    assert (tensor["name"], tensor["count"], tensor["channels"]) == ("logits", 1000, 10)
    assert set(tensor["ranges"]) == set(RANGE_ESTIMATORS)
    assert tensor["ranges"]["minmax"]["low"] == tensor["minimum"]
    assert 0.5 < tensor["ranges"]["percentile"]["cut_percent"] < 2.2


def test_few_tensors_are_charts(workbench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run("show m.calib.npz --tensor logits --tensor stem*", capsys)
    lines = out.splitlines()
    assert [line for line in lines if line in ("logits", "stem/relu6/output")] == [
        *("logits", "stem/relu6/output")
    ]
    assert sum(line.lstrip().startswith("count ") for line in lines) == 2
    for method in RANGE_ESTIMATORS:
        assert sum(line.split()[:1] == [method] for line in lines) == 4
    out, _ = run("show m.calib.npz --tensor block*", capsys)
    assert len([line for line in out.splitlines() if line.startswith("block")]) == 8


@pytest.mark.parametrize("options", ["", "--tensor *"])
def test_plot(
    options: str, workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    out, _ = run(f"show m.calib.npz {options} --plot {first}", capsys)
    shown = 13 if options else 12
    assert out.endswith(f"\nwrote {first}: {shown} of 13 tensors\n")
    run(f"show m.calib.npz {options} --plot {second}", capsys)
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as image:
        assert image.format == "PNG"
        assert image.width > 1800
        assert image.height > (-(-shown // 3)) * 300


def test_plot_with_json(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "p.jpg"
    assert len(run_json(f"show m.calib.npz --plot {plot}", capsys)["tensors"]) == 13
    with Image.open(plot) as image:
        assert image.format == "JPEG"


def test_ascii_where_stdout_has_nothing_else(workbench: Path) -> None:
    for options in ([], ["--tensor", "logits"]):
        done = subprocess.run(
            [*PROGRAM, "show", "m.calib.npz", *options],
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
        )
        assert b"?" not in done.stdout
        assert done.stdout.isascii()
        assert done.stderr == b""


@pytest.mark.parametrize("options", [["show"], ["show", "--json"]])
def test_a_reader_that_leaves_early(options: list[str], workbench: Path) -> None:
    command = " ".join([*PROGRAM, *options, "m.calib.npz"])
    # Without a buffer in between, the second write meets a closed pipe.
    done = subprocess.run(
        f"PYTHONUNBUFFERED=1 {command} | head -c 1",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(done.stdout) == 1
    assert done.stderr == ""


def test_the_help_says_what_show_leaves_out(
    workbench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = " ".join(run("show --help", capsys)[0].split())
    assert "keep the full range" in text
