"""Named metrics of a network's outputs; greater is better.

- ``top1``: per cent of samples whose label is scored highest.
- ``agreement``: per cent of samples for which the float network scores the same class highest.
- ``sqnr``: signal to quantization noise ratio of the outputs in dB, see :func:`outputs_sqnr_db`.
- ``module:function``: a function of the user's, called with the outputs (arrays over all samples,
  by name) and the labels (or None); it returns a number.

Outputs are given batch by batch, each batch a mapping from the names of the outputs to arrays; the
first output holds the classes' scores.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quantkit.calibration.data_functions import (
    is_data_function,
    load_function,
    surroundings,
    users_code,
)
from quantkit.errors import CalibrationError, ConfigError, ShapeMismatchError, UnknownNameError
from quantkit.evaluation.accuracy import class_scores
from quantkit.graph.program import Array
from quantkit.numerics.bootstrap import RESAMPLES, IntArray, bootstrap_interval
from quantkit.numerics.metrics import SqnrSums, agreement, top_k_correct

Labels = npt.NDArray[np.int64]
Batches = Sequence[Mapping[str, Array]]
Score = Callable[[Batches, Batches, Labels | None], float]
"""Called with the float network's outputs, those to judge, and the labels if there are any."""

# Draws are fewer where the outputs are so large that copying them would take minutes. It must not
# depend on the clock: the same outputs give the same interval everywhere.
_COPIED_VALUES, _FEWEST_DRAWS = 2_000_000_000, 100


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """What a network is judged by.

    Attributes:
        name: What users call it.
        unit: Of its values and of differences of them: "%", "dB", or "" where it is its own.
        score: Gives the value.
        digest: What tells a function of the user's from an edited one; "" for the others.
    """

    name: str
    unit: str
    score: Score
    digest: str = ""


def metric_of(name: str) -> Metric:
    """The metric of a name.

    Raises:
        UnknownNameError: No such metric, and not of the form ``module:function``.
        CalibrationError: The user's function cannot be loaded.
    """
    if name in _METRICS:
        return _METRICS[name]
    if not is_data_function(name):
        known = ", ".join(_METRICS)
        raise UnknownNameError(f"unknown metric {name!r}; known: {known}, or module:function")
    return _users_metric(name)


def users_metric(name: str) -> Metric:
    """A function of the user's, for reports, which hold the other metrics anyway.

    Raises:
        ConfigError: It is a metric that every report has.
        UnknownNameError, CalibrationError: As :func:`metric_of`.
    """
    if name in _METRICS:
        raise ConfigError(
            f"every report holds {name} where the network has it; "
            "--metric is for a function of your own, module:function"
        )
    return metric_of(name)


