"""The file of measurements: what survives a sudden end, and what is refused."""

import math
from pathlib import Path

import pytest

from quantkit.errors import CalibrationError
from quantkit.evaluation.measurement import Measurement
from quantkit.numerics.paired import PairedCounts
from quantkit.recovery.measurement_log import add_to_log, begin_log, digest_of, read_log

FOUND = {
    "a": Measurement(98.4375, 18.712345678901234),
    "b": Measurement(1 / 3, math.inf, PairedCounts(7, 1, 2, 3)),
    "c": Measurement(-1e300, -math.inf),
}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "o.toml.tune.jsonl"
    begin_log(path, "work")
    for key, measurement in FOUND.items():
        add_to_log(path, key, measurement)
    return path


def test_what_is_added_is_read_bit_for_bit(log: Path) -> None:
    assert read_log(log, "work") == FOUND


def test_a_file_cut_anywhere_loses_the_last_measurement_at_most(log: Path) -> None:
    whole = log.read_bytes()
    for length in range(len(whole)):
        log.write_bytes(whole[:length])
        found = read_log(log, "work")
        complete = max(whole[:length].count(b"\n") - 1, 0)
        assert list(found) == list(FOUND)[:complete]
        add_to_log(log, "d", FOUND["a"])
        assert read_log(log, "work") == {**found, "d": FOUND["a"]}


def test_other_work_is_refused(log: Path) -> None:
    before = log.read_bytes()
    with pytest.raises(CalibrationError, match="are of another model, other data or other options"):
        read_log(log, "other")
    assert log.read_bytes() == before


@pytest.mark.parametrize(
    "line", [b"{", b"[]", b'{"key": "a"}', b'{"key": 1, "value": "x"}', b"\xff"]
)
def test_damage_in_the_middle_is_refused(log: Path, line: bytes) -> None:
    lines = log.read_bytes().split(b"\n")
    log.write_bytes(b"\n".join([lines[0], line, *lines[2:]]))
    with pytest.raises(CalibrationError, match="cannot be read: line 2 is damaged; remove"):
        read_log(log, "work")


def test_a_damaged_last_line_is_dropped(log: Path) -> None:
    for line in (b'{"x":', b'{"x":\n', b"\xff\n"):
        whole = log.read_bytes()
        with log.open("ab") as file:
            file.write(line)
        assert read_log(log, "work") == FOUND
        assert log.read_bytes() == whole


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="cannot write"):
        begin_log(tmp_path / "none" / "o.jsonl", "work")


def test_digests_tell_facts_apart() -> None:
    assert digest_of("ab", "c") != digest_of("a", "bc")
    assert digest_of(1, None) == digest_of(1, None)
