"""What the user may choose: frozen, validated, read from TOML."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError

from quantkit.errors import ConfigError


class QuantConfig(BaseModel):
    """How a network is quantized.

    Attributes:
        range_estimator: How a range is chosen from a histogram; a name of the registry.
        percentile: Where the method cuts at a percentile: at most 100 less this many per cent of a
            tensor's values are clipped at each end; above 50, at most 100.
        per_channel: Whether every output channel of a weight has its own scale.
        reduce_range: Whether weight codes stay within [-64, 64], so that x86 without VNNI cannot
            saturate when it adds two products in 16 bits.
        nodes_to_reduce_range: Names of the only nodes whose weight codes stay within [-64, 64].
        bias_correction: Whether the mean error of rounded weights is taken out of the biases.
        nodes_to_exclude: Names of nodes that stay float.
        op_types_to_quantize: Only these op types are quantized; empty: all that can be.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    range_estimator: str = "auto"
    percentile: Annotated[float, Field(strict=True, gt=50, le=100)] = 99.99
    per_channel: StrictBool = True
    reduce_range: StrictBool = False
    nodes_to_reduce_range: tuple[str, ...] = ()
    bias_correction: StrictBool = True
    nodes_to_exclude: tuple[str, ...] = ()
    op_types_to_quantize: tuple[str, ...] = ()

    def weight_qmax(self, node: str) -> int:
        """The largest weight code of a node; the smallest is its negative."""
        return 64 if self.reduce_range or node in self.nodes_to_reduce_range else 127


def read_config(path: str | Path) -> QuantConfig:
    """Read a TOML file whose keys are the fields of :class:`QuantConfig`.

    Raises:
        ConfigError: The file is missing, is not TOML, or has an unknown or wrong entry.
    """
    try:
        entries = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"recipe {str(path)!r} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe {str(path)!r} is not TOML: {error}") from error
    return config_of(entries, f"recipe {str(path)!r}")


def config_of(entries: Mapping[str, Any], source: str) -> QuantConfig:
    """The configuration with these entries.

    Args:
        entries: By the names of the fields.
        source: Where they were given, for the message.

    Raises:
        ConfigError: An entry is unknown or wrong.
    """
    try:
        return QuantConfig.model_validate(entries)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        known = ", ".join(QuantConfig.model_fields)
        raise ConfigError(f"{source}: {where}: {first['msg']}; the entries are {known}") from error
