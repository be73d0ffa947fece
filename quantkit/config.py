"""What the user may choose: frozen and validated."""

import difflib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

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
        activation_type: Codes of activations: "uint8" with any zero point, or "int8" with zero
            point 0 (symmetric).
        tensors_in_16_bits: Names of activations with codes of 16 bits, of the same kind;
            onnxruntime computes the nodes that read or write them in floats.
        cross_layer_equalization: Whether channels between two layers are rescaled, so that all of
            them use the codes of their tensor.
        linear_edge_equalization: Likewise where tensors are added up before they are read.
        high_bias_absorption: Whether what a channel always holds is moved into the next bias.
        weight_scale_search: Whether weight scales are those of least squared error.
        bias_correction: Whether the mean error of rounded weights is taken out of the biases.
        activation_range_search: Whether ranges are chosen by the error of the network's output that
            they cause; needs data.
        learned_rounding: Whether weights are rounded so that their layer's output stays; needs
            data.
        empirical_bias_correction: Whether biases make up for what is left of the mean error of
            their layer's output; needs data.
        block_reconstruction: Whether rounding and scales of whole blocks are fitted to the float
            block's output; needs data.
        nodes_to_exclude: Names of nodes that stay float.
        op_types_to_quantize: Only these op types are quantized; empty: all that can be.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    range_estimator: str = "auto"
    percentile: Annotated[float, Field(strict=True, gt=50, le=100)] = 99.99
    per_channel: StrictBool = True
    reduce_range: StrictBool = False
    nodes_to_reduce_range: tuple[str, ...] = ()
    activation_type: Literal["uint8", "int8"] = "uint8"
    tensors_in_16_bits: tuple[str, ...] = ()
    cross_layer_equalization: StrictBool = True
    linear_edge_equalization: StrictBool = True
    high_bias_absorption: StrictBool = True
    weight_scale_search: StrictBool = True
    bias_correction: StrictBool = True
    activation_range_search: StrictBool = False
    learned_rounding: StrictBool = False
    empirical_bias_correction: StrictBool = False
    block_reconstruction: StrictBool = False
    nodes_to_exclude: tuple[str, ...] = ()
    op_types_to_quantize: tuple[str, ...] = ()

    def steps_with_data(self) -> tuple[str, ...]:
        """The steps switched on that run the model on the calibration data."""
        steps = (
            "activation_range_search",
            "learned_rounding",
            "empirical_bias_correction",
            "block_reconstruction",
        )
        return tuple(step for step in steps if getattr(self, step))

    def weight_qmax(self, node: str) -> int:
        """The largest weight code of a node; the smallest is its negative."""
        return 64 if self.reduce_range or node in self.nodes_to_reduce_range else 127


_EXPECTED: Mapping[Any, str] = {
    bool: "true or false",
    float: "a number above 50, at most 100",
    str: "a name",
    tuple[str, ...]: "a list of names",
    Literal["uint8", "int8"]: '"uint8" or "int8"',
}
_MOST_SHOWN = 60


def config_of(entries: Mapping[str, Any], source: str) -> QuantConfig:
    """The configuration with these entries.

    Args:
        entries: By the names of the fields.
        source: Where they were given, for the message.

    Raises:
        ConfigError: An entry is unknown or wrong.
    """
    unknown = next((name for name in entries if name not in QuantConfig.model_fields), None)
    if unknown is not None:
        raise ConfigError(f"{source}: {_unknown(unknown, entries[unknown])}")
    try:
        return QuantConfig.model_validate(entries)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        expected = _EXPECTED[QuantConfig.model_fields[name].annotation]
        got = value_text(entries[name])
        raise ConfigError(f"{source}: {name}: {expected} expected, got {got}") from error


def value_text(value: object) -> str:
    """A value as a recipe writes it, cut where it is long."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except ValueError:  # a number of more digits than Python writes
        return "a number of thousands of digits"
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 1]}…"


def _unknown(name: str, value: object) -> str:
    if isinstance(value, Mapping):
        return f"[{name}] is a table; entries stand at the top level: leave out the line [{name}]"
    close = difflib.get_close_matches(name, QuantConfig.model_fields, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    known = ", ".join(QuantConfig.model_fields)
    return f"no entry is called {name!r}; {hint}The entries are {known}"
