"""``package.module:function`` and ``file.py:function``: data from the user's own code."""

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from quantkit.calibration.spool import one_line
from quantkit.errors import CalibrationError

_NAMES = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_FUNCTION = re.compile(rf"(?P<module>.+\.py|{_NAMES}):(?P<function>{_NAMES})")


def is_data_function(text: str) -> bool:
    """Whether a text looks like ``package.module:function`` or ``file.py:function``."""
    return _FUNCTION.fullmatch(text) is not None


@contextmanager
def called(text: str) -> Iterator[Any]:
    """What the function returns, called without arguments.

    The current folder (and a file's own) can be imported from while the context lasts, so that a
    generator may still import.

    Raises:
        CalibrationError: It cannot be imported, is no function, or fails; one line says which.
    """
    found = _FUNCTION.fullmatch(text)
    assert found is not None
    module_name, function_name = found["module"], found["function"]
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        try:
            if module_name.endswith(".py"):
                sys.path.insert(0, str(Path(module_name).resolve().parent))
                module = _module_of_file(Path(module_name))
            else:
                module = importlib.import_module(module_name)
        except (Exception, SystemExit) as error:  # the user's own code may raise anything
            raise _failed(f"data {text!r}: {module_name!r} cannot be imported", error) from error
        value: Any = module
        try:
            for name in function_name.split("."):
                value = getattr(value, name)
        except AttributeError as error:
            raise CalibrationError(
                f"data {text!r}: {module_name!r} has no {function_name!r}"
            ) from error
        if not callable(value):
            raise CalibrationError(
                f"data {text!r}: {function_name!r} is a {type(value).__name__}, expected a function"
            )
        try:
            result = value()
        except (Exception, SystemExit) as error:
            raise _failed(f"data {text!r}: {function_name}() failed", error) from error
        yield result
    finally:
        sys.path[:] = before


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


def _failed(what: str, error: BaseException) -> CalibrationError:
    return CalibrationError(f"{what}: {type(error).__name__}: {one_line(error)}")
