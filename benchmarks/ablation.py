"""What every recovery step is worth: each alone, and all but each, on pictures not calibrated with.

Run with ``python -m benchmarks.ablation [--network NAME] [--recipe accurate] [--validation]``; the
table is Markdown. 128 calibration samples, evenly spaced, are calibrated with; the others of that
folder are the development set. ``--validation`` adds the validation samples, by which nothing is
ever chosen.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.recipes import SUBJECTS, Subject
from benchmarks.zoo import has_zoo
from quantkit.calibration.dataset import Dataset
from quantkit.config import QuantConfig, config_of
from quantkit.errors import QuantkitError
from quantkit.evaluation.accuracy import evaluate
from quantkit.evaluation.engines import onnxruntime_engine
from quantkit.passes.prepare import prepare
from quantkit.pipeline import calibrate, quantize_calibrated
from quantkit.recipes import RECIPES

STEPS = (
    "cross_layer_equalization",
    "linear_edge_equalization",
    "high_bias_absorption",
    "weight_scale_search",
    "bias_correction",
    "activation_range_search",
    "learned_rounding",
    "empirical_bias_correction",
    "block_reconstruction",
)
"""Fields of :class:`QuantConfig`, in the order in which the steps run."""


@dataclass(frozen=True, slots=True)
class Figures:
    """A quantized model against float on one set of samples: SQNR in dB, agreement in per cent."""

    sqnr_db: float
    agreement_percent: float


def main(arguments: Sequence[str] = ()) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser("benchmarks.ablation", description=__doc__)
    parser.add_argument("--network", default="mobilenet_v2", choices=SUBJECTS)
    parser.add_argument("--recipe", default="accurate", choices=RECIPES, help="all the steps")
    parser.add_argument("--steps", default=",".join(STEPS), help="default: %(default)s")
    parser.add_argument("--validation", action="store_true", help="also the validation samples")
    options = parser.parse_args(arguments)
    if not has_zoo():
        return 0
    subject = SUBJECTS[options.network]
    chosen = subject.calibration_samples()
    sets = {"development": _others(subject, chosen)}
    if options.validation:
        sets["validation"] = subject.samples(subject.evaluation)
    sets = {name: dataset for name, dataset in sets.items() if len(dataset)}
    steps = [step for step in STEPS if step in options.steps.split(",")]
    base = RECIPES[options.recipe].model_copy(update={"per_channel": not subject.per_tensor})
    with tempfile.TemporaryDirectory() as folder:
        seconds = _quantize(subject, chosen, dict(variants(base, steps)), Path(folder))
        files = {label: Path(folder) / f"{label}.onnx" for label in seconds}
        found = {name: _judge(subject, files, dataset) for name, dataset in sets.items()}
    print(f"{subject.title}, recipe {options.recipe}, {len(chosen)} calibration samples\n")
    _print_table(found, {name: len(dataset) for name, dataset in sets.items()}, seconds)
    return 0


def variants(base: QuantConfig, steps: Sequence[str]) -> Iterator[tuple[str, QuantConfig]]:
    """Configurations by label: no step, each alone, all of the recipe, all but each it has.

    Args:
        base: The recipe.
        steps: Those to look at.
    """
    entries = base.model_dump()
    none = {**entries, **dict.fromkeys(STEPS, False)}
    yield "none", config_of(none, "no step")
    for step in steps:
        yield f"{step} alone", config_of({**none, step: True}, step)
    yield "all", base
    for step in steps:
        if entries[step]:
            yield f"all but {step}", config_of({**entries, step: False}, step)


def _others(subject: Subject, chosen: Dataset) -> Dataset:
    """The calibration data that are not calibrated with."""
    everything = subject.samples(subject.calibration)
    used = set(chosen.positions)
    return everything.take(
        [index for index, position in enumerate(everything.positions) if position not in used]
    )


def _quantize(
    subject: Subject, calibration: Dataset, configs: Mapping[str, QuantConfig], folder: Path
) -> dict[str, float]:
    """Write a file per label; the seconds that each took after one calibration for all."""
    prepared = prepare(subject.network.path)
    table = calibrate(prepared, calibration)
    seconds = {}
    for label, config in configs.items():
        start = time.perf_counter()
        try:
            found = quantize_calibrated(prepared, table, config, data=calibration)
        except QuantkitError as error:
            print(f"{label}: {error}", file=sys.stderr)
            continue
        found.save(folder / f"{label}.onnx")
        seconds[label] = time.perf_counter() - start
        print(f"{label}: {seconds[label]:.1f} s", file=sys.stderr)
    return seconds


def _judge(subject: Subject, files: Mapping[str, Path], dataset: Dataset) -> dict[str, Figures]:
    paths = {"float": subject.network.path, **files}
    engines = [onnxruntime_engine(label, path, threads=1) for label, path in paths.items()]
    found = {}
    for score in evaluate(engines, dataset, batch_size=1).engines[1:]:
        assert score.agrees is not None
        found[score.label] = Figures(
            next(iter(score.sqnr_db.values())), 100 * float(score.agrees.mean())
        )
    return found


def _print_table(
    found: Mapping[str, Mapping[str, Figures]],
    counts: Mapping[str, int],
    seconds: Mapping[str, float],
) -> None:
    heads = [f"{name} ({counts[name]}): SQNR dB | agreement %" for name in found]
    print(f"| steps | {' | '.join(heads)} | s |")
    print(f"|---|{'---:|---:|' * len(found)}---:|")
    for label, taken in seconds.items():
        cells = [
            f"{figures[label].sqnr_db:.2f} | {figures[label].agreement_percent:.2f}"
            for figures in found.values()
        ]
        print(f"| {label.replace('_', ' ')} | {' | '.join(cells)} | {taken:.1f} |")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
