"""The public names, the registries and the errors say what they are."""

import builtins
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import quantkit
from quantkit import errors
from quantkit.errors import QuantkitError
from quantkit.registry import Registry


def modules() -> list[str]:
    return [module.name for module in pkgutil.walk_packages(quantkit.__path__, "quantkit.")]


def registries() -> dict[str, Registry[object]]:
    """Every registry of the library, by module and name, each once."""
    found: dict[int, tuple[str, Registry[object]]] = {}
    for name in modules():
        for attribute, value in vars(importlib.import_module(name)).items():
            if isinstance(value, Registry):
                found.setdefault(id(value), (f"{name}.{attribute}", value))
    return dict(found.values())


def test_all_is_sorted_and_is_what_can_be_imported() -> None:
    # Constants, then types, then functions, as ruff sorts them.
    kinds = {name: (not name.isupper(), not name[0].isupper(), name) for name in quantkit.__all__}
    assert quantkit.__all__ == sorted(kinds, key=kinds.__getitem__)
    # Sub-modules become attributes as soon as anything imports them.
    public = {
        name
        for name, value in vars(quantkit).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    lazy = {name for name in quantkit.__all__ if name not in vars(quantkit)}
    for name in quantkit.__all__:
        assert getattr(quantkit, name) is not None
    assert public | lazy | {"__version__"} == {*quantkit.__all__, "__version__"}


def test_public_names_have_docstrings() -> None:
    for name in quantkit.__all__:
        value = getattr(quantkit, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), name


def test_public_methods_have_docstrings() -> None:
    classes = [value for value in vars(quantkit).values() if inspect.isclass(value)]
    methods = {
        f"{each.__name__}.{name}": value
        for each in classes
        for name, value in inspect.getmembers(each, inspect.isroutine)
        if not name.startswith("_") and name in vars(each)
    }
    assert {"QuantizedModel.from_qdq", "IntegerSession.run_codes"} <= set(methods)
    assert [name for name, value in methods.items() if not inspect.getdoc(value)] == []


@pytest.mark.parametrize("name", modules())
def test_modules_have_docstrings(name: str) -> None:
    assert importlib.import_module(name).__doc__, f"{name} has no docstring"


def test_every_registry_entry_has_a_docstring() -> None:
    found = registries()
    assert "OPS" in {name.rpartition(".")[2] for name in found}
    for where, registry in found.items():
        assert len(registry) > 0, where
        for name, entry in registry.items():
            described = entry if inspect.isclass(entry) or callable(entry) else type(entry)
            assert inspect.getdoc(described), f"{where}[{name!r}] has no docstring"


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    """Indentation and branches of the docstring give each class's parent."""
    assert errors.__doc__ is not None
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in errors.__doc__.splitlines():
        match = re.match(r"^    ((?:[│ ]   )*)(?:[├└]── )?(\w+Error)\b", line)
        if match is None or line.lstrip().startswith(">>>"):
            continue
        depth = len(match[1]) // 4 + ("──" in line)
        path[depth:] = [match[2]]
        drawn[match[2]] = path[depth - 1] if depth else "Exception"
    real = {
        name: value.__bases__[0].__name__
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, QuantkitError)
    }
    assert drawn == real


def test_errors_have_docstrings_and_no_builtin_names() -> None:
    for name, value in vars(errors).items():
        if inspect.isclass(value):
            assert value.__doc__, name
            assert not hasattr(builtins, name)


def test_nothing_called_cli_can_be_imported(repository: Path) -> None:
    assert not (repository / "cli" / "__init__.py").exists()
