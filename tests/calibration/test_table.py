import importlib.metadata
import io
import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkit.calibration import table as table_module
from quantkit.calibration.preprocessing import PRESETS, resolve
from quantkit.calibration.statistics import TensorStatistics, statistics_of_sample
from quantkit.calibration.table import CalibrationTable, format_digest, merge
from quantkit.errors import CalibrationError, TableMismatchError
from quantkit.graph.program import TensorSpec

PREPROCESSING = resolve(
    PRESETS["imagenet"], TensorSpec("x", np.dtype(np.float32), ("N", 3, 224, 224))
)


def statistics(seed: int, *shape: int) -> TensorStatistics:
    return statistics_of_sample(np.random.default_rng(seed).standard_normal(shape, np.float32))


def make(seed: int = 0, **changes: Any) -> CalibrationTable:
    table = CalibrationTable(
        statistics={
            "z/out:0": statistics(seed, 1, 3, 4, 4),
            "a": statistics(seed + 1, 5),
            "ünïcode": statistics(seed + 2, 1, 2),
        },
        model_digest="ab" * 32,
        model_name="net.onnx",
        data_digest=format_digest(2**255 + seed),
        sample_count=1,
        exact=True,
        preprocessing=PREPROCESSING,
        tool_version="1.0",
    )
    return replace(table, **changes)


def file_bytes(table: CalibrationTable, folder: Path) -> bytes:
    path = folder / "t.calib.npz"
    table.save(path)
    return path.read_bytes()


def test_round_trip_and_same_bytes(tmp_path: Path) -> None:
    table = make()
    whole = file_bytes(table, tmp_path)
    loaded = CalibrationTable.load(tmp_path / "t.calib.npz")
    assert file_bytes(loaded, tmp_path) == whole
    for name in ("model_digest", "model_name", "data_digest", "sample_count", "tool_version"):
        assert getattr(loaded, name) == getattr(table, name)
    assert loaded.preprocessing == PREPROCESSING
    assert set(loaded.statistics) == set(table.statistics)
    for name, expected in table.statistics.items():
        got = loaded.statistics[name]
        assert (got.minimum, got.maximum, got.count) == (
            expected.minimum,
            expected.maximum,
            expected.count,
        )
        assert (got.channels is None) == (expected.channels is None)
        if got.channels is not None and expected.channels is not None:
            np.testing.assert_array_equal(got.channels.means(1), expected.channels.means(1))
    reordered = replace(table, statistics=dict(reversed(list(table.statistics.items()))))
    assert file_bytes(reordered, tmp_path) == whole


def test_other_content_gives_other_bytes(tmp_path: Path) -> None:
    whole = file_bytes(make(), tmp_path)
    assert file_bytes(make(1), tmp_path) != whole
    assert file_bytes(make(preprocessing=None), tmp_path) != whole


def test_table_without_preprocessing_or_tensors(tmp_path: Path) -> None:
    make(preprocessing=None, statistics={}).save(tmp_path / "t.npz")
    loaded = CalibrationTable.load(tmp_path / "t.npz")
    assert loaded.preprocessing is None
    assert loaded.statistics == {}


def test_numpy_reads_the_documented_members(tmp_path: Path) -> None:
    table = make()
    table.save(tmp_path / "t.calib.npz")
    with np.load(tmp_path / "t.calib.npz", allow_pickle=False) as members:
        metadata = json.loads(members["metadata.json"])
        assert metadata["tensors"] == ["a", "z/out:0", "ünïcode"]
        offsets = members["row_offset"]
        found = table.statistics["z/out:0"]
        row = slice(offsets[1], offsets[2])
        np.testing.assert_array_equal(members["bucket"][row], found.histogram.bucket)
        np.testing.assert_array_equal(members["bucket_count"][row], found.histogram.count)
        np.testing.assert_array_equal(members["channel_offset"], [0, 0, 3, 5])
        assert members["minimum"][1] == found.minimum
        assert {
            name: members[name].dtype.str for name in members.files if name != "metadata.json"
        } == {
            "minimum": "<f4",
            "maximum": "<f4",
            "count": "<i8",
            "sample_count": "<i8",
            "row_offset": "<i8",
            "bucket": "<u2",
            "bucket_count": "<i8",
            "channel_offset": "<i8",
            "channel_minimum": "<f4",
            "channel_maximum": "<f4",
            "channel_mean_whole": "<i8",
            "channel_mean_fraction": "<u4",
        }


@given(st.permutations(range(4)), st.integers(0, 2))
def test_merging_in_any_order_gives_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], nested: int
) -> None:
    folder = tmp_path_factory.mktemp("merge")
    parts = [make(10 * seed, tool_version=f"1.{seed}", model_name=f"{seed}") for seed in range(4)]
    a, b, c, d = (parts[index] for index in order)
    trees = [
        merge(merge(merge(a, b), c), d),
        merge(merge(a, b), merge(c, d)),
        merge(a, merge(b, merge(c, d))),
    ]
    expected = merge(merge(merge(parts[0], parts[1]), parts[2]), parts[3])
    assert file_bytes(trees[nested], folder) == file_bytes(expected, folder)
    assert expected.sample_count == 4
    assert (expected.tool_version, expected.model_name) == ("1.3", "3")
    assert int(expected.data_digest, 16) == (4 * 2**255 + 60) % 2**256


