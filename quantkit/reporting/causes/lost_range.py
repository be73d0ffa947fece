"""Codes that do not lie where the values are.

With s the step of the codes, values lose ``s^2 / 12`` by rounding and ``mean((x - clip(x))^2)`` by
clipping.

1. A clipped tail: codes as wide as the values would lose a small part of what is lost.
2. A saturated output: the same of a tensor that quantkit never clips, whatever the method.
3. Wasted range: codes a small part as wide would.
"""

from collections.abc import Iterator
from itertools import product

from quantkit.calibration.statistics import TensorStatistics
from quantkit.reporting.causes.findings import Findings
from quantkit.reporting.causes.noise import (
    harmful_layers,
    mean_square,
    noise_percents,
    rounding_and_clipping,
    so_far,
)
from quantkit.reporting.causes.remedies import calibrate_anew, clip_less
from quantkit.reporting.layer import Layer, TensorRange
from quantkit.reporting.report import Cause, Remedy

# How much less would be lost: 6 dB, a bit of the codes. Ranges chosen by error stay below.
CLIPPED_TOO_MUCH = 4.0
# 12 dB, two bits: ranges of a few samples often leave one unused.
WASTED = 16.0
# Beyond this the tensor's own SQNR says that what is clipped is nothing.
_HEALTHY_DB = 30.0
_SHARES = (1.0, 0.75, 0.5, 0.35, 0.25, 0.18, 0.125, 0.09, 0.06, 0.04, 0.02, 0.01)
# A layer whose range is at fault is among the loudest, or changes answers.
_LOUD_PERCENT, _LOUD_DB = 25.0, 30.0
# The default method cuts off a tenth of this where a tail is long.
_CLIPPED_PERCENT = 0.1
# Of few outputs one that is larger than any in calibration is no wonder.
_SATURATED_PERCENT = 5.0


def lost_range(findings: Findings) -> Iterator[Cause]:
    """Layers whose output is cut off, or uses a small part of its codes."""
    percents = noise_percents(findings)
    program = findings.reference.program
    ends = program.output_names() | {
        node.inputs[0] for node in program.nodes if node.op_type in ("Softmax", "LogSoftmax")
    }
    for layer in harmful_layers(findings):
        statistics = findings.statistics.get(layer.value)
        if layer.output is None or statistics is None:
            continue
        percent = percents.get(layer.node)
        is_end = layer.value in ends
        least = _SATURATED_PERCENT if is_end else _CLIPPED_PERCENT
        is_cut = layer.output.clipped_percent >= least and _is_loud(layer, percent)
        if is_cut and clipping_ratio(layer.output, statistics) >= CLIPPED_TOO_MUCH:
            name = "saturated output" if is_end else "clipped tail"
            remedy = calibrate_anew(findings) if is_end else clip_less(findings)
            yield _cause(layer, name, _beyond(layer.output), remedy, percent)
        elif not is_end and _is_loud(layer, percent):
            reach = max(abs(statistics.minimum), abs(statistics.maximum))
            is_unused = unused_ratio(layer.output, statistics) >= WASTED
            is_tail = _takes_everything(findings) and (
                tail_ratio(layer.output, statistics) >= WASTED
            )
            if reach > 0.0 and (is_unused or is_tail):
                remedy = _narrower() if is_tail else calibrate_anew(findings)
                yield _cause(layer, "wasted range", _unused(layer.output), remedy, percent)


def _is_loud(layer: Layer, percent: float | None) -> bool:
    """Ranges chosen by the error of the outputs may clip much, where that costs little."""
    network = layer.network_sqnr_db
    return percent is None or percent >= _LOUD_PERCENT or (network or 0.0) < _LOUD_DB


def clipping_ratio(output: TensorRange, statistics: TensorStatistics) -> float:
    """How many times more is lost than with codes as wide as the values; 0 where little is."""
    codes = _codes(output)
    low = output.low if output.low < 0.0 else min(statistics.minimum, 0.0)
    high = output.high if output.high > 0.0 else max(statistics.maximum, 0.0)
    # Behind a ReLU the lowest code is real 0: what lies below was cut off by intention.
    rounded, clipped = rounding_and_clipping(statistics, low, high, codes)
    whole = max(high, statistics.maximum) - min(low, statistics.minimum)
    power = mean_square(statistics)
    if clipped <= power * 10.0 ** (-_HEALTHY_DB / 10.0):
        return 0.0
    return (rounded + clipped) / max((whole / (codes - 1)) ** 2 / 12.0, 1e-300)


def unused_ratio(output: TensorRange, statistics: TensorStatistics) -> float:
    """How many times more is lost by rounding than with codes that end where the values do."""
    low, high = min(statistics.minimum, 0.0), max(statistics.maximum, 0.0)
    return ((output.high - output.low) / (high - low)) ** 2 if high > low else 0.0


def tail_ratio(output: TensorRange, statistics: TensorStatistics) -> float:
    """How many times more is lost than with the best of some narrower ranges."""
    codes = _codes(output)
    now = sum(rounding_and_clipping(statistics, output.low, output.high, codes))
    low, high = min(statistics.minimum, 0.0), max(statistics.maximum, 0.0)
    best = min(
        sum(rounding_and_clipping(statistics, low * a, high * b, codes))
        for a, b in product(_SHARES if low else (1.0,), _SHARES if high else (1.0,))
    )
    return now / best if best > 0.0 else 0.0


def _codes(output: TensorRange) -> int:
    return 1 << (16 if "16" in output.dtype else 8)


def _beyond(output: TensorRange) -> str:
    return (
        f"codes end at {output.low:.4g} and {output.high:.4g}, values reach from "
        f"{output.minimum:.4g} to {output.maximum:.4g}: {output.clipped_percent:.3g} % are cut off"
    )


def _unused(output: TensorRange) -> str:
    return (
        f"codes reach from {output.low:.4g} to {output.high:.4g}, values from "
        f"{output.minimum:.4g} to {output.maximum:.4g}, nearly all of them in a small part of that"
    )


def _takes_everything(findings: Findings) -> bool:
    config = findings.config()
    return config is not None and config.range_estimator == "minmax"


def _narrower() -> Remedy:
    return Remedy(text="--method auto", config={"range_estimator": "auto"})


def _cause(layer: Layer, name: str, evidence: str, remedy: Remedy, percent: float | None) -> Cause:
    return Cause(
        node=layer.node,
        cause=name,
        evidence=f"{evidence}; {so_far(layer)}",
        remedy=remedy,
        noise_percent=percent,
    )
