from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from quantkit.calibration.spool import FileBytes, check_growth, spooled, stamp_of
from quantkit.errors import CalibrationError


def test_bytes_at_any_place_from_any_thread(tmp_path: Path) -> None:
    data = bytes(range(256)) * 100
    (tmp_path / "a").write_bytes(data)
    for store in (FileBytes(tmp_path / "a"), spooled((data[:1], b"", data[1:]), "data")):
        places = [(offset % 25_000, offset % 600) for offset in range(0, 60_000, 97)]
        with ThreadPoolExecutor(4) as pool:
            got = list(pool.map(lambda place: store.read_at(*place), places))  # noqa: B023
        assert got == [data[offset : offset + size] for offset, size in places]
        with pytest.raises(EOFError, match="ends early"):
            store.read_at(len(data) - 1, 2)


def test_growth() -> None:
    check_growth(2**30, 1, "small")
    check_growth(2**34, 2**28, "big")
    with pytest.raises(CalibrationError, match=r"^bomb unpacks to 1,073,741,825 bytes .* from 1"):
        check_growth(2**30 + 1, 1, "bomb")


def test_a_stamp_tells_names_sizes_and_times_apart(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1")
    stamps = [stamp_of(("a", "b")), stamp_of(("ab",)), stamp_of(("a", "b"), [path])]
    path.write_bytes(b"12")
    stamps.append(stamp_of(("a", "b"), [path]))
    path.touch()
    stamps.append(stamp_of(("a", "b"), [path]))
    path.unlink()
    stamps.append(stamp_of(("a", "b"), [path]))
    assert len(set(stamps)) == 6
    assert all(len(stamp) == 64 for stamp in stamps)
    assert stamp_of(("\udcff",)) != stamp_of(("\udcfe",))
