"""Whether calibration data look like what the network was trained on; told from the table alone.

The means of the input's channels, and for pictures their variance, say how the network's first
layer answers to the data; its BatchNormalization says how it answered to the training data. Their
divergence (``first_layer.misfit``) is computed for the data as they are and as each preset would
have made them, and for colours in either order.

Scale is judged also where the data are no ordinary pictures: a network that typical photographs fit
by one preset takes pictures, which lie between what that preset makes of 0 and 255 and reach over a
good part of it; of another's data at least their variance says something (``FirstLayer.spread``).

All limits are set so that data of the right kind pass, also few and unusual ones: no warning does
not prove that the data are right.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantkit.calibration.histogram import representatives
from quantkit.calibration.preprocessing import PRESETS, Preprocessing
from quantkit.calibration.statistics import ChannelStatistics, TensorStatistics
from quantkit.calibration.table import CalibrationTable
from quantkit.evaluation.first_layer import FirstLayer, first_layer
from quantkit.graph.program import Program
from quantkit.passes.prepare import Prepared

Float64Array = npt.NDArray[np.float64]

# Ranges from fewer samples hang on a single one.
FEWEST_SAMPLES = 8
# Values are wrong where the misfit is above the first, and another preset's a fourth of it.
_MISFIT, _MUCH_BETTER = 0.25, 4.0
# Red and blue are exchanged where the root mean square of z is above the first, and a third of it
# the other way round.
_COLOUR_MISFIT, _COLOUR_BETTER = 0.15, 3.0
# No data of the right kind lie beyond this many standard deviations (median over the channels).
_FAR = 4.0
# Pictures for which the reasoning holds: mean and standard deviation of their pixel values, and by
# how much red exceeds blue on average.
_PIXEL_MEAN, _PIXEL_STD, _RED_OVER_BLUE = (60.0, 180.0), (45.0, 90.0), (8.0, 30.0)
_COLOURS = 3
# What the preset normalizes by is the mean and the standard deviation of ImageNet's photographs.
_PHOTOGRAPH = PRESETS["imagenet"]
# A preset is the right one where their misfit is the smallest by this factor.
_CLEARLY = 2.0
# Pixel values: pictures together reach over more than the first, and none of them beyond 0 to 255
# by as much as the second.
_NARROW, _BEYOND = 26.0, 204.0
# Data that are no pictures: spread in the first layer, in units of training's.
_LEAST_SPREAD, _MOST_SPREAD = 0.15, 5.0
# By preset, for arrays; x is the pixel value.
_FORMULAS = {
    "imagenet": "ImageNet's (x / 255 - mean) / std",
    "tf": "(x - 127.5) / 127.5",
    "unit": "x / 255",
    "raw": "the pixel value x of 0 to 255",
}
# Narrowest first; ImageNet's normalization reaches from -2.12 to 2.64.
_PRESET_RANGES = (
    ("unit", 0.0, 1.0),
    ("tf", -1.0, 1.0),
    ("imagenet", -2.2, 2.7),
    ("raw", 0.0, 255.0),
)


@dataclass(frozen=True, slots=True, eq=False)
class _Pictures:
    """The pixel values (0 to 255) behind an input, in the order of its channels.

    Attributes:
        mean: float64, (C,).
        variance: Within the channels, on average over them.
        made_by: What turned them into the input.
    """

    mean: Float64Array
    variance: float
    made_by: Preprocessing

    @property
    def are_ordinary(self) -> bool:
        """Whether they are as bright and as rich in contrast as photographs."""
        low, high = _PIXEL_MEAN
        least, most = _PIXEL_STD
        return bool(low < self.mean.mean() < high) and least < self.variance**0.5 < most

    @property
    def have_ordinary_colours(self) -> bool:
        """Whether red exceeds blue as in photographs; in arrays either channel may be red."""
        if self.mean.size != _COLOURS:
            return False
        difference = self.mean[0] - self.mean[-1]
        match self.made_by.channel_order:
            case "BGR":
                difference = -difference
            case None:
                difference = abs(difference)
        low, high = _RED_OVER_BLUE
        return bool(low < difference < high)

    def misfit(self, layer: FirstLayer, how: Preprocessing) -> float:
        """The misfit of these pictures, had ``how`` made the input of them."""
        mean, std = np.array(how.mean), np.array(how.std)
        if std.size != self.mean.size:
            if len({*how.mean}) > 1 or len({*how.std}) > 1:
                return np.inf
            mean, std = mean[: self.mean.size], std[: self.mean.size]
        return layer.misfit((self.mean - mean) / std, self.variance / float(np.mean(std**2)))

    def colour_misfit(self, layer: FirstLayer, how: Preprocessing, step: int) -> float:
        """Root mean square of z; ``step`` -1 reverses the channels."""
        z = layer.z((self.mean[::step] - np.array(how.mean)) / np.array(how.std))
        return float(np.sqrt(np.mean(z**2)))


def input_warnings(prepared: Prepared, table: CalibrationTable) -> tuple[str, ...]:
    """Sentences on what looks wrong about the data; none where nothing does.

    Networks whose first layer has no BatchNormalization say nothing about their data, so only
    constant inputs and a small number of samples are told of them.

    Args:
        prepared: The network the table was made with.
        table: Its calibration table.
    """
    found = list(_oddities(prepared.program, table))
    for spec in prepared.program.inputs:
        layer = first_layer(prepared, spec.name)
        if layer is not None:
            found += _misfed(layer, spec.name, table)
    return tuple(found)


def _oddities(program: Program, table: CalibrationTable) -> Iterator[str]:
    if table.sample_count < FEWEST_SAMPLES:
        few = "1 sample" if table.sample_count == 1 else f"{table.sample_count} samples"
        yield f"ranges from {few} hang on single values; calibrate on at least {FEWEST_SAMPLES}"
    for spec in program.inputs:
        statistics = table.statistics.get(spec.name)
        if statistics is None:
            continue
        channels = statistics.channels
        if statistics.minimum == statistics.maximum:
            yield f"input {spec.name!r} is {statistics.minimum:g} throughout all samples"
        elif channels is not None and 1 < channels.channels <= _COLOURS:
            for channel in np.flatnonzero(channels.minimum == channels.maximum):
                value = channels.minimum[channel]
                yield f"channel {channel} of input {spec.name!r} is {value:g} in all samples"


def _misfed(layer: FirstLayer, name: str, table: CalibrationTable) -> Iterator[str]:
    """At most two sentences: on the values, and on the order of the colours."""
    statistics = table.statistics.get(layer.node.inputs[0])
    channels = None if statistics is None else statistics.channels
    if statistics is None or channels is None or channels.channels != layer.weight.shape[1]:
        return
    if statistics.minimum == statistics.maximum:  # told already
        return
    mean = channels.means(statistics.sample_count)
    far = float(np.median(np.abs(layer.z(mean))))
    pictures = _pictures(statistics, mean, table.preprocessing)
    trusted = (
        pictures is not None and pictures.are_ordinary and table.sample_count >= FEWEST_SAMPLES
    )
    better = None
    if pictures is not None:
        misfit = pictures.misfit(layer, pictures.made_by)
        found = {preset: pictures.misfit(layer, how) for preset, how in PRESETS.items()}
        best = min(found, key=lambda preset: found[preset])
        wrong = far > _FAR or (trusted and misfit > _MISFIT)
        if wrong and found[best] * _MUCH_BETTER < misfit:
            better = best
            yield (
                f"input {name!r} does not look like what the network was trained on: "
                f"{_proposal(table, f'--preset {better}', _FORMULAS[better])} fits its first "
                f"layer {layer.node.name!r} far better (misfit {found[better]:.2g} instead of "
                f"{misfit:.2g})"
            )
    reason = None
    if better is None:
        reason = _other_scale(layer, statistics, channels)
        if far > _FAR:
            reason = f"the means there are {far:.3g} standard deviations off"
    if reason is not None:
        yield (
            f"input {name!r} holds values from {statistics.minimum:.4g} to "
            f"{statistics.maximum:.4g}, far from what its first layer {layer.node.name!r} was "
            f"trained on: {reason}; check how the data are scaled"
        )
    if pictures is not None and trusted and pictures.have_ordinary_colours:
        how = pictures.made_by if better is None else PRESETS[better]
        now, reversed_ = (pictures.colour_misfit(layer, how, step) for step in (1, -1))
        if now > _COLOUR_MISFIT and reversed_ * _COLOUR_BETTER < now:
            other = "RGB" if pictures.made_by.channel_order == "BGR" else "BGR"
            # The channels of arrays may be anything, as of (H, W, C) read as (C, H, W).
            doubt = "" if table.preprocessing else ", or its channels otherwise out of order"
            yield (
                f"red and blue of input {name!r} look exchanged{doubt}: the means in its first "
                f"layer {layer.node.name!r} are {now:.2g} standard deviations from training's, "
                f"{reversed_:.2g} with "
                f"{_proposal(table, f'--channel-order {other}', 'the channels reversed')}"
            )


def _other_scale(
    layer: FirstLayer, statistics: TensorStatistics, channels: ChannelStatistics
) -> str | None:
    """Why the values look much smaller or larger than training's; None where they do not."""
    enough = statistics.sample_count >= FEWEST_SAMPLES
    wanted = _picture_preset(layer)
    if wanted is not None:
        mean, std = (np.array(values) for values in (PRESETS[wanted].mean, PRESETS[wanted].std))
        low, high = channels.minimum * std + mean, channels.maximum * std + mean
        narrow = enough and (high - low).max() < _NARROW
        if narrow or low.min() < -_BEYOND or high.max() > 255 + _BEYOND:
            least, most = (float(f((x - mean) / std)) for f, x in ((np.min, 0), (np.max, 255)))
            return f"pictures from {least:.3g} to {most:.3g}, {_FORMULAS[wanted]}"
        return None
    mean = channels.means(statistics.sample_count)
    least, most = layer.spread(_variance(statistics, mean))
    if least > _MOST_SPREAD:
        return f"they spread there at least {least:.3g} times as far"
    if enough and most < _LEAST_SPREAD:
        return f"they spread there at most {most:.2g} times as far"
    return None


