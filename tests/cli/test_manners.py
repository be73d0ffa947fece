"""Warnings, full disks, interrupts and odd terminals: nothing half-written, no traceback."""

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from quantkit_cli.app import main
from tests.cli.runner import contents


def test_an_unreadable_picture_is_named_and_skipped(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "o.npz"
    assert main(["calibrate", "m.onnx", "one_bad", "--preset", "raw", "-o", str(output)]) == 0
    captured = capsys.readouterr()
    warnings = [line for line in captured.err.splitlines() if "skipped" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith("warning: skipped: picture 'one_bad/torn.png' cannot be read")
    assert captured.out == f"wrote {output}: 13 tensors over 3 samples (1 of 4 cannot be read)\n"


def test_report_says_how_many_pictures_were_skipped(
    workbench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "m.onnx", "m8.onnx", "--data", "one_bad", "--preset", "raw"]) == 0
    captured = capsys.readouterr()
    assert "3 samples, 1 unreadable and skipped" in captured.out
    assert captured.err.count("skipped: picture 'one_bad/torn.png'") == 1


def test_preprocessing_for_arrays_is_warned_of(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = str(tmp_path / "o.npz")
    assert main(["calibrate", "m.onnx", "c.npz", "--preset", "unit", "-o", output]) == 0
    assert "these arrays are fed as they are" in capsys.readouterr().err
    assert main(["calibrate", "m.onnx", "c.npz", "--preset", "raw", "-o", output]) == 0
    assert "warning" not in capsys.readouterr().err


def test_another_float_model_is_warned_of(
    workbench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same names and shapes, other weights: that is not an error, but hardly wanted."""
    assert main(["report", "other.onnx", "m8.onnx", "--data", "c.npz", "--num-samples", "4"]) == 0
    expected = "warning: m8.onnx was quantized from another float model than other.onnx"
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    ["calibrate m.onnx c.npz -o {}/o", "quantize m.onnx c.npz -o {}/o", "export m8.onnx -o {}/o"],
)
def test_a_read_only_folder(
    command: str,
    workbench: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Permissions do not stop root, so the question is answered for it."""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    assert main(command.format(tmp_path).split()) == 2
    assert f"the folder '{tmp_path}' is read-only" in capsys.readouterr().err
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    "command",
    ["calibrate m.onnx c.npz -o {}", "quantize m.onnx c.npz -o {}", "export m8.onnx -o {}"],
)
def test_a_full_disk_leaves_the_old_file(
    command: str,
    workbench: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*arguments: object, **options: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    output = tmp_path / "old"
    output.write_bytes(b"precious")
    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert main(command.format(output).split()) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: cannot write '{output}': ")
    assert "No space left on device" in last
    assert contents(tmp_path) == {"old": hashlib.sha256(b"precious").hexdigest()}


def test_a_real_process_has_the_same_manners(workbench: Path) -> None:
    program = [sys.executable, "-m", "quantkit_cli.app"]
    done = subprocess.run(
        [*program, "inspect", "truncated.onnx"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "is not an ONNX model, or is truncated" in done.stderr


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
@pytest.mark.parametrize(("chosen", "most"), [({}, 1), ({"OPENBLAS_NUM_THREADS": "3"}, 3)])
def test_blas_has_one_thread_unless_told_otherwise(chosen: dict[str, str], most: int) -> None:
    program = """
import os
from quantkit_cli.app import main
main(["--version"])
import numpy
numpy.ones((600, 600)) @ numpy.ones((600, 600))
print(len(os.listdir("/proc/self/task")))
"""
    kept = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=kept | chosen
    )
    assert int(done.stdout.split()[-1]) <= most


def test_an_ascii_terminal_shows_what_it_can(workbench: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bücher"
    folder.mkdir()
    program = [sys.executable, "-m", "quantkit_cli.app", "export", "m8.onnx"]
    done = subprocess.run(
        [*program, "-o", str(folder / "ö.onnx")],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0, done.stderr
    assert b"b?cher/?.onnx" in done.stdout


@pytest.mark.slow
def test_interrupted(zoo: Path, tmp_path: Path) -> None:
    # A job in the background begins with SIGINT ignored, one on a terminal does not.
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from quantkit_cli.app import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "calibrate"]
    arguments = [str(zoo / "models" / "mobilenet_v2.onnx"), str(zoo / "imagenet" / "calibration")]
    with subprocess.Popen(
        [*command, *arguments, "--preset", "imagenet", "-o", str(tmp_path / "o")],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert set(contents(tmp_path)) <= {"o.unfinished"}


def test_a_sample_of_the_wrong_size_is_refused_in_python_too(workbench: Path) -> None:
    import quantkit

    wrong = np.zeros((2, 1, 7, 8), np.float32)
    with pytest.raises(quantkit.QuantkitError, match=r"\(1, 7, 8\).*expected \(1, 8, 8\)"):
        quantkit.quantize("m.onnx", wrong)
