import re
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnxruntime.quantization import CalibrationDataReader

from quantkit.calibration.arrays import ArraySource
from quantkit.calibration.dataset import Dataset, DataSource, open_dataset
from quantkit.calibration.feeds import SpooledRows
from quantkit.errors import CalibrationError, EmptyDatasetError
from quantkit.graph.program import TensorSpec

X = np.random.default_rng(0).standard_normal((7, 2, 3)).astype(np.float32)
Y = np.arange(14, dtype=np.int64).reshape(7, 2)
ONE = (TensorSpec("x", np.dtype(np.float32), ("N", 2, None)),)
TWO = (*ONE, TensorSpec("y", np.dtype(np.int64), ("N", 2)))
MODULE = """
import numpy as np
X = np.random.default_rng(0).standard_normal((7, 2, 3)).astype(np.float32)
NUMBER = 3
def array(): return X
def mapping(): return {"x": X}
def feeds(): return [{"x": row} for row in X]
def stream():
    import sibling_of_data
    for row in X: yield {"x": row[None]}
class Reader:
    def __init__(self): self.rest = list(X)
    def get_next(self): return {"x": self.rest.pop(0)[None]} if self.rest else None
    @staticmethod
    def make(): return Reader()
def broken(): raise ValueError("no\\ndata")
def leaves(): raise SystemExit(3)
def breaks():
    yield {"x": X}
    raise KeyError("second")
def nothing(): return None
def path(): return "x.npy"
"""


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, count: int | None = None) -> None:
        self.asked = 0
        self.count = count

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        if self.asked == self.count:
            return None
        self.asked += 1
        return {"x": np.full((1, 2, 3), self.asked, np.float32)}


def opened(
    source: DataSource, inputs: tuple[TensorSpec, ...] = ONE, count: int | None = None
) -> Dataset:
    return open_dataset(source, inputs, preprocessing=None, num_samples=count)


def stacked(dataset: Dataset, name: str = "x") -> npt.NDArray[Any]:
    samples = [dataset.read(index) for index in range(len(dataset))]
    return np.stack([sample[name] for sample in samples if sample is not None])


def test_a_reader_of_onnxruntime() -> None:
    np.testing.assert_array_equal(stacked(opened(Reader(5)))[:, 0, 0], [1, 2, 3, 4, 5])


def test_a_stream_is_left_after_the_samples_asked_for() -> None:
    reader = Reader()
    found = opened(reader, count=4)
    assert (len(found), reader.asked) == (4, 4)
    np.testing.assert_array_equal(stacked(found)[:, 0, 0], [1, 2, 3, 4])

    def endless() -> Iterator[dict[str, npt.NDArray[Any]]]:
        while True:
            yield {"x": X}

    np.testing.assert_array_equal(stacked(opened(endless(), count=9)), X[[*range(7), 0, 1]])


def test_a_list_is_not_spooled_and_evenly_spaced() -> None:
    found = opened([{"x": row} for row in X], count=3)
    np.testing.assert_array_equal(stacked(found), X[[0, 2, 4]])
    assert isinstance(found.source, ArraySource)
    assert isinstance(found.source.columns["x"], list)


def test_streams_are_spooled_and_read_by_several_threads() -> None:
    widths = [1 + index % 5 for index in range(100)]
    rows = [np.random.default_rng(w).standard_normal((2, w)).astype(np.float32) for w in widths]
    feeds = ({"y": Y[i % 7], "x": row} for i, row in enumerate(rows))
    found = opened(feeds, TWO)
    assert isinstance(found.source, ArraySource)
    assert isinstance(found.source.columns["x"], SpooledRows)
    order = np.random.default_rng(0).integers(0, 100, 1000).tolist()
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(found.read, order))
    for index, sample in zip(order, got, strict=True):
        assert sample is not None
        np.testing.assert_array_equal(sample["x"], rows[index])
        np.testing.assert_array_equal(sample["y"], Y[index % 7])


def test_a_stream_is_not_kept_in_memory() -> None:
    given: list[weakref.ref[npt.NDArray[Any]]] = []
    alive: list[int] = []

    def feeds() -> Iterator[dict[str, npt.NDArray[Any]]]:
        for _ in range(50):
            array = np.zeros((4, 2, 3))
            given.append(weakref.ref(array))
            yield {"x": array}
            alive.append(sum(reference() is not None for reference in given))

    assert len(opened(feeds())) == 200
    assert max(alive) <= 2


