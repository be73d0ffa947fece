"""Class names from the files they come in."""

from pathlib import Path

import pytest

from quantkit.calibration.class_names import read_class_names
from quantkit.errors import CalibrationError


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("names.txt", "cat\ndog \n\nhorse, foal\n\n", ("cat", "dog", "", "horse, foal")),
        ("names.txt", "\ufeffcat\r\ndog\r\n", ("cat", "dog")),
        ("names.json", '["cat", "dog"]', ("cat", "dog")),
        ("names.json", '{"1": "dog", "0": "cat", "3": "ox"}', ("cat", "dog", "2", "ox")),
        ("names.json", '{"0": ["n01440764", "tench"]}', ("tench",)),
    ],
)
def test_forms(tmp_path: Path, name: str, text: str, expected: tuple[str, ...]) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert read_class_names(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.json", b"{", r"class names '.*a\.json': .*; give a text file with one name per line"),
        ("a.json", b'{"cat": 0}', r"the key 'cat' is no class number"),
        ("a.json", b'{"99999999999": "cat"}', r"the key '99999999999' is no class number"),
        ("a.json", b"[1]", r"1 is no name"),
        ("a.json", b"3", r"neither a list nor an object"),
        ("a.json", b"[]", r"holds none"),
        ("a.txt", b" \n", r"holds none"),
        ("a.txt", b"\xff\xfe", r"is no text in UTF-8"),
    ],
)
def test_refusals(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CalibrationError, match=message):
        read_class_names(tmp_path / name)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"cannot be read: No such file"):
        read_class_names(tmp_path / "names.txt")
