"""An array that refuses floats: as input, output or temporary of whatever touches it.

A guarded array passes its type on to results and views; what would be a scalar stays an array
without axes. Two ways around it are closed apart: arrays that a kernel makes with ``np.empty`` and
the like, or that ``np.asarray`` would make plain ones (:func:`guarded_allocations`), and arrays
that it holds, such as tables (:func:`held_arrays`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import numpy.ma  # NumPy loads it on first use, and makes floats then.
import numpy.typing as npt
import pytest

from quantkit.numerics.affine import QuantParams


class IntegersOnly(np.ndarray[Any, Any]):
    """Integers whose every descendant is checked, through ufuncs, functions, views and copies."""

    def __array_finalize__(self, parent: object) -> None:
        _refuse(self.dtype)

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **options: Any
    ) -> Any:
        for operand in (*inputs, *(out or ()), *options.values()):
            _refuse_operand(operand)
        plain = [_plain(operand) for operand in inputs]
        if out is not None:
            options["out"] = tuple(_plain(target) for target in out)
        result = getattr(ufunc, method)(*plain, **options)
        return out[0] if out is not None and len(out) == 1 else guard_all(result)

    def __array_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        arguments: Iterable[Any],
        options: Mapping[str, Any],
    ) -> Any:
        for operand in (*_flatten(arguments), *_flatten(options.values())):
            _refuse_operand(operand)
        # The default implementation: NumPy's Python functions come back here for each inner call.
        return guard_all(super().__array_function__(function, types, arguments, options))


def guard(codes: npt.NDArray[Any]) -> IntegersOnly:
    """``codes`` as an array that refuses floats."""
    return codes.view(IntegersOnly)


def guard_all(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(guard_all(item) for item in value)
    if isinstance(value, np.ndarray | np.generic):
        _refuse(value.dtype)
        return _as_array(value).view(IntegersOnly)
    _refuse_operand(value)
    return value


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, IntegersOnly) else value


def _flatten(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        if isinstance(value, tuple | list):
            yield from _flatten(value)
        else:
            yield value


def _refuse_operand(operand: Any) -> None:
    if isinstance(operand, np.ndarray | np.generic):
        _refuse(operand.dtype)
    elif isinstance(operand, float):
        raise AssertionError(f"a float operand: {operand}")
    elif isinstance(operand, np.dtype) or (
        isinstance(operand, type) and issubclass(operand, np.generic)
    ):
        _refuse(np.dtype(operand))


def _refuse(dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "iub":
        raise AssertionError(f"a float array of dtype {dtype}")


ALLOCATORS = (
    *("empty", "zeros", "ones", "full", "empty_like", "zeros_like", "full_like", "arange"),
    *("array", "asarray", "asanyarray", "ascontiguousarray"),
)
_as_array = np.asanyarray


@contextmanager
def guarded_allocations(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """While active, NumPy's functions that make arrays return guarded ones."""

    def guarded(allocate: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments, **options: guard_all(allocate(*arguments, **options))

    with monkeypatch.context() as patch:
        for name in ALLOCATORS:
            patch.setattr(np, name, guarded(getattr(np, name)))
        yield


def held_arrays(thing: object, seen: set[int] | None = None) -> Iterator[npt.NDArray[Any]]:
    """Every array reachable from a kernel: closures, caches, containers, attributes.

    ``QuantParams`` are not entered: kernels keep them for the dtype and range of the codes.
    """
    seen = set() if seen is None else seen
    if id(thing) in seen or isinstance(thing, QuantParams | type | ModuleType | str | int):
        return
    seen.add(id(thing))
    if isinstance(thing, np.ndarray):
        yield thing
    elif isinstance(thing, Mapping):
        for value in thing.values():
            yield from held_arrays(value, seen)
    elif isinstance(thing, tuple | list):
        for value in thing:
            yield from held_arrays(value, seen)
    else:
        for cell in getattr(thing, "__closure__", None) or ():
            yield from held_arrays(cell.cell_contents, seen)
        for name in ("__wrapped__", "__self__", *getattr(type(thing), "__slots__", ())):
            yield from held_arrays(getattr(thing, name, None), seen)
        yield from held_arrays(getattr(thing, "__dict__", {}), seen)
