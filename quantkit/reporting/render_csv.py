"""The layers of a report as comma-separated values (RFC 4180), numbers as they are in its JSON."""

import csv
import io
import math
from collections.abc import Iterator

from quantkit.reporting.layer import Accumulator, Layer, TensorRange
from quantkit.reporting.report import Report

_PLAIN = (
    "node",
    "op_type",
    "value",
    "macs",
    "isolated_sqnr_db",
    "accumulated_sqnr_db",
    "isolated_cosine",
    "accumulated_cosine",
    "network_sqnr_db",
    "saturated_percent",
    "kept_float",
)
_OUTPUT = (
    "dtype",
    "scale",
    "zero_point",
    "low",
    "high",
    "minimum",
    "maximum",
    "clipped_percent",
)
_PLAIN_SUMS = ("bound", "bits")
_SUMS_OF_CHANNELS = ("multiplier", "mantissa", "shift")
COLUMNS = (
    *_PLAIN,
    *(f"output_{name}" for name in _OUTPUT),
    *(f"accumulator_{name}" for name in _PLAIN_SUMS),
    *(f"accumulator_{name}_{end}" for name in _SUMS_OF_CHANNELS for end in ("least", "greatest")),
)
"""Fields of ``Layer``, of its ``output`` and of its ``accumulator``."""

_Value = str | int | float | None


def render_csv(report: Report) -> str:
    """A row per layer, in the graph's order; an empty field where there is no value.

    Histograms and ranges of channels, which are no single numbers, are in the JSON alone.
    """
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(COLUMNS)
    writer.writerows([_text(value) for value in _row(layer)] for layer in report.layers)
    return stream.getvalue()


def _row(layer: Layer) -> Iterator[_Value]:
    for name in _PLAIN:
        yield getattr(layer, name)
    yield from _of_output(layer.output)
    yield from _of_sums(layer.accumulator)


def _of_output(output: TensorRange | None) -> Iterator[_Value]:
    for name in _OUTPUT:
        yield getattr(output, name, None)


def _of_sums(sums: Accumulator | None) -> Iterator[_Value]:
    for name in _PLAIN_SUMS:
        yield getattr(sums, name, None)
    for name in _SUMS_OF_CHANNELS:
        yield from getattr(sums, name, (None, None))


def _text(value: _Value) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        # As pydantic writes them in JSON.
        return "NaN" if math.isnan(value) else "Infinity" if value > 0.0 else "-Infinity"
    return str(value)
