import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantkit.calibration.dataset import Dataset, open_dataset
from quantkit.calibration.labels import read_labels
from quantkit.calibration.preprocessing import PRESETS
from quantkit.errors import CalibrationError
from quantkit.graph.program import TensorSpec

INPUT = TensorSpec("x", np.dtype(np.float32), ("N", 3, 4, 4))


def folder_of(folder: Path, *names: str, count: int | None = None) -> Dataset:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(folder / name)
    return open_dataset(folder, [INPUT], preprocessing=PRESETS["raw"], num_samples=count)


def csv(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["file,label", *lines]) + "\n")
    return path


def test_csv_is_matched_by_file_name_not_by_order(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "d", "a.png", "sub/b.png", "c.png")
    labels = read_labels(data, csv(tmp_path / "l.csv", "c.png,3", "x/b.png,2", "a.png,1", "z,9"))
    assert dict(zip(data.sample_names, labels.tolist(), strict=True)) == {
        "a.png": 1,
        "c.png": 3,
        "sub/b.png": 2,
    }
    assert labels.dtype == np.int64


def test_relative_path_goes_before_file_name(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "d", "u/a.png", "v/a.png")
    labels = read_labels(data, csv(tmp_path / "l.csv", "u/a.png,1", "v\\a.png,2"))
    np.testing.assert_array_equal(labels, [1, 2])


def test_ambiguous_file_name_is_no_match(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "d", "a.png")
    with pytest.raises(CalibrationError, match="1 of 1 samples have no label"):
        read_labels(data, csv(tmp_path / "l.csv", "u/a.png,1", "v/a.png,2"))


def test_csv_of_other_files(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "d", *(f"{i}.png" for i in range(5)))
    message = (
        "do not match the data: 4 of 5 samples have no label (1.png, 2.png, 3.png, ...), while the "
        "labels name 0.png, other.png; the column 'file' must hold the file names"
    )
    with pytest.raises(CalibrationError, match=re.escape(message)):
        read_labels(data, csv(tmp_path / "l.csv", "0.png,1", "other.png,2"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,class\na.png,1\n", "the first line is name,class, expected the header"),
        ("", "the first line is empty, expected the header file,label"),
        ("file,label\na.png,cat\n", "line 2: 'cat' is no class number"),
        ("file,label\na.png\n", "line 2: None is no class number"),
        (f"file,label\na.png,{10**30}\n", f"line 2: '{10**30}' is no class number"),
        ("file,label\na.png," + "1" * 5000, "1' is no class number"),
        ("file,label\na.png,1\na.png,2\n", "line 3: 'a.png' has the classes 1 and 2"),
        ("file,label\n\xff\xfe\n", "cannot be read: 'utf-8' codec"),
    ],
)
def test_csv_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "l.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(CalibrationError, match=re.escape(message)):
        read_labels(folder_of(tmp_path / "d", "a.png"), tmp_path / "l.csv")


@pytest.mark.parametrize("count", [None, 2])
def test_npy_in_the_order_of_the_data(tmp_path: Path, count: int | None) -> None:
    data = folder_of(tmp_path / "d", "a.png", "b.png", "c.png", "d.png", count=count)
    np.save(tmp_path / "l.npy", np.array([5, 6, 7, 8], np.int32))
    expected = [5, 6, 7, 8] if count is None else [5, 7]
    np.testing.assert_array_equal(read_labels(data, tmp_path / "l.npy"), expected)


def test_npy_for_the_chosen_samples_only(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "d", "a.png", "b.png", "c.png", "d.png", count=2)
    np.save(tmp_path / "l.npy", np.array([5, 7]))
    np.testing.assert_array_equal(read_labels(data, tmp_path / "l.npy"), [5, 7])


def test_npy_that_does_not_fit(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "d", "a.png", "b.png")
    path = tmp_path / "l.npy"
    for array, message in (
        (np.zeros(3, int), "do not match the data: 3 labels for 2 samples"),
        (np.zeros(2), "are float64 of shape (2,), expected a vector of integers"),
        (np.zeros((2, 1), int), "are int64 of shape (2, 1), expected a vector"),
    ):
        np.save(path, array)
        with pytest.raises(CalibrationError, match=re.escape(message)):
            read_labels(data, path)
    path.write_text("text")
    with pytest.raises(CalibrationError, match=r"l\.npy' cannot be read as \.npy: "):
        read_labels(data, path)


def test_class_folders_in_sorted_order(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "d", "dog/1.png", "cat/1.png", "emu/deep/1.png", count=2)
    assert data.sample_names == ("cat/1.png", "dog/1.png")
    np.testing.assert_array_equal(read_labels(data, None), [0, 1])
    folder_of(tmp_path / "d", "ant/1.png")
    np.testing.assert_array_equal(read_labels(data, tmp_path / "d"), [1, 2])


def test_numbered_class_folders_mean_their_numbers(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "d", "10/1.png", "2/1.png")
    np.testing.assert_array_equal(read_labels(data, None), [10, 2])


def test_folders_of_more_digits_than_a_number_has_are_names(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "d", f"{10**30}/1.png", "2/1.png")
    np.testing.assert_array_equal(read_labels(data, None), [0, 1])


@pytest.mark.parametrize("name", ["l.csv", "l.npy", "l"])
def test_labels_in_a_pipe(tmp_path: Path, name: str) -> None:
    data = folder_of(tmp_path / "d", "a.png")
    os.mkfifo(tmp_path / name)
    with pytest.raises(CalibrationError, match=rf"{re.escape(name)}' are no regular file; give a"):
        read_labels(data, tmp_path / name)


def test_labels_of_no_possible_name(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "d", "a/a.png")
    for source, message in (("", "labels '' do not exist"), ("x" * 5000, "File name too long")):
        with pytest.raises(CalibrationError, match=message):
            read_labels(data, source)


def test_a_zip_called_npy_is_no_array(tmp_path: Path) -> None:
    np.savez(tmp_path / "l.npz", x=np.arange(1))
    (tmp_path / "l.npz").rename(tmp_path / "l.npy")
    with pytest.raises(CalibrationError, match=r"l\.npy' cannot be read as \.npy: "):
        read_labels(folder_of(tmp_path / "d", "a.png"), tmp_path / "l.npy")


def test_picture_outside_the_class_folders(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "d", "cat/1.png", "stray.png")
    with pytest.raises(CalibrationError, match=r"gives no class for 1 of 2 samples \(stray.png\)"):
        read_labels(data, None)


def test_labels_of_an_npz() -> None:
    arrays = {"x": np.zeros((2, 3, 4, 4)), "label": np.array([4, 2])}
    data = open_dataset(arrays, [INPUT], preprocessing=None)
    np.testing.assert_array_equal(read_labels(data, None), [4, 2])


def test_no_labels_at_all(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "d", "a.png")
    with pytest.raises(
        CalibrationError, match="the data hold no labels and lie in no class folders"
    ):
        read_labels(data, None)
    with pytest.raises(CalibrationError, match=r"labels '.*absent.csv' do not exist"):
        read_labels(data, tmp_path / "absent.csv")
    (tmp_path / "l.txt").write_text("")
    with pytest.raises(CalibrationError, match=r"l.txt': give a .csv with the header file,label"):
        read_labels(data, tmp_path / "l.txt")
