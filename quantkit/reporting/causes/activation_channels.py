"""Channels of an activation that take the codes from the others.

All channels of an activation share one scale. With e_c the extent of channel c (0 included) and E
that of the tensor, a channel is left ``255 e_c / E`` codes.

1. A dead channel holds the same value always, and that value sets E: the codes carry nothing.
2. An outlier channel reaches many times as far as all others.
3. Many channels differ: the median one is left a few codes.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from quantkit.calibration.statistics import ChannelStatistics
from quantkit.reporting.causes.findings import Findings
from quantkit.reporting.causes.noise import harmful_layers, noise_percents, so_far
from quantkit.reporting.causes.remedies import even_channels
from quantkit.reporting.report import Cause

# Without it the others would have two and a half bits more; healthy networks stay below 4 here.
_TAKES_CODES = 6.0
# Few: what is left are the tensor's ordinary channels.
_FEW = 1 / 16
# A channel that moves by less than this share of the tensor's extent says nothing.
_CONSTANT = 0.01
# The median channel keeps a tenth and more in networks that are not equalized, but healthy.
_UNEVEN = 16.0
# What these read is to blame.
_PASSED_ON = ("AveragePool", "GlobalAveragePool", "MaxPool", "ReduceMean", "Flatten", "Reshape")


def activation_channels(findings: Findings) -> Iterator[Cause]:
    """Layers whose output has a dead or an outlier channel, or very uneven ones."""
    percents = noise_percents(findings)
    for layer in harmful_layers(findings):
        statistics = findings.statistics.get(layer.value)
        channels = None if statistics is None else statistics.channels
        if layer.output is None or channels is None or channels.channels < 3:
            continue
        if layer.op_type in _PASSED_ON:
            continue
        if layer.value in findings.reference.program.output_names():
            continue  # scores of classes are no channels
        found = _named(channels, layer.output.high - layer.output.low)
        if found is not None:
            name, evidence = found
            yield Cause(
                node=layer.node,
                cause=name,
                evidence=f"{evidence}; {so_far(layer)}",
                remedy=even_channels(findings, layer),
                noise_percent=percents.get(layer.node),
            )


def _named(channels: ChannelStatistics, reach: float) -> tuple[str, str] | None:
    low, high = np.minimum(channels.minimum, 0.0), np.maximum(channels.maximum, 0.0)
    order = np.argsort(-np.maximum(-low, high), kind="stable")
    whole = float(high.max() - low.min())
    for count in range(1, max(1, int(_FEW * channels.channels)) + 1):
        rest = order[count:]
        others = float(high[rest].max() - low[rest].min())
        # Where the outlier is cut off, the others have their codes: that is clipping.
        if whole >= _TAKES_CODES * others > 0.0 and reach >= _TAKES_CODES / 2.0 * others:
            return _few(channels, order[:count], whole / others)
    extent = high - low
    alive = extent[extent > 0]
    if alive.size < 3 or whole < _UNEVEN * float(np.median(alive)) or reach < whole / 2.0:
        return None
    ratio = whole / float(np.median(alive))
    return (
        "activation channels of very different ranges",
        (
            f"all channels together reach {ratio:.0f} times as far as the median one, which keeps "
            f"{255 / ratio:.0f} of 255 steps"
        ),
    )


def _few(channels: ChannelStatistics, found: npt.NDArray[np.intp], ratio: float) -> tuple[str, str]:
    names = ", ".join(str(channel) for channel in sorted(found.tolist())[:4])
    which = f"channel {names}" if found.size == 1 else f"channels {names}"
    reach = float(max(abs(channels.minimum[found]).max(), abs(channels.maximum[found]).max()))
    moves = float((channels.maximum[found] - channels.minimum[found]).max())
    if moves <= _CONSTANT * reach:
        value = float(channels.maximum[found[0]])
        return (
            "dead channel",
            (
                f"{which} is {value:.4g} always, {ratio:.0f} times as far as all others reach, and "
                "takes their codes"
            ),
        )
    return (
        "outlier channel",
        (
            f"{which} reaches {ratio:.0f} times as far as all others, which keep "
            f"{255 / ratio:.0f} of 255 steps"
        ),
    )
