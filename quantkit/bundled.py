"""Finds the bundled model and data, in an installed wheel and in a checkout.

A wheel carries ``calib_data/`` as package data of ``quantkit``; in an editable install the package
lies in the repository, and ``calib_data/`` beside it. Always go through here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file
from importlib.resources import files as package_files
from importlib.resources.abc import Traversable
from pathlib import Path

from quantkit.errors import ModelError

_FOLDER = "calib_data"


def files() -> Traversable:
    """The folder of the bundled model and data.

    Raises:
        ModelError: Neither the package nor a checkout around it holds a bundled model.
    """
    package = package_files("quantkit")
    places = [package / _FOLDER]
    if isinstance(package, Path) and (package.parent / "pyproject.toml").is_file():
        places.append(package.parent / _FOLDER)
    for place in places:
        if _holds_a_model(place):
            return place
    looked = " and ".join(repr(str(place)) for place in places)
    raise ModelError(
        f"the bundled model is missing: no .onnx file in {looked}; "
        "install quantkit again, or work in a complete checkout"
    )


@contextmanager
def folder() -> Iterator[Path]:
    """The same as a real folder, unpacked where the package lies in an archive.

    Raises:
        ModelError: As :func:`files`.
    """
    with as_file(files()) as path:
        yield path


def _holds_a_model(place: Traversable) -> bool:
    return place.is_dir() and any(entry.name.endswith(".onnx") for entry in place.iterdir())
