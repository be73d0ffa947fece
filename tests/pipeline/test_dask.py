"""A pass shared among the workers of a real Dask cluster, in processes of their own."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantkit import bundled
from quantkit.calibration.executors import dask_cluster
from quantkit.calibration.table import CalibrationTable
from quantkit.errors import CalibrationError
from quantkit.pipeline import calibrate

distributed = pytest.importorskip("distributed", reason="the extra 'dask' is not installed")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    logging.getLogger("distributed").setLevel(logging.ERROR)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dask")
    with bundled.folder() as source:
        (folder / "m.onnx").write_bytes((source / "digits_mobilenet.onnx").read_bytes())
        digits = np.load(source / "digits_calibration.npz")["input"].astype(np.float32)
    np.save(folder / "x.npy", np.tile(digits, (30, 1, 1, 1)))
    return folder


@pytest.fixture(scope="module")
def whole(folder: Path) -> bytes:
    return saved(calibrate(folder / "m.onnx", folder / "x.npy"), folder / "whole.npz")


def saved(table: CalibrationTable, path: Path) -> bytes:
    table.save(path)
    return path.read_bytes()


def workers_of(cluster: Any) -> list[int]:
    with distributed.Client(cluster) as client:
        pids: dict[str, int] = client.run(os.getpid)
    return list(pids.values())


def test_a_cluster_gives_the_same_bytes(cluster: Any, folder: Path, whole: bytes) -> None:
    output = folder / "t.calib.npz"
    command = "import sys; from quantkit_cli.app import main; sys.exit(main(sys.argv[1:]))"
    subprocess.run(
        [sys.executable, "-c", command, "calibrate", "m.onnx", "x.npy", "-o", str(output),
         "--dask", cluster.scheduler_address, "-q"],
        cwd=folder, check=True,
    )  # fmt: skip
    assert output.read_bytes() == whole


def test_one_worker_killed_in_the_middle(cluster: Any, folder: Path, whole: bytes) -> None:
    victims = workers_of(cluster)
    killed: list[int] = []

    def kill_one(done: int, total: int) -> None:
        if not killed and total // 4 <= done < total // 2:
            os.kill(victims[0], signal.SIGKILL)
            killed.append(done)

    with dask_cluster(cluster.scheduler_address) as executor:
        table = calibrate(
            folder / "m.onnx", folder / "x.npy", executor=executor, shard_size=50,
            progress=kill_one,
        )  # fmt: skip
    assert killed
    assert saved(table, folder / "killed.npz") == whole


def test_an_error_on_a_worker_is_one_line(cluster: Any, folder: Path) -> None:
    x = np.load(folder / "x.npy")[:20]
    x[13, 0, 0, 0] = np.nan
    np.save(folder / "nan.npy", x)
    with (
        dask_cluster(cluster.scheduler_address) as executor,
        pytest.raises(CalibrationError, match=r"nan.npy\[13\].* holds NaN"),
    ):
        calibrate(folder / "m.onnx", folder / "nan.npy", executor=executor)
