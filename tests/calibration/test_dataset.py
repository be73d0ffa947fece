import logging
import os
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from quantkit.calibration.batches import batches, fixed_batch
from quantkit.calibration.dataset import Dataset, open_dataset
from quantkit.calibration.preprocessing import PRESETS
from quantkit.errors import (
    CalibrationError,
    ConfigError,
    NonFiniteRangeError,
    QuantkitError,
    UnreadableSampleError,
)
from quantkit.graph.program import Array, Dimension, TensorSpec

X = np.arange(11 * 2 * 3, dtype=np.float32).reshape(11, 2, 3)


def spec(*shape: Dimension, dtype: str = "float32") -> TensorSpec:
    return TensorSpec("x", np.dtype(dtype), shape)


def of_array(array: npt.NDArray[Any], model_input: TensorSpec) -> Dataset:
    return open_dataset(array, [model_input], preprocessing=None)


@pytest.mark.parametrize("size", [1, 3, 4, 11, 50])
def test_batches_hold_every_sample_once_in_order(size: int) -> None:
    found = list(batches(of_array(X, spec("N", 2, 3)), size))
    np.testing.assert_array_equal(np.concatenate([b.arrays["x"] for b in found]), X)
    assert [i for b in found for i in b.indices] == list(range(11))
    assert [n for b in found for n in b.names] == [f"array[{i}]" for i in range(11)]
    assert all(len(b.names) == size for b in found[:-1])


def test_fixed_batch_overrides_and_is_filled() -> None:
    ones = list(batches(of_array(X, spec(1, 2, 3)), 8))
    assert [b.arrays["x"].shape[0] for b in ones] == [1] * 11
    fours = list(batches(of_array(X, spec(4, 2, 3)), 1))
    assert [b.arrays["x"].shape[0] for b in fours] == [4, 4, 4]
    assert [len(b.names) for b in fours] == [4, 4, 3]
    np.testing.assert_array_equal(fours[2].arrays["x"][3], X[10])


def test_fixed_batch_of_several_inputs() -> None:
    assert fixed_batch([spec("N", 2), spec(2, 2)]) == 2
    assert fixed_batch([spec("N", 2), spec(None, 2)]) is None


def test_a_batch_ends_where_shapes_change() -> None:
    feeds = [{"x": np.ones((1, 2, width))} for width in (3, 3, 4, 4, 3)]
    found = open_dataset(feeds, [spec("N", 2, None)], preprocessing=None)
    assert [b.arrays["x"].shape for b in batches(found, 3)] == [(2, 2, 3), (2, 2, 4), (1, 2, 3)]


def test_skipped_samples_leave_no_hole(tmp_path: Path) -> None:
    for index in range(5):
        Image.new("RGB", (9, 9), (index * 50, 0, 0)).save(tmp_path / f"{index}.png")
    (tmp_path / "1.png").write_text("damaged")
    found = open_dataset(tmp_path, [spec("N", 3, 4, 4)], preprocessing=PRESETS["raw"])
    read = list(batches(found, 2))
    assert [b.indices for b in read] == [(0, 2), (3, 4)]
    np.testing.assert_array_equal(
        np.concatenate([b.arrays["x"][:, 0, 0, 0] for b in read]), [0, 100, 150, 200]
    )


def test_all_unreadable(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_text("damaged")
    found = open_dataset(tmp_path, [spec("N", 3, 4, 4)], preprocessing=PRESETS["raw"])
    with pytest.raises(UnreadableSampleError, match=r"none of the 2 samples can be read; picture"):
        list(batches(found, 2))


def test_of_many_skipped_samples_a_few_are_told_and_then_how_many(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for index in range(30):
        (tmp_path / f"{index:02}.png").write_text("damaged")
    Image.new("RGB", (9, 9)).save(tmp_path / "30.png")
    found = open_dataset(tmp_path, [spec("N", 3, 4, 4)], preprocessing=PRESETS["raw"])
    with caplog.at_level(logging.WARNING):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(found.read, range(31)))
        assert len(list(batches(found, 1))) == 1
        found.skip("00.png", "told before")
        found.tell_skipped()
    assert len(found.skipped) == 30
    assert [message[:16] for message in caplog.messages[:5]] == ["skipped: picture"] * 5
    assert caplog.messages[5:] == ["... and 25 more of 31 pictures skipped"]
    caplog.clear()
    found.take([30]).tell_skipped()
    few = open_dataset(tmp_path, found.inputs, preprocessing=PRESETS["raw"])
    few.skip("00.png", "torn")
    few.tell_skipped()
    assert caplog.messages[1:] == ["skipped: torn"]


def test_a_default_number_of_samples(caplog: pytest.LogCaptureFixture) -> None:
    def positions(number: int | None, default: int) -> tuple[int, ...]:
        found = open_dataset(
            X,
            [spec("N", 2, 3)],
            preprocessing=None,
            num_samples=number,
            default_samples=default,
        )
        return found.positions

    with caplog.at_level(logging.WARNING):
        assert positions(None, 100) == tuple(range(11))
        assert positions(None, 3) == positions(3, 100) == (0, 3, 7)
    assert caplog.messages == []


class SlowSource:
    names = tuple(str(index) for index in range(50))
    stamp = "of no file"
    splittable = False

    def __init__(self) -> None:
        self.read_indices: list[int] = []

    def read(self, index: int) -> dict[str, Array]:
        self.read_indices.append(index)
        return {"x": np.zeros((2, 3), np.float32)}


def test_only_a_few_samples_are_read_ahead_and_closing_ends_the_threads() -> None:
    source = SlowSource()
    dataset = Dataset(source, (spec("N", 2, 3),), tuple(range(50)), source.names)
    stream = batches(dataset, 2)
    next(stream)
    time.sleep(0.2)  # enough for the threads to read all that was handed to them
    assert len(source.read_indices) <= 10
    stream.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("quantkit-read")]


