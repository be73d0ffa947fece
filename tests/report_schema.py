"""The fields of a report's JSON as ``docs/report.md`` tells them, made from the schema itself.

Types are the annotations, what a field means is its line in the class's docstring.
"""

import inspect
import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from quantkit.reporting.report import Report

_ATTRIBUTE = re.compile(r"^(\w+): (.*)$")
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def schema_text() -> str:
    """A table per class of the schema, the report first, in the order they are first used."""
    return "\n\n".join(_part(model) for model in documented_models())


def documented_models() -> list[type[BaseModel]]:
    """The classes of the schema, the report first."""
    found: list[type[BaseModel]] = [Report]
    for model in found:
        for field in model.model_fields.values():
            found.extend(one for one in _used(field.annotation) if one not in found)
    return found


def _used(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _used(argument)


def _part(model: type[BaseModel]) -> str:
    told = meanings(model)
    first = (inspect.getdoc(model) or "").split("\n\n")[0].replace("\n", " ")
    rows = [
        f"| `{name}` | {_type(field.annotation)} | {told.get(name, '')} |"
        for name, field in model.model_fields.items()
    ]
    head = ["| field | type | meaning |", "| --- | --- | --- |"]
    return "\n".join([f"#### {model.__name__}", "", first, "", *head, *rows])


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Field -> its sentence in the docstring."""
    _, _, attributes = (inspect.getdoc(model) or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    name = ""
    for line in inspect.cleandoc(attributes).splitlines():
        match = _ATTRIBUTE.match(line)
        if match:
            name = match[1]
            found[name] = match[2]
        elif name and line.strip():
            found[name] += f" {line.strip()}"
    return {name: _markdown(text) for name, text in found.items()}


def _markdown(text: str) -> str:
    return re.sub(r"\bNone\b", "null", text.replace("``", "`").replace("|", r"\|"))


def _type(annotation: Any) -> str:
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    arguments = get_args(annotation)
    name = getattr(annotation, "__name__", "")
    if name == "Literal":
        return ", ".join(map(str, arguments))
    if name == "tuple":
        inner = [one for one in arguments if one is not Ellipsis]
        if Ellipsis in arguments:
            return f"list of {_several(inner[0])}"
        return f"list of {len(inner)} {_several(inner[0])}"
    if name == "dict":
        return f"object of {_several(arguments[1])}"
    return " or ".join(dict.fromkeys(map(_type, arguments)))


def _several(annotation: Any) -> str:
    return f"{_PLAIN[annotation]}s" if annotation in _PLAIN else _type(annotation)
