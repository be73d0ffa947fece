"""Names of classes, from the files they usually come in."""

import json
from pathlib import Path
from typing import Any

from quantkit.errors import CalibrationError

_FORMS = (
    "give a text file with one name per line, or a JSON list, or a JSON object of class number to "
    "name"
)
_MOST_CLASSES = 1_000_000


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """Names by class number.

    Args:
        path: A text file with one name per line (the first is class 0), or a ``.json`` with a list
            of names, or an object whose keys are class numbers; a value that is a list, as in
            ImageNet's ``{"0": ["n01440764", "tench"]}``, ends in the name. Classes that an object
            leaves out are called by their number.

    Raises:
        CalibrationError: The file cannot be read, or is of another form.
    """
    where = f"class names {str(path)!r}"
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CalibrationError(f"{where} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CalibrationError(f"{where} is no text in UTF-8; {_FORMS}") from error
    if Path(path).suffix.lower() == ".json":
        try:
            names = _from_json(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise CalibrationError(f"{where}: {error}; {_FORMS}") from error
    else:
        names = tuple(line.strip() for line in text.rstrip().splitlines())
    if not names:
        raise CalibrationError(f"{where} holds none; {_FORMS}")
    return names


def _from_json(value: Any) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(_name(each) for each in value)
    if not isinstance(value, dict):
        raise ValueError("neither a list nor an object")  # noqa: TRY004
    numbered = {_class_number(key): _name(each) for key, each in value.items()}
    return tuple(numbered.get(index, str(index)) for index in range(max(numbered, default=-1) + 1))


def _class_number(key: str) -> int:
    if not (key.isascii() and key.isdigit() and int(key) < _MOST_CLASSES):
        raise ValueError(f"the key {key!r} is no class number")
    return int(key)


def _name(value: Any) -> str:
    name = value[-1] if isinstance(value, list) and value else value
    if not isinstance(name, str):
        raise ValueError(f"{json.dumps(value)} is no name")  # noqa: TRY004
    return name
