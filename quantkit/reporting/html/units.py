"""Numbers of ``numbers`` with their units, for where no heading says them."""

from quantkit.reporting.numbers import EXACT, decibels, difference, milliseconds, percent, real
from quantkit.reporting.report import Drop


def percent_text(value: float) -> str:
    """A share."""
    return f"{percent(value)} %"


def decibel_text(value: float) -> str:
    """An SQNR."""
    text = decibels(value)
    return text if text == EXACT else f"{text} dB"


def millisecond_text(value: float) -> str:
    """A latency."""
    return f"{milliseconds(value)} ms"


def drop_texts(drop: Drop) -> tuple[str, str, str]:
    """Lower end of the interval, drop and upper end, without the unit."""
    text = difference if drop.unit else _signed
    return text(drop.low), text(drop.points), text(drop.high)


def short_metric(metric: str) -> str:
    """A user's metric without its module."""
    return metric.rpartition(":")[2]


def _signed(value: float) -> str:
    return f"{'+' if value > 0.0 else ''}{real(value)}"
