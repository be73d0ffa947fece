from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from quantkit.calibration.spool import FileBytes, check_growth, one_line, spooled, stamp_of
from quantkit.errors import CalibrationError


def test_bytes_at_any_place_from_any_thread(tmp_path: Path) -> None:
    data = bytes(range(256)) * 100
    (tmp_path / "a").write_bytes(data)
    for store in (FileBytes.of(tmp_path / "a"), spooled((data[:1], b"", data[1:]), "data")):
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


def test_a_file_that_is_cut_or_removed_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(1000))
    store = FileBytes.of(path)
    path.write_bytes(bytes(1200))
    store.check()
    path.write_bytes(bytes(400))
    assert store.read_at(0, 400) == bytes(400)
    with pytest.raises(CalibrationError, match=r"a' changed while .* it has 400 bytes, 1,000 when"):
        store.read_at(0, 500)
    path.unlink()
    with pytest.raises(CalibrationError, match=r"a' changed while it was read: it is gone; put"):
        store.read_at(0, 1)


class Mute:
    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __str__(self) -> str:
        raise self.error


def test_one_line_of_anything() -> None:
    assert one_line(ValueError("a\n b")) == "a b"
    assert one_line(ValueError()) == "ValueError"
    assert one_line(Mute(ValueError)) == one_line(Mute(SystemExit)) == "Mute"
    with pytest.raises(KeyboardInterrupt):
        one_line(Mute(KeyboardInterrupt))
