import io
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from quantkit.calibration.array_files import StoredRows, array_headers
from quantkit.calibration.arrays import ArraySource
from quantkit.calibration.dataset import Dataset, open_dataset
from quantkit.calibration.spool import FileBytes, Spool
from quantkit.errors import CalibrationError
from quantkit.graph.program import TensorSpec

X = np.random.default_rng(0).standard_normal((40, 2, 3)).astype(np.float32)
INPUT = TensorSpec("x", np.dtype(np.float32), ("N", None, None))

# Reads a big .npz in a process of its own and prints by how many bytes its memory grew at most.
READ_ALL = """
import resource, sys
import numpy as np
from pathlib import Path
from quantkit.calibration.dataset import open_dataset
from quantkit.graph.program import TensorSpec
spec = TensorSpec("x", np.dtype(np.float32), ("N", None))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
dataset = open_dataset(Path(sys.argv[1]), [spec], preprocessing=None)
total = sum(float(dataset.read(index)["x"].sum()) for index in range(len(dataset)))
print(len(dataset), total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """How many bytes Python held at most; the list is filled at the end."""
    peak: list[int] = []
    tracemalloc.start()
    try:
        yield peak
    finally:
        peak.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()


def opened(path: Path) -> Dataset:
    return open_dataset(path, [INPUT], preprocessing=None)


def row(dataset: Dataset, index: int) -> npt.NDArray[Any]:
    sample = dataset.read(index)
    assert sample is not None
    return sample["x"]


def store_of(dataset: Dataset) -> object:
    assert isinstance(dataset.source, ArraySource)
    rows = dataset.source.columns["x"]
    assert isinstance(rows, StoredRows)
    return rows.store


def claiming(path: Path, *, size: int | None = None, shape: tuple[int, ...] | None = None) -> Path:
    """A compressed .npz whose member claims another size unpacked, or whose .npy another shape."""
    stream = io.BytesIO()
    np.save(stream, X)
    npy = stream.getvalue()
    if shape is not None:
        stream = io.BytesIO()
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        npy = stream.getvalue() + X.tobytes()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy)
    if size is not None:
        data = bytearray(path.read_bytes())
        for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
            struct.pack_into("<I", data, data.index(signature) + offset, size)
        path.write_bytes(bytes(data))
    return path


def test_where_the_rows_are_read_from(tmp_path: Path) -> None:
    np.savez(tmp_path / "stored.npz", y=X, x=X, label=np.arange(40))
    np.savez_compressed(tmp_path / "packed.npz", y=X, x=X, label=np.arange(40))
    stored, packed = opened(tmp_path / "stored.npz"), opened(tmp_path / "packed.npz")
    assert isinstance(store_of(stored), FileBytes)
    assert isinstance(store_of(packed), Spool)
    for dataset in (stored, packed):
        for index in (39, 0, 7):
            np.testing.assert_array_equal(row(dataset, index), X[index])
        assert dataset.labels is not None
        np.testing.assert_array_equal(dataset.labels, np.arange(40))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_fortran_order(tmp_path: Path, save: Callable[..., None]) -> None:
    save(tmp_path / "a.npz", x=np.asfortranarray(X))
    np.testing.assert_array_equal(row(opened(tmp_path / "a.npz"), 5), X[5])


@pytest.mark.parametrize("name", ["a.npy", "stored.npz", "packed.npz"])
def test_several_threads_read_at_once(tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "a.npy", X)
    np.savez(tmp_path / "stored.npz", x=X)
    np.savez_compressed(tmp_path / "packed.npz", x=X)
    dataset = opened(tmp_path / name)
    order = np.random.default_rng(0).integers(0, 40, 2000).tolist()
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda index: row(dataset, index), order))
    np.testing.assert_array_equal(np.stack(got), X[order])


def test_files_are_closed_when_the_data_are_gone(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=X)

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("descriptors are counted in /proc")
    before = descriptors()
    dataset = opened(tmp_path / "a.npz")
    assert descriptors() == before + 1
    del dataset
    assert descriptors() == before


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_any_damage_is_one_line(tmp_path: Path, save: Callable[..., None]) -> None:
    path = tmp_path / "a.npz"
    save(path, x=X)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [whole[:cut] for cut in rng.integers(0, len(whole), 40)]
    for position in rng.integers(60, len(whole) - 120, 60):  # within the member
        damaged.append(whole[:position] + bytes([whole[position] ^ 255]) + whole[position + 1 :])
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(CalibrationError, match=r"^'.*a\.npz' cannot be read as .npz: [^\n]+$"):
            opened(path)


@pytest.mark.parametrize(
    "text", [b"(" * 5000, b"{'a':" * 1500, b"-" * 9000 + b"1", b"{'a", b"\xff", b"{}", b"1L"]
)
def test_headers_that_are_no_python(tmp_path: Path, text: bytes) -> None:
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text + b"\n"
    (tmp_path / "a.npy").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", data)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(CalibrationError, match=rf"{name}' cannot be read as [^\n]+$"):
            opened(tmp_path / name)


def test_a_pickle_in_an_npz_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("evil.npy", pickle.dumps(print))
    with pytest.raises(CalibrationError, match=r"a\.npz.*array 'evil': the magic string"):
        opened(tmp_path / "a.npz")


def test_an_object_array_is_never_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return (os.mkdir, (str(tmp_path / "evil"),))

    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        stream = io.BytesIO()
        header = {"descr": "|O", "fortran_order": False, "shape": (1,)}
        np.lib.format.write_array_header_1_0(stream, header)
        archive.writestr("x.npy", stream.getvalue() + pickle.dumps(Evil()))
    with pytest.raises(CalibrationError, match="array 'x': it holds Python objects"):
        opened(tmp_path / "a.npz")
    assert not (tmp_path / "evil").exists()


def test_a_member_that_claims_much_is_refused(tmp_path: Path) -> None:
    path = claiming(tmp_path / "a.npz", size=2**32 - 2)
    with pytest.raises(CalibrationError, match=r"a\.npz' unpacks to 4,294,967,294 bytes .* bomb"):
        opened(path)


def test_a_member_that_claims_a_little_too_much(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"cannot be read as \.npz: "):
        opened(claiming(tmp_path / "a.npz", size=50_000, shape=(80, 2, 3)))


def test_a_member_that_holds_more_than_it_claims(tmp_path: Path) -> None:
    """100 MB of zeros that claim to be 1,128 bytes: no more than these are ever unpacked."""
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        stream = io.BytesIO()
        np.save(stream, np.zeros((25_000_000, 1, 1), np.float32))
        archive.writestr("x.npy", stream.getvalue())
    del stream
    data = bytearray((tmp_path / "a.npz").read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.index(signature) + offset, 1128)
    (tmp_path / "a.npz").write_bytes(bytes(data))
    with (
        peak_memory() as peak,
        pytest.raises(CalibrationError, match=r"a\.npz' cannot be read as \.npz: "),
    ):
        opened(tmp_path / "a.npz")
    assert peak[0] < 2_000_000


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2**62, 2**62), "it is truncated"),
        ((-1, 2, 3), "holds no values"),
        ((10**12, 0), "holds no values"),
        ((41, 2, 3), "it is truncated: 1088 of 1112 bytes"),
    ],
)
def test_shapes_that_cannot_be(tmp_path: Path, shape: tuple[int, ...], message: str) -> None:
    path = claiming(tmp_path / "a.npz", shape=shape)
    with pytest.raises(CalibrationError, match=rf"array 'x': .*{re.escape(message)}"):
        opened(path)
    with zipfile.ZipFile(path) as archive:
        (tmp_path / "x.npy").write_bytes(archive.read("x.npy"))
    with pytest.raises(CalibrationError, match=rf"x\.npy'.*{re.escape(message)}"):
        opened(tmp_path / "x.npy")


def test_encrypted_and_other_compression(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("x.npy", b"")
    with pytest.raises(CalibrationError, match=r"member 'x\.npy' .* zip's method 12"):
        opened(tmp_path / "a.npz")


def test_no_room_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=X)
    usage = type("Usage", (), {"free": 500})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(CalibrationError, match=r"array 'x' .* does not fit .* set TMPDIR to"):
        opened(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_a_file_that_shrinks_meanwhile_is_an_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.npy":
        np.save(path, X)
    else:
        np.savez(path, x=X)
    dataset = opened(path)
    os.truncate(path, 600)
    assert dataset.read(0) is not None
    with pytest.raises(CalibrationError, match=rf"{name}' changed while it was read: it has 600 b"):
        dataset.read(30)
    path.unlink()
    with pytest.raises(CalibrationError, match=rf"{name}' changed while it was read: it is gone"):
        dataset.read(0)
    assert dataset.skipped == {}


def test_headers_alone(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=X, label=np.arange(40, dtype=np.uint8))
    headers = array_headers(tmp_path / "a.npz")
    assert {name: (h.shape, h.dtype.name) for name, h in headers.items()} == {
        "x": ((40, 2, 3), "float32"),
        "label": ((40,), "uint8"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, method: int) -> None:
    rows = np.random.default_rng(0).integers(0, 4, (10, 250_000)).astype(np.float32)
    path = tmp_path / "a.npz"
    with (
        zipfile.ZipFile(path, "w", method, compresslevel=1) as archive,
        archive.open("x.npy", "w", force_zip64=True) as file,
    ):
        header = {"descr": "<f4", "fortran_order": False, "shape": (500, 250_000)}
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(50):
            file.write(rows.tobytes())
    ran = subprocess.run(
        [sys.executable, "-c", READ_ALL, path], capture_output=True, text=True, check=True
    )
    count, total, grown_kb = ran.stdout.split()
    assert (int(count), float(total)) == (500, 50 * float(rows.sum(dtype=np.float64)))
    assert int(grown_kb) < 30_000, "500 MB were read"
