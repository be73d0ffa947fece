"""How often the interval of a drop holds the drop of the whole.

The 650 validation pictures stand for all pictures there are. Of 1,000 samples of 650 pictures,
drawn from them with replacement, the share whose 95 % interval holds the drop over all 650 must lie
within 92 to 98 %.

    python -m benchmarks.interval_coverage
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

import quantkit
from benchmarks.limits import within
from benchmarks.zoo import (
    CALIBRATION_PICTURES,
    NETWORKS,
    Network,
    has_zoo,
    labels,
    pictures,
)
from quantkit.calibration.labels import read_labels
from quantkit.evaluation.accuracy import evaluate
from quantkit.evaluation.engines import onnxruntime_engine
from quantkit.numerics.paired import PairedCounts, paired_difference_interval
from quantkit.recipes import RECIPES

_RECIPES = ("fast", "balanced")
_DRAWS = 1000
_LEAST_PERCENT, _MOST_PERCENT = 92.0, 98.0

BoolArray = npt.NDArray[np.bool_]


def main() -> int:
    """Print the coverage per network and recipe.

    Returns:
        How many limits were missed.
    """
    missed = 0
    for network in NETWORKS:
        print(network.title)
        float_right, int8_right = right_answers(network)
        for recipe in _RECIPES:
            counts = PairedCounts.of(float_right, int8_right[recipe])
            found = coverage_percent(float_right, int8_right[recipe])
            note = f"   {counts.first_only} only float right, {counts.second_only} only int8"
            what = f"{recipe}: intervals that hold the drop, %"
            missed += not within(what, found, _LEAST_PERCENT, least=True, note=note)
            missed += not within(what, found, _MOST_PERCENT)
    return missed


def right_answers(network: Network) -> tuple[BoolArray, dict[str, BoolArray]]:
    """Whether each validation picture is answered rightly: in floats, and by recipe in int8."""
    calibration = pictures(network, "calibration", CALIBRATION_PICTURES)
    with tempfile.TemporaryDirectory() as folder:
        files = {recipe: Path(folder) / f"{recipe}.onnx" for recipe in _RECIPES}
        for recipe, path in files.items():
            made = quantkit.quantize(network.path, calibration, config=RECIPES[recipe])
            made.save(path)
        engines = [
            onnxruntime_engine(label, path)
            for label, path in {"float": network.path, **files}.items()
        ]
    dataset = pictures(network, "validation")
    scores = evaluate(engines, dataset, read_labels(dataset, labels())).engines
    right = {score.label: score.top1 for score in scores if score.top1 is not None}
    return right["float"], {recipe: right[recipe] for recipe in _RECIPES}


def coverage_percent(first: BoolArray, second: BoolArray, seed: int = 0) -> float:
    """Of draws with replacement, the share whose interval holds the difference of all samples."""
    rng = np.random.default_rng(seed)
    truth = PairedCounts.of(first, second).difference
    held = 0
    for _ in range(_DRAWS):
        drawn = rng.integers(0, first.size, first.size)
        low, high = paired_difference_interval(PairedCounts.of(first[drawn], second[drawn]))
        held += low <= truth <= high
    return 100.0 * held / _DRAWS


if __name__ == "__main__":
    sys.exit(1 if has_zoo() and main() else 0)