def drop_interval(
    metric: Metric,
    reference: Batches,
    actual: Batches,
    labels: Labels | None,
    samples: int,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[float, float] | None:
    """Paired bootstrap 95 % interval of a metric's drop, from the reference to the other.

    Both are judged on the same draws of samples. Draws that the metric fails on are left out.

    Args:
        metric: What both are judged by.
        reference: The float network's outputs.
        actual: The other's.
        labels: A class per sample, or None.
        samples: How many there are.
        progress: Told after every draw.

    Returns:
        None where outputs have no row per sample, or the metric fails on most draws.
    """
    both = joined(reference), joined(actual)
    if any(len(array) != samples for outputs in both for array in outputs.values()):
        return None
    values = sum(array.size for outputs in both for array in outputs.values())
    draws = min(RESAMPLES, max(_FEWEST_DRAWS, _COPIED_VALUES // max(values, 1)))
    done = count(1)

    def difference(indices: IntArray) -> float:
        if progress is not None:
            progress(next(done), draws)
        drawn = [[{name: array[indices] for name, array in each.items()}] for each in both]
        some = None if labels is None else labels[indices]
        try:
            first, second = (metric.score(drawn[0], outputs, some) for outputs in drawn)
        except CalibrationError:
            return math.nan
        return first - second

    low, high = bootstrap_interval(difference, samples, resamples=draws)
    return None if math.isnan(low) else (low, high)


def outputs_sqnr_db(reference: Batches, actual: Batches) -> float:
    """Signal to quantization noise ratio over all floating-point outputs, in dB.

    ``-10 log10( mean over outputs of sum((reference - actual)**2) / sum(reference**2) )``

    so that outputs of small numbers count as much as those of large ones; with one output it is
    its SQNR. inf where nothing differs.

    Raises:
        ConfigError: No output holds floats.
        ShapeMismatchError, NonFiniteRangeError: As ``numerics.metrics.sqnr_db``.
    """
    sums: dict[str, SqnrSums] = {}
    for wanted, found in zip(reference, actual, strict=True):
        for name, array in wanted.items():
            if array.dtype.kind == "f":
                sums[name] = sums.get(name, SqnrSums()) + SqnrSums.of(array, found[name])
    if not sums:
        raise ConfigError("no output of the network holds floats, so none has an SQNR")
    noise = sum(10.0 ** (-each.db / 10.0) for each in sums.values()) / len(sums)
    return -10.0 * math.log10(noise) if noise else math.inf


def joined(batches: Batches) -> dict[str, Array]:
    """Every output over all samples.

    Raises:
        ShapeMismatchError: The shapes of an output differ from batch to batch.
    """
    try:
        return {
            name: np.concatenate([np.atleast_1d(batch[name]) for batch in batches])
            for name in batches[0]
        }
    except ValueError as error:
        raise ShapeMismatchError(
            f"outputs of different shapes cannot be joined ({error}); give samples of one size, "
            "or judge by SQNR (--min-sqnr)"
        ) from error


def right_answers(outputs: Batches, labels: Labels) -> npt.NDArray[np.bool_]:
    """Whether the label is scored highest, per sample.

    Raises:
        ConfigError: The first output holds no scores of classes.
        ShapeMismatchError: A label is no class.
    """
    return top_k_correct(_classes(outputs, len(labels)), labels, 1)


def _classes(outputs: Batches, samples: int | None = None) -> Array:
    name, scores = next(iter(joined(outputs).items()))
    classes = class_scores(scores)
    if classes is None or (samples is not None and len(classes) != samples):
        raise ConfigError(
            f"the first output, {name!r}, of shape {scores.shape}, holds no scores of classes; "
            "judge by SQNR (--min-sqnr), or by --metric module:function"
        )
    return classes


def _top1(reference: Batches, actual: Batches, labels: Labels | None) -> float:
    if labels is None:
        raise ConfigError(
            "the metric top1 needs labels (--labels); without them: agreement, sqnr or "
            "module:function"
        )
    return 100.0 * float(np.mean(right_answers(actual, labels)))


def _agreement(reference: Batches, actual: Batches, labels: Labels | None) -> float:
    return 100.0 * agreement(_classes(reference), _classes(actual))


def _sqnr(reference: Batches, actual: Batches, labels: Labels | None) -> float:
    return outputs_sqnr_db(reference, actual)


_METRICS = {
    "top1": Metric("top1", "%", _top1),
    "agreement": Metric("agreement", "%", _agreement),
    "sqnr": Metric("sqnr", "dB", _sqnr),
}


def _users_metric(name: str) -> Metric:
    with surroundings(name):
        function = load_function(name, "metric")

    def score(reference: Batches, actual: Batches, labels: Labels | None) -> float:
        arrays = joined(actual)
        with surroundings(name), users_code(f"metric {name!r} failed"):
            found: Any = function(arrays, labels)
            value = float(found)
        if not math.isfinite(value):
            raise CalibrationError(f"metric {name!r} returned {value}, expected a finite number")
        return value

    source = Path(getattr(getattr(function, "__code__", None), "co_filename", ""))
    digest = sha256(source.read_bytes()).hexdigest() if source.is_file() else ""
    return Metric(name, "", score, digest)
