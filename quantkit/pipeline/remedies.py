"""The remedies of a report as changes of how the network was quantized."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from quantkit.config import QuantConfig, config_of
from quantkit.quantized_model.model import QuantizedModel
from quantkit.reporting.report import Remedy, Report

MOST_REMEDIES = 4


def stored_config(model: QuantizedModel) -> QuantConfig:
    """How a file was quantized, as far as its metadata say; otherwise the default."""
    try:
        return QuantConfig.model_validate_json(model.metadata.get("config", "{}"))
    except ValidationError:
        return QuantConfig()


def with_changes(config: QuantConfig, changes: Sequence[Mapping[str, Any]]) -> QuantConfig:
    """The configuration with the fields of several remedies; lists of names are joined."""
    fields = {name: getattr(config, name) for name in QuantConfig.model_fields}
    for change in changes:
        for name, value in change.items():
            is_list = isinstance(value, tuple)
            fields[name] = tuple(dict.fromkeys((*fields[name], *value))) if is_list else value
    return config_of(fields, "remedy")


def distinct_remedies(report: Report) -> tuple[tuple[str, Remedy], ...]:
    """Name of the cause and remedy, the worst first, of what can be applied; each once."""
    found: dict[str, tuple[str, Remedy]] = {}
    for cause in report.causes:
        remedy = cause.remedy
        if remedy.config or remedy.preprocessing or remedy.recalibrate:
            change = remedy.model_copy(update={"text": ""}).model_dump_json()
            found.setdefault(change, (cause.cause, remedy))
    return tuple(found.values())[:MOST_REMEDIES]


def together(remedies: Sequence[Remedy]) -> Remedy:
    """One remedy of several."""
    fields = with_changes(QuantConfig(), [remedy.config for remedy in remedies])
    names = dict.fromkeys(name for remedy in remedies for name in remedy.config)
    preprocessing: dict[str, str | tuple[float, ...]] = {}
    for remedy in remedies:
        preprocessing |= remedy.preprocessing
    return Remedy(
        text=" and ".join(remedy.text.split(":")[0] for remedy in remedies),
        config={name: getattr(fields, name) for name in names},
        preprocessing=preprocessing,
        recalibrate=any(remedy.recalibrate for remedy in remedies),
    )
