"""Recipes: configurations with a name, and the TOML files that hold them.

A file holds fields of :class:`QuantConfig`; ``base`` names the recipe that the others come from:

    base = "balanced"
    per_channel = false
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from quantkit.config import QuantConfig, config_of, value_text
from quantkit.errors import ConfigError
from quantkit.graph.partial_file import partial_file

FAST = QuantConfig()
BALANCED = QuantConfig(
    activation_range_search=True, learned_rounding=True, empirical_bias_correction=True
)
ACCURATE = BALANCED.model_copy(update={"block_reconstruction": True})
RECIPES: Mapping[str, QuantConfig] = MappingProxyType(
    {"fast": FAST, "balanced": BALANCED, "accurate": ACCURATE}
)
"""By name: ``fast`` needs the calibration table alone, the others run the model on the data."""


def recipe_of(text: str | Path, default: str = "fast") -> QuantConfig:
    """The recipe with this name, or in this TOML file.

    Args:
        text: A name of :data:`RECIPES`, or a path.
        default: The base of a file that names none.

    Raises:
        ConfigError: As :func:`read_config`; a text that is neither says so.
    """
    return _with_base(text, default)[1]


def base_of(text: str | Path, default: str = "fast") -> str:
    """The name of the recipe that :func:`recipe_of` begins with; the arguments are the same."""
    return _with_base(text, default)[0]


def read_config(path: str | Path, default: str = "fast") -> QuantConfig:
    """Read a TOML file: ``base``, and fields of :class:`QuantConfig` that differ from it.

    Args:
        path: The file.
        default: The base where the file names none.

    Raises:
        ConfigError: The file is missing, is not TOML, or has an unknown or wrong entry.
    """
    return _read(path, default)[1]


def write_recipe(config: QuantConfig, path: str | Path, comments: Sequence[str] = ()) -> None:
    """Write a TOML file that :func:`read_config` reads back as an equal configuration.

    It names the nearest recipe as its base, so it means the same to every command.

    Args:
        config: The choices.
        path: The file; replaced as a whole.
        comments: Lines above them.

    Raises:
        ConfigError: The file cannot be written.
    """
    lines = [f"# {line}".rstrip() for text in comments for line in _printable(text)]
    base = nearest_recipe(config)
    lines.append(f"base = {_toml(base)}")
    lines += (f"{name} = {_toml(value)}" for name, value in _changes(config, base).items())
    try:
        with partial_file(Path(path)) as partial:
            partial.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    except OSError as error:
        raise ConfigError(f"recipe {str(path)!r} cannot be written: {error.strerror}") from error


def recipe_name(config: QuantConfig, base: str | None = None) -> str:
    """What to call a configuration.

    Args:
        config: The choices.
        base: The recipe that it was made from; None: the nearest.

    Returns:
        "balanced", or "custom (balanced, but: per_channel off, nodes_to_exclude: conv1)".
    """
    nearest = nearest_recipe(config)
    base = nearest if base is None or config == RECIPES[nearest] else base
    changes = _changes(config, base)
    told = ", ".join(_told(name, value) for name, value in changes.items())
    return f"custom ({base}, but: {told})" if changes else base


def nearest_recipe(config: QuantConfig) -> str:
    """The name of the recipe with the fewest different fields; the first of equals."""
    return min(RECIPES, key=lambda name: len(_changes(config, name)))


def _with_base(text: str | Path, default: str) -> tuple[str, QuantConfig]:
    name = str(text)
    if name in RECIPES:
        return name, RECIPES[name]
    if not name or (Path(name).suffix != ".toml" and not Path(name).exists()):
        raise ConfigError(
            f"no recipe is called {name!r}; give {', '.join(RECIPES)}, or a TOML file"
        )
    return _read(name, default)


def _read(path: str | Path, default: str) -> tuple[str, QuantConfig]:
    """The base of a file, and what the file makes of it."""
    source = f"recipe {str(path)!r}"
    try:
        # Some editors begin UTF-8 with a mark, which TOML does not have.
        entries = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{source} cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise ConfigError(f"{source} is not TOML: brackets in brackets, too many") from error
    except ValueError as error:  # of TOML, of UTF-8, of numbers with thousands of digits
        raise ConfigError(f"{source} is not TOML: {error}") from error
    base = entries.pop("base", default)
    if not isinstance(base, str) or base not in RECIPES:
        raise ConfigError(
            f"{source}: base: one of {', '.join(RECIPES)} expected, got {value_text(base)}"
        )
    return base, config_of({**_fields(RECIPES[base]), **entries}, source)


def _told(name: str, value: object) -> str:
    """A choice in a few words: of a long list the first entry."""
    if isinstance(value, bool):
        return f"{name} {'on' if value else 'off'}"
    if isinstance(value, tuple):
        more = f" and {len(value) - 1} more" if len(value) > 1 else ""
        return f"{name}: {value[0]}{more}" if value else f"{name}: none"
    return f"{name}: {value}"


def _changes(config: QuantConfig, base: str) -> dict[str, Any]:
    before = _fields(RECIPES[base])
    return {name: value for name, value in _fields(config).items() if value != before[name]}


def _fields(config: QuantConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in QuantConfig.model_fields}


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        # JSON's strings are TOML's, but for DEL.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _printable(text: str) -> list[str]:
    """Lines without what TOML forbids in comments."""
    lines = text.splitlines() or [""]
    return ["".join(c if c.isprintable() else " " for c in line) for line in lines]
