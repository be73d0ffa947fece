"""``package.module:function`` and ``file.py:function``: data from the user's own code."""

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Any, TextIO, cast

from quantkit.calibration.spool import one_line
from quantkit.errors import CalibrationError, QuantkitError

_NAMES = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_FUNCTION = re.compile(rf"(?P<module>.+\.py|{_NAMES}):(?P<function>{_NAMES})")

_ONE_AT_A_TIME = RLock()


def is_data_function(text: str) -> bool:
    """Whether a text looks like ``package.module:function`` or ``file.py:function``."""
    return _FUNCTION.fullmatch(text) is not None


@contextmanager
def users_code(what: str) -> Iterator[None]:
    """Run code of the user's, which may raise anything, ``SystemExit`` included.

    Args:
        what: Went wrong: how the message begins.

    Raises:
        CalibrationError: For whatever is raised but ``KeyboardInterrupt``; one line.
    """
    try:
        yield
    except (QuantkitError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise CalibrationError(f"{what}: {type(error).__name__}: {one_line(error)}") from error


@contextmanager
def called(text: str) -> Iterator[Any]:
    """What the function returns, called without arguments.

    While the context lasts, a generator may still import from the current folder (and a file's
    own), and what is printed goes to ``sys.stderr``. One thread at a time: both are the process's.

    Raises:
        CalibrationError: It cannot be imported, is no function, or fails; one line says which.
    """
    with surroundings(text):
        function = load_function(text, "data")
        with users_code(f"data {text!r}: {function_name(text)}() failed"):
            value = function()
        yield value


@contextmanager
def surroundings(text: str) -> Iterator[None]:
    """Where a function of the user's can be loaded and called; see :func:`called`."""
    with _ONE_AT_A_TIME:
        path, stdout = list(sys.path), sys.stdout
        sys.stdout = None if sys.stderr is None else cast(TextIO, _Stderr())
        sys.path.insert(0, str(Path.cwd()))
        module_name, _ = _parts(text)
        if module_name.endswith(".py"):
            sys.path.insert(0, str(Path(module_name).resolve().parent))
        try:
            yield
        finally:
            sys.path[:], sys.stdout = path, stdout


def load_function(text: str, what: str) -> Callable[..., Any]:
    """Import a function of the user's; to be called, and loaded, within :func:`surroundings`.

    Args:
        text: For which :func:`is_data_function` holds.
        what: It is for ("data"): how messages begin.

    Raises:
        CalibrationError: It cannot be imported, or is no function.
    """
    module_name, name = _parts(text)
    with users_code(f"{what} {text!r}: {module_name!r} cannot be imported"):
        if module_name.endswith(".py"):
            value: Any = _module_of_file(Path(module_name))
        else:
            value = importlib.import_module(module_name)
    with users_code(f"{what} {text!r}: {name!r} cannot be had"):
        try:
            for part in name.split("."):
                value = getattr(value, part)
        except AttributeError as error:
            raise CalibrationError(f"{what} {text!r}: {module_name!r} has no {name!r}") from error
    if not callable(value):
        raise CalibrationError(
            f"{what} {text!r}: {name!r} is a {type(value).__name__}, expected a function"
        )
    return cast(Callable[..., Any], value)


def function_name(text: str) -> str:
    """What stands behind the colon."""
    return _parts(text)[1]


def _parts(text: str) -> tuple[str, str]:
    found = _FUNCTION.fullmatch(text)
    assert found is not None
    return found["module"], found["function"]


class _Stderr:
    """``sys.stderr`` in the place of ``sys.stdout``, which the user's code may close."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)

    def close(self) -> None:
        """Leave it open."""


def _module_of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    # A name of its own: a file called numpy.py must not take numpy's place.
    name = f"quantkit_data_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
