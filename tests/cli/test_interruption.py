"""Ctrl-C, requests to end and sudden deaths of real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from quantkit import bundled
from quantkit.calibration.table import CalibrationTable

# A job in the background begins with some of these signals ignored, one on a terminal does not.
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from quantkit_cli.app import main
sys.exit(main(sys.argv[1:]))
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="children are found in /proc"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("interruption")
    with bundled.folder() as source:
        (folder / "m.onnx").write_bytes((source / "digits_mobilenet.onnx").read_bytes())
        digits = np.load(source / "digits_calibration.npz")["input"].astype(np.float32)
    np.save(folder / "long.npy", np.tile(digits, (600, 1, 1, 1)))
    return folder


def start(folder: Path, output: Path, *options: str) -> "subprocess.Popen[str]":
    """A pass in a process group of its own, as a terminal starts it."""
    command = [sys.executable, "-c", PROGRAM, "calibrate", "m.onnx", "long.npy", "-o", str(output)]
    return subprocess.Popen(
        [*command, *options], cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def group_members(group: int) -> list[int]:
    """Processes of a process group that are alive."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, number = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(number) == group and state != "Z":
            found.append(int(folder.name))
    return found


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def wait_for_progress(process: "subprocess.Popen[str]", output: Path) -> None:
    unfinished = output.with_name(f"{output.name}.unfinished")
    wait_for(lambda: unfinished.exists() or process.poll() is not None)
    assert process.poll() is None, process.stderr


@pytest.mark.parametrize("options", [[], ["--workers", "2"]])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted(
    folder: Path, tmp_path: Path, options: list[str], number: signal.Signals
) -> None:
    output = tmp_path / "t.npz"
    process = start(folder, output, *options)
    wait_for_progress(process, output)
    # A terminal sends Ctrl-C to the whole group, `kill` a signal to one process.
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
        time.sleep(0.1)
        os.killpg(process.pid, number)  # impatient users press it twice
    else:
        process.send_signal(number)
    _, err = process.communicate(timeout=20)
    # Python gives signals back to the system at its very end; a shell calls both 130.
    assert process.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "interrupted"
    wait_for(lambda: not group_members(process.pid), 10)
    left = {path.name for path in tmp_path.iterdir() if path.suffix != ".partial"}
    assert left == {"t.npz.unfinished"}
    assert CalibrationTable.load(tmp_path / "t.npz.unfinished").sample_count > 0


def test_workers_end_with_a_killed_parent(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "t.npz"
    process = start(folder, output, "--workers", "2")
    wait_for_progress(process, output)
    assert len(group_members(process.pid)) >= 3
    process.kill()
    process.wait()
    wait_for(lambda: not group_members(process.pid), 10)
    assert process.stderr is not None
    process.stderr.close()
