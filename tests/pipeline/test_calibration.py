import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from quantkit import bundled
from quantkit.calibration import executors
from quantkit.calibration.executors import dask_cluster, local_processes
from quantkit.calibration.table import CalibrationTable
from quantkit.errors import (
    CalibrationError,
    ConfigError,
    UnreadableSampleError,
)
from quantkit.graph.program import Array
from quantkit.passes.prepare import prepare
from quantkit.pipeline import calibrate
from quantkit.pipeline import calibration as module

COUNT = 61


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled network, data for a short pass and data for a longer one."""
    folder = tmp_path_factory.mktemp("pass")
    with bundled.folder() as source:
        (folder / "m.onnx").write_bytes((source / "digits_mobilenet.onnx").read_bytes())
        digits = np.load(source / "digits_calibration.npz")["input"].astype(np.float32)
    np.save(folder / "x.npy", digits[:COUNT])
    np.save(folder / "long.npy", np.tile(digits, (40, 1, 1, 1)))
    return folder


@pytest.fixture(scope="module")
def whole(folder: Path) -> bytes:
    return saved(calibrate(folder / "m.onnx", folder / "x.npy"), folder / "whole.npz")


def saved(table: CalibrationTable, path: Path) -> bytes:
    table.save(path)
    return path.read_bytes()


@pytest.mark.parametrize("shard_size", [None, 1, 17, 100])
def test_any_executor_gives_the_same_bytes(
    folder: Path, tmp_path: Path, whole: bytes, shard_size: int | None
) -> None:
    seen: list[tuple[int, int]] = []
    with ThreadPoolExecutor(3) as pool:
        table = calibrate(
            folder / "m.onnx",
            folder / "x.npy",
            executor=pool,
            shard_size=shard_size,
            progress=lambda done, total: seen.append((done, total)),
        )
    assert saved(table, tmp_path / "t.npz") == whole
    assert seen[-1] == (COUNT, COUNT)
    assert seen == sorted(seen)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_processes_give_the_same_bytes(
    folder: Path, tmp_path: Path, whole: bytes, workers: int
) -> None:
    with local_processes(workers) as pool:
        table = calibrate(folder / "m.onnx", folder / "x.npy", executor=pool)
    assert saved(table, tmp_path / "t.npz") == whole


@pytest.mark.parametrize("executor", [None, ThreadPoolExecutor(2)])
def test_an_interrupted_pass_is_resumed(
    folder: Path,
    tmp_path: Path,
    whole: bytes,
    executor: Executor | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_SECONDS_PER_PART", 0.0)
    path = tmp_path / "unfinished"

    def interrupt(done: int, total: int) -> None:
        if done > 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(
            folder / "m.onnx", folder / "x.npy", executor=executor, shard_size=8,
            checkpoint=path, progress=interrupt,
        )  # fmt: skip
    done = CalibrationTable.load(path).sample_count
    assert 0 < done < COUNT
    seen: list[int] = []
    table = calibrate(
        folder / "m.onnx", folder / "x.npy", checkpoint=path, resume=True,
        progress=lambda done, _: seen.append(done),
    )  # fmt: skip
    assert saved(table, tmp_path / "t.npz") == whole
    assert min(seen) == done
    again = calibrate(folder / "m.onnx", folder / "x.npy", checkpoint=path)
    assert saved(again, tmp_path / "t.npz") == whole


def test_resume_without_a_checkpoint_begins(folder: Path, tmp_path: Path, whole: bytes) -> None:
    table = calibrate(
        folder / "m.onnx", folder / "x.npy", checkpoint=tmp_path / "none", resume=True
    )
    assert saved(table, tmp_path / "t.npz") == whole


@pytest.mark.parametrize("change", ["data", "exact", "samples"])
def test_a_checkpoint_of_another_pass_is_refused(folder: Path, tmp_path: Path, change: str) -> None:
    data, path = tmp_path / "x.npy", tmp_path / "unfinished"
    data.write_bytes((folder / "x.npy").read_bytes())

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as pool, pytest.raises(KeyboardInterrupt):
        calibrate(
            folder / "m.onnx", data, executor=pool, shard_size=8, checkpoint=path,
            progress=lambda done, _: interrupt(done, 0) if done > 8 else None,
        )  # fmt: skip
    assert path.exists()
    if change == "data":
        os.utime(data, (1, 1))
    with pytest.raises(CalibrationError, match="another model, other data or other options"):
        calibrate(
            folder / "m.onnx", data, checkpoint=path, resume=True, exact=change == "exact",
            num_samples=20 if change == "samples" else None,
        )  # fmt: skip


def test_exact_counts_every_value(folder: Path) -> None:
    """The bundled network is small: nothing is sampled but by a cap below its tensors."""
    exact = calibrate(folder / "m.onnx", folder / "x.npy", exact=True)
    assert exact.exact
    for found in exact.statistics.values():
        assert found.histogram.total == found.count


def test_unreadable_pictures_of_workers_are_told(
    tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index in range(6):
        Image.new("L", (8, 8), index * 40).save(pictures / f"{index}.png")
    (pictures / "3.png").write_text("damaged")
    with ThreadPoolExecutor(1) as pool, caplog.at_level(logging.WARNING, "quantkit"):
        table = calibrate(
            folder / "m.onnx", pictures, preprocessing="unit", executor=pool, shard_size=2
        )
    assert table.sample_count == 5
    assert [r.getMessage() for r in caplog.records if "3.png" in r.getMessage()]


@pytest.mark.parametrize("executor", [None, ThreadPoolExecutor(1)])
def test_only_damaged_pictures(tmp_path: Path, folder: Path, executor: Executor | None) -> None:
    for index in range(3):
        (tmp_path / f"{index}.png").write_text("damaged")
    with pytest.raises(UnreadableSampleError, match="none of the 3 samples can be read"):
        calibrate(folder / "m.onnx", tmp_path, preprocessing="unit", executor=executor)


def test_workers_need_files(folder: Path) -> None:
    x: Array = np.zeros((3, 1, 8, 8), np.float32)
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(ConfigError, match="workers need the model and the data as files"):
            calibrate(folder / "m.onnx", x, executor=pool)
        with pytest.raises(ConfigError, match="workers need the model and the data as files"):
            calibrate(prepare(folder / "m.onnx"), folder / "x.npy", executor=pool)
        (folder / "feeds.py").write_text(
            "import numpy\n\n\ndef feeds():\n"
            "    yield {'input': numpy.zeros((2, 1, 8, 8), numpy.float32)}\n"
        )
        with pytest.raises(ConfigError, match=r"workers cannot share .*feeds\.py:feeds"):
            calibrate(folder / "m.onnx", f"{folder}/feeds.py:feeds", executor=pool)
    with pytest.raises(ConfigError, match="at least 1, got 0"), local_processes(0):
        pass


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "_SECONDS_TO_CONNECT", 1)
    with (
        pytest.raises(ConfigError, match=r"no Dask scheduler answers at 'tcp://127\.0\.0\.1:9'"),
        dask_cluster("tcp://127.0.0.1:9"),
    ):
        pass


# A pass that saves what is done much more often than every two seconds.
PASS = """
import sys
from quantkit.calibration import checkpoint
from quantkit.pipeline import calibration
from quantkit_cli.app import main
checkpoint._SECONDS = calibration._SECONDS_PER_PART = 0.02
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed(folder: Path, tmp_path: Path) -> None:
    expected = saved(calibrate(folder / "m.onnx", folder / "long.npy"), tmp_path / "whole.npz")
    rng = np.random.default_rng(0)
    command = [sys.executable, "-c", PASS, "calibrate", str(folder / "m.onnx")]
    kills, resumed_from = 0, []
    for attempt in range(20):
        output = tmp_path / f"{attempt}" / "t.calib.npz"
        output.parent.mkdir()
        full = [*command, str(folder / "long.npy"), "-o", str(output), "--resume", "-q"]
        process = subprocess.Popen(full)
        unfinished = output.with_name(f"{output.name}.unfinished")
        wait_for(lambda: unfinished.exists() or process.poll() is not None)  # noqa: B023
        time.sleep(rng.uniform(0, 1.0))
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        if unfinished.exists():
            resumed_from.append(CalibrationTable.load(unfinished).sample_count)
        subprocess.run(full, check=True)
        assert output.read_bytes() == expected
        assert [path.name for path in output.parent.iterdir()] == [output.name]
    assert kills >= 10
    assert len(set(resumed_from)) >= 5


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
def test_a_killed_process_ends_the_pass_and_loses_nothing(
    folder: Path, tmp_path: Path, whole: bytes
) -> None:
    path = tmp_path / "unfinished"

    def kill_one(done: int, total: int) -> None:
        if done:
            os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)

    with (
        local_processes(2) as pool,
        pytest.raises(CalibrationError, match=r"a worker ended abruptly.*--resume"),
    ):
        calibrate(
            folder / "m.onnx",
            folder / "x.npy",
            executor=pool,
            shard_size=2,
            checkpoint=path,
            progress=kill_one,
        )
    assert CalibrationTable.load(path).sample_count >= 2
    table = calibrate(folder / "m.onnx", folder / "x.npy", checkpoint=path, resume=True)
    assert saved(table, tmp_path / "t.npz") == whole


def test_workers_must_see_the_same_data(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "x.npy"
    data.write_bytes((folder / "x.npy").read_bytes())

    class Elsewhere(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            os.utime(data, (1, 1))
            return super().submit(fn, *args, **kwargs)

    with Elsewhere(1) as pool, pytest.raises(CalibrationError, match="a worker finds other data"):
        calibrate(folder / "m.onnx", data, executor=pool)
