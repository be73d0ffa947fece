import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from quantkit.calibration.array_files import StoredRows
from quantkit.calibration.dataset import Dataset, DataSource, open_dataset
from quantkit.errors import CalibrationError, EmptyDatasetError
from quantkit.graph.program import TensorSpec

X = np.random.default_rng(0).standard_normal((7, 2, 3)).astype(np.float32)
Y = np.arange(14, dtype=np.int64).reshape(7, 2)
ONE = (TensorSpec("x", np.dtype(np.float32), ("N", 2, 3)),)
TWO = (*ONE, TensorSpec("y", np.dtype(np.int64), ("N", 2)))


def opened(
    source: DataSource, inputs: tuple[TensorSpec, ...] = ONE, count: int | None = None
) -> Dataset:
    return open_dataset(source, inputs, preprocessing=None, num_samples=count)


def stacked(dataset: Dataset, name: str = "x") -> npt.NDArray[Any]:
    samples = [dataset.read(index) for index in range(len(dataset))]
    return np.stack([sample[name] for sample in samples if sample is not None])


def test_npy_is_read_row_by_row(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    found = opened(tmp_path / "x.npy")
    np.testing.assert_array_equal(stacked(found), X)
    assert found.sample_names[:2] == ("x.npy[0]", "x.npy[1]")
    assert found.preprocessing is None
    assert isinstance(found.source.columns["x"], StoredRows)  # type: ignore[attr-defined]


@pytest.mark.parametrize("dtype", ["float64", "float16", "uint8", "bool", ">f4"])
def test_npy_of_other_dtypes_is_cast(tmp_path: Path, dtype: str) -> None:
    stored = (X > 0).astype(dtype)
    np.save(tmp_path / "x.npy", stored)
    got = stacked(opened(tmp_path / "x.npy"))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, X > 0)


def test_npy_in_column_order(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.asfortranarray(X))
    np.testing.assert_array_equal(stacked(opened(tmp_path / "x.npy")), X)


def test_npy_header_of_version_2(tmp_path: Path) -> None:
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array(file, X, version=(2, 0))
    np.testing.assert_array_equal(stacked(opened(tmp_path / "x.npy")), X)


def test_num_samples_are_evenly_spaced(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.testing.assert_array_equal(
        stacked(opened(tmp_path / "x.npy", count=3)), X[[i * 7 // 3 for i in range(3)]]
    )


@pytest.mark.parametrize("compressed", [False, True])
def test_npz_by_input_name_with_labels(tmp_path: Path, compressed: bool) -> None:
    labels = np.arange(7, dtype=np.uint8)
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "a.npz", x=X, y=Y, label=labels)
    found = opened(tmp_path / "a.npz", TWO)
    np.testing.assert_array_equal(stacked(found), X)
    np.testing.assert_array_equal(stacked(found, "y"), Y)
    assert found.labels is not None
    np.testing.assert_array_equal(found.labels, labels)
    taken = opened(tmp_path / "a.npz", TWO, count=2).labels
    assert taken is not None
    np.testing.assert_array_equal(taken, [0, 3])


def test_npz_with_one_array_of_any_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", X)
    np.testing.assert_array_equal(stacked(opened(tmp_path / "a.npz")), X)
    np.savez(tmp_path / "b.npz", pictures=X, label=np.zeros(7, np.int64))
    np.testing.assert_array_equal(stacked(opened(tmp_path / "b.npz")), X)


def test_label_may_be_an_input() -> None:
    inputs = (*ONE, TensorSpec("label", np.dtype(np.int64), ("N", 2)))
    found = opened({"x": X, "label": Y}, inputs)
    assert found.labels is None
    np.testing.assert_array_equal(stacked(found, "label"), Y)


@pytest.mark.parametrize(
    "source",
    [
        X,
        {"x": X},
        [{"x": X[:3]}, {"x": X[3:]}],
        [{"x": row} for row in X],
        ({"x": X[i : i + 1]} for i in range(7)),
    ],
    ids=["array", "mapping", "batches", "samples", "generator"],
)
def test_in_memory(source: DataSource) -> None:
    np.testing.assert_array_equal(stacked(opened(source)), X)


def npy_of(array: npt.NDArray[Any], path: Path, **options: Any) -> None:
    np.save(path, array, **options)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"hello, this is no array", "cannot be read as .npy: "),
        (pickle.dumps([1, 2]), "cannot be read as .npy: "),
        (b"", "cannot be read as .npy: "),
    ],
)
def test_damaged_npy(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x.npy").write_bytes(data)
    with pytest.raises(CalibrationError, match=message):
        opened(tmp_path / "x.npy")


def test_truncated_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    whole = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(whole[:-8])
    with pytest.raises(
        CalibrationError, match=f"truncated: {len(whole) - 8} of {len(whole)} bytes"
    ):
        opened(tmp_path / "x.npy")


def test_npy_of_objects_and_scalars(tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(
        CalibrationError, match=r"o\.npy.*holds Python objects, which quantkit never"
    ):
        opened(tmp_path / "o.npy")
    np.save(tmp_path / "s.npy", np.float32(1))
    with pytest.raises(CalibrationError, match=r"x of s\.npy is a scalar"):
        opened(tmp_path / "s.npy")


def test_npz_of_objects_names_the_array(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X, bad=np.array([{}], object))
    with pytest.raises(CalibrationError, match=r"a\.npz.*array 'bad': it holds Python objects"):
        opened(tmp_path / "a.npz")


def test_damaged_npz(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_text("text")
    with pytest.raises(CalibrationError, match=r"a\.npz' cannot be read as .npz: it is no zip"):
        opened(path)
    np.savez(path, x=X)
    whole = path.read_bytes()
    path.write_bytes(whole[:150] + bytes([whole[150] ^ 255]) + whole[151:])
    with pytest.raises(CalibrationError, match=r"cannot be read as \.npz: "):
        opened(path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": X, "b": X}, "array holds a, b; the model wants x: save one array per input"),
        ({}, "array holds nothing; the model wants x"),
        ({"x": np.float32(1)}, "x of array is a scalar; the first axis runs over samples"),
        ({"x": X, "label": np.zeros(6, int)}, "label of array is int64 of shape (6,), expected"),
        ({"x": X, "label": np.zeros(7)}, "label of array is float64 of shape (7,), expected"),
    ],
)
def test_arrays_that_do_not_fit(arrays: Mapping[str, Any], message: str) -> None:
    with pytest.raises(CalibrationError, match=re.escape(message)):
        opened(arrays)


def test_lengths_differ() -> None:
    with pytest.raises(CalibrationError, match=r"differ in their number of samples \(x: 7, y: 6\)"):
        opened({"x": X, "y": Y[:6]}, TWO)


def test_feeds_that_are_no_dicts_or_lack_an_input() -> None:
    with pytest.raises(CalibrationError, match="item 1 of the data is a ndarray, expected a dict"):
        opened([{"x": X}, X])  # type: ignore[list-item]
    with pytest.raises(CalibrationError, match="item 0 holds x; the model wants x, y"):
        opened([{"x": X}], TWO)


@pytest.mark.parametrize("source", [X[:0], [], {"x": X[:0]}])
def test_no_sample(source: DataSource) -> None:
    with pytest.raises(EmptyDatasetError, match="holds no sample"):
        opened(source)
