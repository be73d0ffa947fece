from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from quantkit.calibration import checkpoint as module
from quantkit.calibration.checkpoint import Checkpoint, join_parts
from quantkit.calibration.parts import Interval, Part, missing
from quantkit.calibration.statistics import statistics_of_sample
from quantkit.calibration.table import CalibrationTable, format_digest, merge
from quantkit.errors import CalibrationError

COUNT = 12


def part_of(interval: Interval) -> Part:
    tables = [table_of(index) for index in range(*interval)]
    table = tables[0]
    for other in tables[1:]:
        table = merge(table, other)
    return Part(interval, table)


def table_of(index: int) -> CalibrationTable:
    x = np.random.default_rng(index).standard_normal((1, 3, 4)).astype(np.float32)
    return CalibrationTable(
        {"x": statistics_of_sample(x)}, "m", "net", format_digest(index), 1, True, None, "1"
    )


def file_bytes(table: CalibrationTable, folder: Path) -> bytes:
    table.save(folder / "t.calib.npz")
    return (folder / "t.calib.npz").read_bytes()


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    return file_bytes(part_of((0, COUNT)).table, tmp_path)


def test_parts_in_any_order_join_to_the_same_bytes(tmp_path: Path, whole: bytes) -> None:
    pieces = [(4, 5), (9, 12), (0, 4), (5, 9)]
    state = join_parts(map(part_of, pieces), None, None, "w")
    assert state is not None
    assert state.done == ((0, COUNT),)
    assert file_bytes(state.table, tmp_path) == whole


def test_nothing_to_join() -> None:
    assert join_parts([], None, None, "w") is None


@pytest.mark.parametrize("before", range(4))
def test_an_interrupted_pass_goes_on(
    tmp_path: Path, whole: bytes, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was joined before the interruption is in the file, even without a pause to save it."""
    monkeypatch.setattr(module, "_SECONDS", 0.0 if before % 2 else 1e9)
    pieces = [(6, 8), (0, 3), (3, 6), (8, 12)]
    path = tmp_path / "unfinished"

    def parts() -> Iterator[Part]:
        yield from map(part_of, pieces[:before])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        join_parts(parts(), None, path, "w")
    assert path.exists() == (before > 0)
    begun = Checkpoint.load(path, "w") if before else None
    assert (begun.table.sample_count if begun else 0) == sum(b - a for a, b in pieces[:before])
    todo = missing(begun.done if begun else (), COUNT)
    state = join_parts(map(part_of, todo), begun, path, "w")
    assert state is not None
    assert file_bytes(state.table, tmp_path) == whole


def test_other_work_and_damage_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "unfinished"
    state = Checkpoint(part_of((0, 3)).table, ((0, 3),))
    state.save(path, "w")
    with pytest.raises(CalibrationError, match="another model, other data or other options"):
        Checkpoint.load(path, "v")
    state.table.save(path)
    with pytest.raises(CalibrationError, match=r"cannot be continued.*leave out --resume"):
        Checkpoint.load(path, "w")
    path.write_bytes(b"PK damaged")
    with pytest.raises(CalibrationError, match="cannot be continued"):
        Checkpoint.load(path, "w")
    with pytest.raises(CalibrationError, match="cannot write"):
        state.save(tmp_path / "absent" / "file", "w")


def test_a_checkpoint_is_a_calibration_file(tmp_path: Path) -> None:
    Checkpoint(part_of((0, 3)).table, ((0, 3),)).save(tmp_path / "u", "w")
    assert CalibrationTable.load(tmp_path / "u").sample_count == 3
