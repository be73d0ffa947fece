"""Samples that stay in memory once they were read."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantkit.calibration import kept_samples
from quantkit.calibration.dataset import Dataset, DataSource, open_dataset
from quantkit.calibration.kept_samples import KeptSource, with_kept_samples
from quantkit.calibration.preprocessing import PRESETS
from quantkit.errors import UnreadableSampleError
from quantkit.graph.program import Array, TensorSpec

SPEC = TensorSpec("x", np.dtype(np.float32), ("N", 3, 8, 8))
DATA = np.random.default_rng(0).normal(size=(5, 3, 8, 8)).astype(np.float32)


def opened(source: DataSource, **options: bool) -> Dataset:
    return open_dataset(source, [SPEC], preprocessing=PRESETS["unit"], **options)


def stream() -> Iterator[dict[str, Array]]:
    for sample in DATA:
        yield {"x": sample[None]}


def pictures(folder: Path) -> Path:
    rng = np.random.default_rng(1)
    for index in range(5):
        pixels = rng.integers(0, 256, (9, 9, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


def npz(folder: Path) -> Path:
    np.savez(folder / "d.npz", x=DATA)
    return folder / "d.npz"


def npy(folder: Path) -> Path:
    np.save(folder / "d.npy", DATA)
    return folder / "d.npy"


KINDS: dict[str, Callable[[Path], DataSource]] = {
    "array": lambda _: DATA,
    "mapping": lambda _: {"x": DATA},
    "list": lambda _: [{"x": sample[None]} for sample in DATA],
    "stream": lambda _: stream(),
    "pictures": pictures,
    "npz": npz,
    "npy": npy,
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_same_samples_as_without(kind: str, tmp_path: Path) -> None:
    plain = opened(KINDS[kind](tmp_path))
    kept = with_kept_samples(plain)
    for _ in range(2):
        for index in range(5):
            expected, found = plain.read(index), kept.read(index)
            assert expected is not None
            assert found is not None
            np.testing.assert_array_equal(found["x"], expected["x"])
    assert (kept.stamp, kept.sample_names, len(kept)) == (plain.stamp, plain.sample_names, 5)
    assert kept.source.names == plain.source.names
    assert kept.source.splittable == plain.source.splittable
    assert kept.take([3, 1]).sample_names == plain.take([3, 1]).sample_names


@dataclass(frozen=True, eq=False)
class Counting:
    """Samples of given sizes in bytes; says which were read."""

    sizes: tuple[int, ...]
    read_indices: list[int] = field(default_factory=list)
    damaged: int = -1
    stamp: str = "counting"
    splittable: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"sample {index}" for index in range(len(self.sizes)))

    def read(self, index: int) -> dict[str, Array]:
        self.read_indices.append(index)
        if index == self.damaged:
            raise UnreadableSampleError(f"sample {index} is damaged")
        return {"x": np.full(self.sizes[index], index, np.uint8)}


def test_a_sample_is_read_once() -> None:
    source = Counting((4,) * 6)
    kept = KeptSource(source)
    for index in (2, 5, 2, 2, 5):
        assert kept.read(index)["x"][0] == index
    assert source.read_indices == [2, 5]


def test_memory_is_bounded_whatever_the_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_samples, "_MOST_BYTES", 100)
    for sizes in ((100, 50, 33, 25, 20), (20, 25, 33, 50, 100), (101, 1), (100, 1), (30,) * 9):
        source = Counting(sizes)
        kept = KeptSource(source)
        for index in (*range(len(sizes)), *range(len(sizes))):
            assert kept.read(index)["x"].size == sizes[index]
        held = [array.nbytes for sample in kept.kept.values() for array in sample.values()]
        assert sum(held) <= 100
        assert held
        assert len(source.read_indices) == 2 * len(sizes) - len(held)


def test_a_sample_that_threads_read_at_once_is_counted_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kept_samples, "_MOST_BYTES", 100)
    barrier = threading.Barrier(4)

    @dataclass(frozen=True, eq=False)
    class Slow(Counting):
        def read(self, index: int) -> dict[str, Array]:
            barrier.wait()
            return Counting.read(self, index)

    kept = KeptSource(Slow((25, 25)))
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(kept.read, [0] * 4))
        list(threads.map(kept.read, [1] * 4))
    assert kept.room == [50]


def test_what_is_read_is_no_view_of_what_is_kept() -> None:
    kept = with_kept_samples(opened(DATA))
    first = kept.read(0)
    assert first is not None
    first["x"] += 1
    again = kept.read(0)
    assert again is not None
    np.testing.assert_array_equal(again["x"], DATA[0])


def test_unreadable_pictures_are_skipped_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pictures(tmp_path)
    (tmp_path / "2.png").write_bytes(b"no picture")
    plain = opened(tmp_path)
    kept = with_kept_samples(plain)
    for _ in range(3):
        assert [kept.read(index) is None for index in range(5)] == [
            False,
            False,
            True,
            False,
            False,
        ]
    assert kept.skipped is plain.skipped
    assert len(kept.skipped) == 1
    assert caplog.text.count("skipped: ") == 1
    with pytest.raises(UnreadableSampleError):
        with_kept_samples(opened(tmp_path, strict=True)).read(2)


def test_an_error_is_not_kept() -> None:
    kept = KeptSource(Counting((4, 4), damaged=1))
    for _ in range(2):
        with pytest.raises(UnreadableSampleError):
            kept.read(1)
    assert kept.kept == {}


def test_kept_twice_is_kept_once() -> None:
    kept = with_kept_samples(opened(DATA))
    assert with_kept_samples(kept) is kept