def _picture_preset(layer: FirstLayer) -> str | None:
    """The preset with which typical photographs fit; None where none does, or more than one."""
    if layer.weight.shape[1] != _COLOURS:
        return None
    mean, variance = np.array(_PHOTOGRAPH.mean), float(np.mean(np.square(_PHOTOGRAPH.std)))
    typical = _Pictures(mean, variance, _PHOTOGRAPH)
    found = {preset: typical.misfit(layer, how) for preset, how in PRESETS.items()}
    best, second = sorted(found, key=lambda preset: found[preset])[:2]
    fits = found[best] < _MISFIT and found[best] * _CLEARLY < found[second]
    return best if fits else None


def _variance(statistics: TensorStatistics, mean: Float64Array) -> float:
    """Within the channels, on average over them."""
    histogram = statistics.histogram
    values, count = representatives(histogram.bucket), histogram.count
    return max(float(values**2 @ count / count.sum() - np.mean(mean**2)), 0.0)


def _proposal(table: CalibrationTable, option: str, otherwise: str) -> str:
    return option if table.preprocessing is not None else otherwise


def _pictures(
    statistics: TensorStatistics, mean: Float64Array, how: Preprocessing | None
) -> _Pictures | None:
    """The pictures behind an input; None where it is not known to hold any."""
    if how is None:
        how = _likely_preset(statistics) if mean.size == _COLOURS else None
    if how is None or len(how.mean) != mean.size:
        return None
    std = np.array(how.std)
    variance = _variance(statistics, mean) * float(np.mean(std**2))
    return _Pictures(mean * std + np.array(how.mean), variance, how)


def _likely_preset(statistics: TensorStatistics) -> Preprocessing | None:
    """The preset with the narrowest range of values around these."""
    for name, low, high in _PRESET_RANGES:
        if low <= statistics.minimum and statistics.maximum <= high:
            return PRESETS[name]
    return None