def test_take_keeps_names_and_labels_together() -> None:
    whole = open_dataset(
        {"x": X, "label": np.arange(11) * 10}, [spec("N", 2, 3)], preprocessing=None, num_samples=5
    )
    part = whole.take([4, 0])
    assert part.sample_names == (whole.sample_names[4], whole.sample_names[0])
    assert part.labels is not None
    np.testing.assert_array_equal(part.labels, [80, 0])
    sample = part.read(0)
    assert sample is not None
    np.testing.assert_array_equal(sample["x"], X[8])


def test_too_many_samples_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = open_dataset(X, [spec("N", 2, 3)], preprocessing=None, num_samples=12)
    assert len(found) == 11
    assert caplog.messages == ["12 samples asked for, the data hold 11: all are used"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: open_dataset(X, [spec("N", 2, 3)], preprocessing=None, num_samples=0),
            "the number of samples must be at least 1, got 0",
        ),
        (
            lambda: list(batches(of_array(X, spec("N", 2, 3)), 0)),
            "the batch size must be at least 1, got 0",
        ),
    ],
)
def test_numbers_below_1(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()


@pytest.mark.parametrize(
    ("array", "model_input", "error", "message"),
    [
        (
            X,
            spec("N", 3, 3),
            UnreadableSampleError,
            "sample 'array[0]' has shape (2, 3) for input 'x', expected (3, 3) (both without",
        ),
        (X, spec("N", None, "W", 5), UnreadableSampleError, "expected (?, W, 5)"),
        (X, spec("N", 6), UnreadableSampleError, "expected (6,)"),
        (X, spec("N", 2, 3, dtype="int64"), UnreadableSampleError, "is float32 for input 'x', exp"),
        (X.astype("U"), spec("N", 2, 3), UnreadableSampleError, "for input 'x', expected float32"),
        (X * np.nan, spec("N", 2, 3), NonFiniteRangeError, "'array[0]' holds NaN for input 'x'"),
        (X + np.inf, spec("N", 2, 3), NonFiniteRangeError, "'array[0]' holds infinity"),
        (
            X.astype(np.float64) - 1e300,
            spec("N", 2, 3),
            NonFiniteRangeError,
            "'array[0]' holds infinity",
        ),
    ],
)
def test_samples_that_do_not_fit(
    array: npt.NDArray[Any], model_input: TensorSpec, error: type[QuantkitError], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        of_array(array, model_input).read(0)


def test_unknown_rank_takes_anything() -> None:
    sample = of_array(X, TensorSpec("x", np.dtype(np.float32), None)).read(10)
    assert sample is not None
    np.testing.assert_array_equal(sample["x"], X[10])


def test_a_stamp_tells_data_choices_and_preprocessing_apart(tmp_path: Path) -> None:
    for index in range(3):
        Image.new("RGB", (9, 9)).save(tmp_path / f"{index}.png")
    inputs = [spec("N", 3, 4, 4)]

    def stamp(preset: str = "raw", count: int | None = None) -> str:
        found = open_dataset(
            tmp_path, inputs, preprocessing=PRESETS[preset], num_samples=count, strict=True
        )
        return found.stamp

    stamps = [stamp(), stamp("unit"), stamp(count=2)]
    assert stamp() == stamps[0]
    os.utime(tmp_path / "1.png", ns=(1, 1))
    stamps.append(stamp())
    (tmp_path / "1.png").rename(tmp_path / "3.png")
    stamps.append(stamp())
    assert len(set(stamps)) == len(stamps)
    whole = of_array(X, spec("N", 2, 3))
    assert whole.take([1, 0]).stamp != whole.take([0, 1]).stamp
    assert whole.take([1, 0]).stamp == of_array(X + 1, spec("N", 2, 3)).take([1, 0]).stamp
    assert whole.stamp != of_array(X.astype(np.float64), spec("N", 2, 3)).stamp
    assert whole.stamp != of_array(X.reshape(11, 3, 2), spec("N", 3, 2)).stamp


def test_files_are_splittable_and_memory_is_not(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "x.npz", x=X)
    feeds = [{"x": X}]
    inputs = [spec("N", 2, 3)]
    for source, expected in (
        (tmp_path / "x.npy", True),
        (str(tmp_path / "x.npz"), True),
        (tmp_path, True),
        (X, False),
        ({"x": X}, False),
        (feeds, False),
        (iter(feeds), False),
    ):
        found = open_dataset(source, inputs, preprocessing=None)
        assert found.source.splittable is expected


def test_sources_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text")
    for source, message in (
        (tmp_path / "absent", r"data '.*absent' does not exist"),
        (
            str(tmp_path / "notes.txt"),
            r"data '.*notes.txt' is no kind of data quantkit knows; give",
        ),
        ("", "data '' is the name of nothing; give a folder of pictures"),
        (3, "data of type int is not supported; give a folder of pictures"),
        (b"bytes", "data of type bytes is not supported"),
        ("/dev/null", "'/dev/null' is no kind of data quantkit knows; give"),
        ("x" * 5000, "cannot be read: File name too long"),
        ("a\0b", "does not exist; give"),
    ):
        with pytest.raises(CalibrationError, match=message):
            open_dataset(source, [spec("N", 2, 3)], preprocessing=None)  # type: ignore[arg-type]