def test_merge_keeps_tensors_that_only_one_has() -> None:
    one, other = make(), make(5)
    del other.statistics["a"]  # type: ignore[attr-defined]
    assert (
        set(merge(one, other).statistics)
        == set(merge(other, one).statistics)
        == {
            "z/out:0",
            "a",
            "ünïcode",
        }
    )


def test_merge_refuses_other_models_and_preprocessing() -> None:
    with pytest.raises(TableMismatchError, match=r"different models cannot be merged: 'net\.onnx'"):
        merge(make(), make(model_digest="cd" * 32))
    with pytest.raises(TableMismatchError, match="different preprocessing cannot be merged"):
        merge(make(), make(preprocessing=None))


def test_require_model() -> None:
    make().require_model("ab" * 32)
    message = (
        "made for another model ('net.onnx', digest abababababab), not for this one "
        "(digest cdcdcdcdcdcd); calibrate this model"
    )
    with pytest.raises(TableMismatchError, match=re.escape(message)):
        make().require_model("cd" * 32)
    with pytest.raises(TableMismatchError, match=r"another model \(digest abab"):
        make(model_name="").require_model("cd" * 32)


def test_absent_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"calibration file '.*absent' does not exist"):
        CalibrationTable.load(tmp_path / "absent")
    with pytest.raises(CalibrationError, match=r"calibration file '.*' is a folder"):
        CalibrationTable.load(tmp_path)


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"cannot write '.*absent/t.npz': "):
        make().save(tmp_path / "absent" / "t.npz")


def test_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = file_bytes(make(), tmp_path)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", fail)
    with pytest.raises(CalibrationError, match="disk full"):
        make(1).save(tmp_path / "t.calib.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["t.calib.npz"]
    assert (tmp_path / "t.calib.npz").read_bytes() == whole


def test_every_flipped_or_missing_byte_is_found_or_harmless(tmp_path: Path) -> None:
    """Damage gives one clear error, or (in unused header fields) the same table."""
    whole = file_bytes(make(), tmp_path)
    path = tmp_path / "damaged.npz"
    refusals = []
    positions = range(0, len(whole), 29)
    for position in positions:
        for damaged in (
            whole[:position],
            whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :],
        ):
            path.write_bytes(damaged)
            try:
                loaded = CalibrationTable.load(path)
            except CalibrationError as error:
                refusals.append(str(error))
            else:
                assert file_bytes(loaded, tmp_path) == whole
    assert len(refusals) > 1.8 * len(positions)
    assert all("is not a calibration file, or is damaged (" in text for text in refusals)


def rewritten(folder: Path, change: Callable[[dict[str, bytes]], object]) -> Path:
    """The file with its members changed and sound checksums."""
    path = folder / "t.calib.npz"
    make().save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def with_metadata(**changes: object) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        metadata = {**json.loads(members["metadata.json"]), **changes}
        members["metadata.json"] = json.dumps(metadata).encode()

    return change


def with_array(name: str, edit: Callable[[Any], Any]) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        array = edit(np.load(io.BytesIO(members[f"{name}.npy"])))
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=True)
        members[f"{name}.npy"] = buffer.getvalue()

    return change


def test_newer_schema(tmp_path: Path) -> None:
    newer = table_module.SCHEMA_VERSION + 1
    path = rewritten(tmp_path, with_metadata(schema_version=newer, tool_version="9.9"))
    with pytest.raises(
        TableMismatchError, match=rf"schema version {newer} \(quantkit 9.9\).*update"
    ):
        CalibrationTable.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda members: members.pop("metadata.json"), "metadata.json"),
        (lambda members: members.pop("bucket.npy"), "bucket"),
        (with_metadata(tensors=["a"]), "row_offset does not fit the 1 tensors"),
        (with_metadata(schema_version="new"), "not supported between instances of 'str'"),
        (with_metadata(data_digest="xyz"), "invalid literal for int"),
        (with_metadata(preprocessing={}), "preprocessing has the fields"),
        (with_metadata(preprocessing=[1]), "expected str instance, int found"),
        (lambda members: members.update({"metadata.json": b"[1]"}), "list indices must be"),
        (with_array("row_offset", lambda a: a[::-1]), "row_offset does not fit"),
        (with_array("channel_offset", lambda a: a + 1), "channel_offset does not fit"),
        (with_array("count", lambda a: a + 1), "histogram of tensor 'a' does not add up"),
        (with_array("minimum", lambda a: a * np.nan), "the range is"),
        (with_array("minimum", lambda a: a[:1]), "out of bounds"),
        (with_array("bucket", lambda a: a[::-1]), "must increase strictly"),
        (with_array("bucket", lambda a: a.astype(object)), "allow_pickle=False"),
        (with_array("channel_mean_whole", lambda a: a[:-1]), "channel statistics are"),
    ],
)
def test_foreign_or_inconsistent_files(
    tmp_path: Path, change: Callable[[dict[str, bytes]], object], message: str
) -> None:
    path = rewritten(tmp_path, change)
    with pytest.raises(CalibrationError, match=r"is not a calibration file, or is damaged") as info:
        CalibrationTable.load(path)
    assert re.search(message, str(info.value))


def test_tool_version_of_an_uninstalled_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: str) -> str:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert table_module.tool_version() == "unknown"
