"""What is found in a folder, and what is left out of it."""

import logging
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from quantkit.calibration.dataset import Dataset, open_dataset
from quantkit.calibration.preprocessing import PRESETS
from quantkit.calibration.table import CalibrationTable
from quantkit.errors import CalibrationError, EmptyDatasetError
from quantkit.graph.program import TensorSpec

INPUT = TensorSpec("x", np.dtype(np.float32), ("N", 3, 4, 4))
X = np.zeros((2, 3, 4, 4), np.float32)


def opened(source: Path, *, strict: bool = False) -> Dataset:
    return open_dataset(source, [INPUT], preprocessing=PRESETS["raw"], strict=strict)


def irregular(folder: Path, suffix: str) -> None:
    """A pipe, a socket, a link to a device, one to nothing and one to itself."""
    names = [f"{kind}.{suffix}" for kind in ("circle", "device", "nothing", "pipe", "socket")]
    circle, device, nothing, pipe, unix = (folder / name for name in names)
    circle.symlink_to(circle)
    device.symlink_to("/dev/zero")
    nothing.symlink_to(folder / "nowhere")
    os.mkfifo(pipe)
    here = Path.cwd()
    os.chdir(folder)  # the address of a socket has 107 bytes at most
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(unix.name)
    finally:
        os.chdir(here)


@pytest.mark.parametrize("suffix", ["png", "npy", "npz"])
def test_only_regular_files_count(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    irregular(tmp_path, suffix)
    with pytest.raises(EmptyDatasetError, match="no pictures in"):
        opened(tmp_path)
    (tmp_path / "far").mkdir()
    if suffix == "png":
        Image.new("RGB", (4, 4)).save(tmp_path / "far" / "file.png")
    elif suffix == "npy":
        np.save(tmp_path / "far" / "file.npy", X[0])
    else:
        np.savez(tmp_path / "far" / "file.npz", x=X[0])
    (tmp_path / f"link.{suffix}").symlink_to(tmp_path / "far" / f"file.{suffix}")
    os.mkfifo(tmp_path / "notes.txt")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        found = opened(tmp_path)
    assert found.sample_names == (f"far/file.{suffix}", f"link.{suffix}")
    shown = f"circle.{suffix}, device.{suffix}, nothing.{suffix} and 2 more"
    assert caplog.messages == [f"{str(tmp_path)!r}: left out, no regular files: {shown}"]
    assert found.read(1) is not None
    with pytest.raises(CalibrationError, match=rf"holds no regular files: circle\.{suffix}, "):
        opened(tmp_path, strict=True)


@pytest.mark.parametrize("name", ["p", "p.png", "p.npy", "p.npz", "p.tar", "p.zip", "p.py:f"])
def test_data_that_are_a_pipe(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(CalibrationError, match="is no kind of data quantkit knows"):
        opened(tmp_path / name)


def test_a_pipe_among_test_data(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "input_0.pb")
    with pytest.raises(EmptyDatasetError):
        opened(tmp_path)


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """A folder with a picture, and a sub-folder whose path is too long to be read."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        for _ in range(17):
            Path("d" * 250).mkdir()
            os.chdir("d" * 250)
    finally:
        os.chdir(here)
    return tmp_path


def test_a_sub_folder_that_cannot_be_read(deep: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert opened(deep).sample_names == ("a.png",)
    (message,) = caplog.messages
    assert message.startswith(f"{str(deep)!r}: left out, sub-folders that cannot be read: dddd")
    assert message.endswith("d (File name too long)")
    with pytest.raises(CalibrationError, match="holds sub-folders that cannot be read: dddd"):
        opened(deep, strict=True)


def test_a_calibration_file_is_none_of_the_data(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    CalibrationTable(
        statistics={},
        model_digest="ab" * 32,
        model_name="net.onnx",
        data_digest="cd" * 32,
        sample_count=1,
        exact=True,
        preprocessing=None,
        tool_version="1.0",
    ).save(tmp_path / "ranges.npz")
    with pytest.raises(EmptyDatasetError, match="no arrays"):
        opened(tmp_path)
    with pytest.raises(CalibrationError, match=r"ranges\.npz' is a calibration file: it holds ran"):
        opened(tmp_path / "ranges.npz")
    np.savez(tmp_path / "x.npz", x=X)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert len(opened(tmp_path)) == 2
    left_out = "ranges.npz left out: calibration files, which hold ranges and no samples"
    assert caplog.messages == [f"{str(tmp_path)!r}: {left_out}"]


def test_a_damaged_archive_is_no_calibration_file(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_text("text")
    with pytest.raises(CalibrationError, match=r"a\.npz' cannot be read as \.npz: it is no zip"):
        opened(tmp_path)


def test_the_same_folder_under_two_names_is_read_under_its_first(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    np.save(tmp_path / "b" / "x.npy", X)
    for name in ("c", "a"):
        (tmp_path / name).symlink_to(tmp_path / "b")
    found: Any = opened(tmp_path)
    assert found.sample_names == ("a/x.npy[0]", "a/x.npy[1]")