def test_scalars_and_empty_feeds() -> None:
    spec = TensorSpec("x", np.dtype(np.float32), ("N",))
    feeds = ({"x": value} for value in (np.zeros(0), np.float64(3), np.arange(2)))
    np.testing.assert_array_equal(stacked(opened(feeds, (spec,))), [3, 0, 1])
    with pytest.raises(EmptyDatasetError, match="the data of sample holds no sample"):
        opened(iter(()))


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        ({"x": object()}, "x of item 0 holds Python objects (object); give arrays of numbers"),
        ({"x": [[1], [1, 2]]}, "x of item 0 is no array: "),
        ({"z": X, "w": X}, "item 0 holds z, w; the model wants x"),
        ({"x": np.float32(1)}, "x of item 0 is a scalar"),
        (X, "item 0 of the data is a ndarray, expected a dict"),
    ],
)
@pytest.mark.parametrize("kind", [list, iter])
def test_feeds_that_are_none(feed: Any, message: str, kind: Any) -> None:
    with pytest.raises(CalibrationError, match=re.escape(message)):
        opened(kind([feed]))


def test_a_stream_that_fails() -> None:
    def feeds() -> Iterator[dict[str, Any]]:
        yield {"x": X}
        raise OSError("no\nmore")

    with pytest.raises(CalibrationError, match=r"^item 1 of sample cannot .*: OSError: no more$"):
        opened(feeds())


def test_arrays_that_are_none() -> None:
    with pytest.raises(CalibrationError, match="x of array is no array: "):
        opened({"x": [[1], [1, 2]]})


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module in the current folder, under a name of its own for each test."""
    monkeypatch.chdir(tmp_path)
    name = f"data_{re.sub('[^a-z0-9]', '_', tmp_path.name.lower())}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / "sibling_of_data.py").write_text("")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    path = list(sys.path)
    yield name
    assert sys.path == path
    for added in set(sys.modules) - before:
        del sys.modules[added]


@pytest.mark.parametrize("suffix", ["", ".py"])
@pytest.mark.parametrize("as_path", [False, True])
@pytest.mark.parametrize(
    "function", ["array", "mapping", "feeds", "stream", "Reader", "Reader.make"]
)
def test_functions(module: str, function: str, suffix: str, as_path: bool) -> None:
    text = f"{module}{suffix}:{function}"
    found = opened(Path(text) if as_path else text)
    np.testing.assert_array_equal(stacked(found), X)
    assert found.sample_names[0] == f"{text}[0]"
    assert not found.source.splittable


def test_a_file_in_another_folder_finds_its_siblings(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    np.testing.assert_array_equal(stacked(opened(f"../{module}.py:stream", count=3)), X[:3])
    np.testing.assert_array_equal(stacked(opened(tmp_path / f"{module}.py:array")), X)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("broken", "broken() failed: ValueError: no data"),
        ("leaves", "leaves() failed: SystemExit: 3"),
        ("breaks", "item 1 of {text} cannot be had: KeyError: 'second'"),
        ("absent", "has no 'absent'"),
        ("NUMBER", "'NUMBER' is a int, expected a function"),
        ("nothing", "returned NoneType; return an array, a dict of arrays, an iterable of dicts"),
        ("path", "returned str; return an array"),
    ],
)
def test_functions_that_fail(module: str, function: str, message: str) -> None:
    text = f"{module}:{function}"
    with pytest.raises(CalibrationError, match=re.escape(message.format(text=text))) as caught:
        opened(text)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no_such_module_anywhere:f", "'no_such_module_anywhere' cannot be imported: ModuleNot"),
        ("no_such.py:f", "'no_such.py' cannot be imported: FileNotFoundError: there is no file"),
        ("syntax.py:f", "'syntax.py' cannot be imported: SyntaxError: "),
        ("leaving:f", "'leaving' cannot be imported: SystemExit: "),
    ],
)
@pytest.mark.usefixtures("module")
def test_modules_that_fail(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "syntax.py").write_text("def f(:")
    (tmp_path / "leaving.py").write_text("raise SystemExit('bye')")
    with pytest.raises(CalibrationError, match=re.escape(message)) as caught:
        opened(text)
    assert "\n" not in str(caught.value)
    assert "quantkit_data_syntax" not in sys.modules


def test_a_file_called_as_a_function_is_the_file(module: str, tmp_path: Path) -> None:
    (tmp_path / f"{module}:array").mkdir()
    with pytest.raises(EmptyDatasetError, match="no pictures in"):
        opened(f"{module}:array")


def test_no_thread_is_left() -> None:
    before = threading.active_count()
    opened(Reader(5))
    assert threading.active_count() == before
