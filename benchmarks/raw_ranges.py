"""Ranges from all values of a tensor, found without histograms: what estimators are judged by."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from quantkit.calibration.batches import batches
from quantkit.calibration.dataset import Dataset
from quantkit.graph.ort_session import open_session, with_outputs
from quantkit.numerics.affine import QuantParams
from quantkit.passes.prepare import Prepared
from quantkit.range_estimators.contract import Range
from quantkit.range_estimators.entropy import Bins

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

_MOST_AT_A_TIME = 1 << 26  # values, 256 MB
_CODES = np.arange(-255, 256)
_PER_OCTAVE, _OCTAVES, _VALLEYS = 16, 12, 3
_FINE, _FINE_STEPS = 1.001, 44  # 44 steps of 0.1 % are a sixteenth of an octave


@dataclass(frozen=True, slots=True, eq=False)
class RawValues:
    """All values of one tensor.

    Attributes:
        values: float32, (n,), sorted.
        moments: float64, (2, n + 1): sums of the values and of their squares before each position.
    """

    values: Float32Array
    moments: Float64Array


def raw_tensors(
    prepared: Prepared, names: Sequence[str], dataset: Dataset
) -> Iterator[tuple[str, RawValues]]:
    """Every value of each tensor over the samples, a few tensors at a time.

    Args:
        prepared: The float graph.
        names: Computed tensors or inputs.
        dataset: The samples, run one at a time with one thread, as in calibration.
    """
    inputs = {spec.name for spec in prepared.program.inputs}
    session = open_session(
        with_outputs(prepared.model, [name for name in names if name not in inputs]), threads=1
    )
    feeds = [batch.arrays for batch in batches(dataset, 1)]
    first = session.run(feeds[0], [name for name in names if name not in inputs])
    sizes = {name: len(feeds) * {**feeds[0], **first}[name].size for name in names}
    del first
    waiting = list(names)
    while waiting:
        group = [waiting.pop(0)]
        while waiting and sum(sizes[name] for name in [*group, waiting[0]]) <= _MOST_AT_A_TIME:
            group.append(waiting.pop(0))
        parts: dict[str, list[Float32Array]] = {name: [] for name in group}
        fetched = [name for name in group if name not in inputs]
        for feed in feeds:
            found = {**feed, **(session.run(feed, fetched) if fetched else {})}
            for name in group:
                parts[name].append(found[name].reshape(-1))
        for name in group:
            yield name, _sorted(parts.pop(name))


def _sorted(parts: list[Float32Array]) -> RawValues:
    values = np.concatenate(parts)
    parts.clear()
    values.sort()
    moments = np.zeros((2, values.size + 1))
    moments[1, 1:] = values
    np.cumsum(moments[1, 1:], out=moments[0, 1:])
    np.square(moments[1, 1:], out=moments[1, 1:])
    np.cumsum(moments[1, 1:], out=moments[1, 1:])
    return RawValues(values, moments)


def percentile_range(raw: RawValues, percentile: float) -> Range:
    """What is left when ``floor(n (1 - percentile / 100))`` values are cut at each end."""
    values = raw.values
    cut = int(values.size * (1 - Fraction(str(percentile)) / 100))
    return Range(float(values[cut]), float(values[values.size - 1 - cut]))


def squared_error(raw: RawValues, params: QuantParams) -> float:
    """Sum of squares of what quantizing to 8 bits and back changes."""
    return float(_squared_errors(raw, float(params.scale))[int(params.zero_point)])


def least_squares_range(raw: RawValues) -> Range:
    """The codes' range of the least squared error, searched on the values themselves.

    All 256 zero points are tried for each of 16 scales per octave, from minmax's down to 2^-12 of
    it, and then for scales 0.1 % apart around the three best valleys. No range is excluded for
    reaching beyond the values.
    """
    low, high = min(float(raw.values[0]), 0.0), max(float(raw.values[-1]), 0.0)
    if low == high:
        return Range(low, high)
    steps = np.arange(_PER_OCTAVE * _OCTAVES + 1) / _PER_OCTAVE
    coarse = (high - low) / 255 * 2.0**-steps
    losses = np.array([_squared_errors(raw, scale).min() for scale in coarse])
    walled = np.concatenate([[np.inf], losses, [np.inf]])
    valleys = np.flatnonzero((losses <= walled[:-2]) & (losses <= walled[2:]))
    around = _FINE ** np.arange(-_FINE_STEPS, _FINE_STEPS + 1)
    fine = np.outer(coarse[valleys[np.argsort(losses[valleys])][:_VALLEYS]], around).ravel()
    tried = [(_squared_errors(raw, scale), float(scale)) for scale in fine[fine <= coarse[0]]]
    best = min((float(errors.min()), scale, int(errors.argmin())) for errors, scale in tried)
    _, scale, zero_point = best
    return Range(-zero_point * scale, (255 - zero_point) * scale)


def _squared_errors(raw: RawValues, scale: float) -> Float64Array:
    """Sum of squared errors for the zero points 0 to 255, float64, (256,).

    Values nearest to ``k scale`` go there, or to the first or last code where those are clipped.
    """
    ties = ((_CODES[:-1] + 0.5) * scale).astype(np.float32)
    inner = np.searchsorted(raw.values, ties)
    bounds = np.concatenate([[0], inner, [raw.values.size]])
    cells = np.vstack([np.diff(bounds), np.diff(raw.moments[:, bounds], axis=1)])
    centres: Float64Array = np.asarray(_CODES * scale)
    below = _squares_about(np.cumsum(cells, axis=1), centres)
    above = _squares_about(np.cumsum(cells[:, ::-1], axis=1)[:, ::-1], centres)
    before = np.concatenate([[0.0], np.cumsum(_squares_about(cells, centres))])
    first = 255 - np.arange(256)  # position of the first code, by zero point
    last = first + 255
    return np.asarray(below[first] + before[last] - before[first + 1] + above[last])


def _squares_about(cells: Float64Array, centres: Float64Array) -> Float64Array:
    count, total, squares = cells
    return np.asarray(squares - 2 * centres * total + centres**2 * count)


def divergences(raw: RawValues, bins: Bins, levels: int) -> Float64Array:
    """Kullback-Leibler divergence in nats at each threshold, from a histogram of the values.

    The definition is that of :mod:`quantkit.range_estimators.entropy`, spelled out: zeros are left
    out; P holds the outliers in its end bins; Q spreads each level's own values over the bins of P
    that are not empty; a level of outliers alone counts as one value.
    """
    edges = bins.edges()
    nonzero = raw.values[np.abs(raw.values) > 2.0**-133]
    counts, _ = np.histogram(nonzero, bins.last - bins.first, (edges[0], edges[-1]))
    return np.array(
        [
            _divergence(counts.astype(np.float64), int(start), int(stop), levels)
            for start, stop in zip(bins.starts, bins.stops, strict=True)
        ]
    )


def _divergence(counts: Float64Array, start: int, stop: int, levels: int) -> float:
    kept = counts[start:stop]
    p = kept.copy()
    below, above = counts[:start].sum(), counts[stop:].sum()
    p[0] += below
    p[-1] += above
    level = np.arange(kept.size) * levels // kept.size
    masses = np.bincount(level, kept, levels)
    for end, outliers in ((0, below), (-1, above)):
        if outliers:
            masses[end] = max(masses[end], 1.0)
    filled = p > 0
    spread = masses / np.maximum(np.bincount(level, filled, levels), 1)
    p, q = p[filled] / counts.sum(), spread[level][filled] / masses.sum()
    return float((p * np.log(p / q)).sum()) if kept.sum() else np.inf
