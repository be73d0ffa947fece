import logging
import os
import re
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from quantkit.calibration.array_folders import onnx_test_sets
from quantkit.calibration.dataset import Dataset, open_dataset
from quantkit.calibration.labels import read_labels
from quantkit.calibration.preprocessing import PRESETS
from quantkit.errors import CalibrationError, ConfigError, EmptyDatasetError
from quantkit.graph.program import TensorSpec

X = np.random.default_rng(0).standard_normal((7, 2, 3)).astype(np.float32)
Y = np.arange(14, dtype=np.int64).reshape(7, 2)
ONE = (TensorSpec("x", np.dtype(np.float32), ("N", 2, 3)),)
TWO = (*ONE, TensorSpec("y", np.dtype(np.int64), ("N", 2)))


def opened(folder: Path, inputs: Sequence[TensorSpec] = ONE) -> Dataset:
    return open_dataset(folder, inputs, preprocessing=None)


def stacked(dataset: Dataset, name: str = "x") -> npt.NDArray[Any]:
    samples = [dataset.read(index) for index in range(len(dataset))]
    return np.stack([sample[name] for sample in samples if sample is not None])


def save_tensor(path: Path, array: npt.NDArray[Any], name: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    proto = ir.serde.serialize_tensor(ir.tensor(array, name=name or None))
    path.write_bytes(proto.SerializeToString())


def test_files_in_sorted_order_with_and_without_batch_axis(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    np.save(tmp_path / "b" / "2.npy", X[3])  # one sample
    np.save(tmp_path / "a.npy", X[:2])
    np.savez_compressed(tmp_path / "b" / "3.npz", x=X[4:6])
    np.savez(tmp_path / "z.npz", anything=np.asfortranarray(X[6:]))
    (tmp_path / "z.npz").rename(tmp_path / "z.NPZ")
    np.save(tmp_path / "b" / "1.npy", np.asfortranarray(X[2]))
    (tmp_path / ".hidden.npy").write_text("")
    (tmp_path / "notes.txt").write_text("")
    found = opened(tmp_path)
    assert found.sample_names == (
        "a.npy[0]",
        "a.npy[1]",
        "b/1.npy",
        "b/2.npy",
        "b/3.npz[0]",
        "b/3.npz[1]",
        "z.NPZ",
    )
    np.testing.assert_array_equal(stacked(found), X)
    assert found.labels is None
    assert found.source.splittable


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=6),
    st.lists(st.sampled_from(["npy", "npz", "packed", "fortran"]), min_size=6, max_size=6),
    st.randoms(use_true_random=False),
)
def test_any_split_of_rows_over_files_gives_the_same_samples(
    counts: list[int], kinds: list[str], random: Any
) -> None:
    total = sum(counts)
    rows = np.random.default_rng(total).standard_normal((total, 2, 3)).astype(np.float32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = 0
        for index, count in enumerate(counts):
            part, path = rows[start : start + count], folder / f"{index}"
            match kinds[index]:
                case "npy":
                    np.save(f"{path}.npy", part)
                case "npz":
                    np.savez(f"{path}.npz", x=part)
                case "packed":
                    np.savez_compressed(f"{path}.npz", x=part)
                case _:
                    np.save(f"{path}.npy", np.asfortranarray(part))
            start += count
        if total == 0:
            with pytest.raises(EmptyDatasetError, match="holds no sample"):
                opened(folder)
            return
        found = opened(folder)
        order = list(range(total))
        random.shuffle(order)
        with ThreadPoolExecutor(3) as pool:
            got = list(pool.map(found.read, order))
        np.testing.assert_array_equal(
            np.stack([sample["x"] for sample in got if sample is not None]), rows[order]
        )


def test_npz_files_for_several_inputs(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X[:4], y=Y[:4])
    np.savez(tmp_path / "b.npz", y=Y[4], x=X[4])
    np.savez_compressed(tmp_path / "c.npz", y=Y[5:], x=X[5:])
    found = opened(tmp_path, TWO)
    np.testing.assert_array_equal(stacked(found), X)
    np.testing.assert_array_equal(stacked(found, "y"), Y)


def test_labels_in_npz_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X[:4], label=np.arange(4))
    np.savez(tmp_path / "b.npz", x=X[4], label=np.int32(9))
    found = open_dataset(tmp_path, ONE, preprocessing=None, num_samples=2)
    assert found.labels is not None
    np.testing.assert_array_equal(found.labels, [0, 2])
    np.testing.assert_array_equal(opened(tmp_path).labels, [0, 1, 2, 3, 9])
    np.save(tmp_path / "c.npy", X[5:])
    assert opened(tmp_path).labels is None
    np.savez(tmp_path / "b.npz", x=X[4], label=np.arange(2))
    with pytest.raises(CalibrationError, match=r"label of '.*b\.npz' is int64 of shape \(2,\)"):
        opened(tmp_path)


def test_class_folders_of_arrays(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "1.npy", X[0])
    np.testing.assert_array_equal(read_labels(opened(tmp_path), None), [0, 1])


def test_a_folder_per_input(tmp_path: Path) -> None:
    for name, array in (("x", X), ("y", Y)):
        (tmp_path / name / "deep").mkdir(parents=True)
        np.save(tmp_path / name / "1.npy", array[:3])
        np.save(tmp_path / name / "deep" / f"only_{name}.npy", array[3])
        np.save(tmp_path / name / "2.npy", array[4:])
    found = opened(tmp_path, TWO)
    assert found.sample_names[2:4] == ("1.npy[2]", "2.npy[0]")
    order = [0, 1, 2, 4, 5, 6, 3]
    np.testing.assert_array_equal(stacked(found), X[order])
    np.testing.assert_array_equal(stacked(found, "y"), Y[order])
    np.save(tmp_path / "y" / "9.npy", Y[:1])
    with pytest.raises(CalibrationError, match=r"sub-folders of .* \(x: 3, y: 4\)"):
        opened(tmp_path, TWO)
    (tmp_path / "y" / "9.npy").unlink()
    np.save(tmp_path / "y" / "1.npy", Y[:2])
    with pytest.raises(CalibrationError, match=r"'1\.npy' differ in their number .*\(x: 3, y: 2\)"):
        opened(tmp_path, TWO)


def test_npy_files_cannot_feed_several_inputs(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    with pytest.raises(CalibrationError, match=r"a\.npy' holds one unnamed array; .* wants x, y"):
        opened(tmp_path, TWO)


def test_files_of_another_rank_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    np.save(tmp_path / "labels.npy", np.arange(7))
    with pytest.raises(CalibrationError, match=r"labels\.npy' for input 'x' has shape \(7,\); exp"):
        opened(tmp_path)


def test_tables_of_earlier_calibrations_are_no_data(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    np.savez(tmp_path / "a.calib.npz", minimum=np.zeros(3))
    assert len(opened(tmp_path)) == 7


def test_damaged_files_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    (tmp_path / "b.npy").write_text("text")
    with pytest.raises(CalibrationError, match=r"b\.npy' cannot be read as \.npy: "):
        opened(tmp_path)
    np.save(tmp_path / "b.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(CalibrationError, match=r"b\.npy'.*Python objects"):
        opened(tmp_path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_file_whose_checksum_is_wrong_is_skipped(tmp_path: Path, save: Any) -> None:
    spec = TensorSpec("x", np.dtype(np.float32), ("N", None, None))
    save(tmp_path / "a.npz", x=np.random.default_rng(0).standard_normal((2, 100, 1000)))
    np.save(tmp_path / "b.npy", X[2:])
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[data.index(b"PK\x01\x02") - 3] ^= 0xFF  # the last bytes of the member
    (tmp_path / "a.npz").write_bytes(bytes(data))
    found = opened(tmp_path, [spec])
    np.testing.assert_array_equal(stacked(found), X[2:])
    assert sorted(found.skipped) == ["a.npz[0]", "a.npz[1]"]
    assert "a.npz' cannot be read as .npz: " in found.skipped["a.npz[0]"]


@pytest.mark.parametrize("save", [np.save, np.savez_compressed])
def test_files_that_change_after_they_were_listed_are_errors(tmp_path: Path, save: Any) -> None:
    suffix = "npy" if save is np.save else "npz"
    for index in range(3):
        save(tmp_path / f"{index}.{suffix}", X)
    found = opened(tmp_path)
    (tmp_path / f"0.{suffix}").unlink()
    os.truncate(tmp_path / f"1.{suffix}", 100)
    with pytest.raises(CalibrationError, match=rf"0\.{suffix}' changed .*: it is gone"):
        found.read(0)
    with pytest.raises(CalibrationError, match=rf"1\.{suffix}' changed .*: it has 100 bytes"):
        found.read(7)
    assert found.read(14) is not None
    assert found.skipped == {}


def test_a_file_with_fewer_rows_than_it_had(tmp_path: Path) -> None:
    np.save(tmp_path / "0.npy", np.asfortranarray(X))
    found = opened(tmp_path)
    np.save(tmp_path / "0.npy", np.asfortranarray(X[:2]))
    with pytest.raises(CalibrationError, match=r"0\.npy' changed while it was read"):
        found.read(6)
    np.save(tmp_path / "0.npy", np.asfortranarray(X[:6].astype(np.complex128)))
    assert opened(tmp_path).source.names == found.sample_names[:6]
    assert found.take([6]).read(0) is None
    assert "0.npy' cannot be read: index 6 is out of bounds" in found.skipped["0.npy[6]"]


def test_many_files_hold_few_descriptors(tmp_path: Path) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("descriptors are counted in /proc")

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    for index in range(300):
        save = np.savez if index % 2 else np.savez_compressed
        save(tmp_path / f"{index:03}.npz", x=X[:2] + index)
    before = descriptors()
    found = opened(tmp_path)
    assert descriptors() == before
    got = stacked(found)
    assert descriptors() <= before + 4
    np.testing.assert_array_equal(got[::2, 0, 0], X[0, 0, 0] + np.arange(300, dtype=np.float32))


@pytest.mark.parametrize("kinds", ["pictures", "arrays"])
def test_a_folder_of_both_is_what_most_files_are(
    tmp_path: Path, kinds: str, caplog: pytest.LogCaptureFixture
) -> None:
    spec = TensorSpec("x", np.dtype(np.float32), ("N", 3, 4, 4))
    np.save(tmp_path / "1.npy", np.zeros((3, 4, 4)))
    Image.new("RGB", (4, 4)).save(tmp_path / "1.png")
    if kinds == "pictures":
        Image.new("RGB", (4, 4)).save(tmp_path / "2.png")
    else:
        np.save(tmp_path / "2.npy", np.zeros((3, 4, 4)))
    with caplog.at_level(logging.WARNING):
        found = open_dataset(tmp_path, [spec], preprocessing=PRESETS["raw"])
    left_out = "1 array files left out beside 2 pictures"
    if kinds == "arrays":
        left_out = "1 pictures left out beside 2 array files"
    assert caplog.messages == [f"{str(tmp_path)!r}: {left_out}"]
    assert [name[-4:] for name in found.sample_names] == [
        ".png" if kinds == "pictures" else ".npy"
    ] * 2


def test_test_sets_in_natural_order(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("")
    for number, row in ((0, 0), (2, 1), (10, 2)):
        save_tensor(tmp_path / f"test_data_set_{number}" / "input_0.pb", X[row : row + 1])
        save_tensor(tmp_path / f"test_data_set_{number}" / "output_0.pb", Y)
    found = opened(tmp_path)
    assert found.sample_names == ("test_data_set_0", "test_data_set_2", "test_data_set_10")
    np.testing.assert_array_equal(stacked(found), X[:3])
    assert onnx_test_sets(tmp_path / "test_data_set_2") == [tmp_path / "test_data_set_2"]
    np.testing.assert_array_equal(stacked(opened(tmp_path / "test_data_set_2")), X[1:2])


@pytest.mark.parametrize("names", [("", ""), ("x", "y"), ("y", "x"), ("x", "other")])
def test_test_sets_match_by_name_or_by_number(tmp_path: Path, names: tuple[str, str]) -> None:
    arrays: dict[str, npt.NDArray[Any]] = {"x": X, "y": Y}
    by_name = set(names) == {"x", "y"}
    for number, (name, default) in enumerate(zip(names, ("x", "y"), strict=True)):
        array = arrays[name if by_name else default]
        save_tensor(tmp_path / "test_data_set_0" / f"input_{number}.pb", array, name)
    found = opened(tmp_path, TWO)
    assert found.sample_names[6] == "test_data_set_0[6]"
    np.testing.assert_array_equal(stacked(found), X)
    np.testing.assert_array_equal(stacked(found, "y"), Y)


def test_a_test_set_without_batch_axis_is_one_sample(tmp_path: Path) -> None:
    save_tensor(tmp_path / "input_0.pb", X[3])
    found = opened(tmp_path)
    assert found.sample_names == (tmp_path.name,)
    np.testing.assert_array_equal(stacked(found), X[3:4])


def test_eleven_inputs_are_in_natural_order(tmp_path: Path) -> None:
    inputs = [TensorSpec(f"i{index}", np.dtype(np.int64), ("N",)) for index in range(11)]
    for index in range(11):
        save_tensor(tmp_path / f"input_{index}.pb", np.array([index]))
    sample = opened(tmp_path, inputs).read(0)
    assert sample is not None
    assert [int(sample[f"i{index}"]) for index in range(11)] == list(range(11))


def test_test_sets_that_do_not_fit(tmp_path: Path) -> None:
    folder = tmp_path / "test_data_set_0"
    save_tensor(folder / "input_0.pb", X)
    message = f"{str(folder)!r} holds 1 inputs (input_0.pb); the model wants 2: x, y"
    with pytest.raises(CalibrationError, match=re.escape(message)):
        opened(tmp_path, TWO)
    save_tensor(folder / "input_1.pb", Y[:3])
    with pytest.raises(CalibrationError, match=r"'test_data_set_0' differ in .* \(x: 7, y: 3\)"):
        opened(tmp_path, TWO)
    (folder / "input_0.pb").write_bytes(b"\x10\x01")
    with pytest.raises(CalibrationError, match=r"input_0\.pb' holds no whole tensor of numbers"):
        opened(tmp_path, TWO)


def test_a_pipe_is_no_input_of_a_test_set(tmp_path: Path) -> None:
    save_tensor(tmp_path / "input_0.pb", X)
    os.mkfifo(tmp_path / "input_1.pb")
    assert len(opened(tmp_path)) == 7
    with pytest.raises(CalibrationError, match=r"holds 1 inputs \(input_0.pb\); the model wants 2"):
        opened(tmp_path, TWO)


def test_a_stamp_follows_the_files(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    first = opened(tmp_path)
    assert first.stamp == opened(tmp_path).stamp
    os.utime(tmp_path / "a.npy", ns=(1, 1))
    assert opened(tmp_path).stamp != first.stamp


def test_folders_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_data_set_0").mkdir()
    with pytest.raises(EmptyDatasetError, match=r"no pictures in .* and no arrays"):
        opened(tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "1.png")
    with pytest.raises(ConfigError, match="holds pictures"):
        opened(tmp_path)
