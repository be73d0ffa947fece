"""Every recipe beside the other tools: accuracy, integer share, speed and cost, in one run.

Run with ``python -m benchmarks.recipes [--networks NAMES] [--recipes fast,balanced,accurate]``. A
recipe runs as the command a user types, from the folder of pictures; the other tools
(:mod:`benchmarks.other_tools`) get arrays made of the same pictures, so that decoding is in no time
of theirs. All files are judged by :mod:`benchmarks.judge`.
"""

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.child_process import Run, run_command
from benchmarks.judge import FLOAT, Judgement, judge, p_of_better
from benchmarks.limits import within
from benchmarks.other_tools import MINMAX, ONNXRUNTIME, PER_TENSOR_TOOLS, TOOLS, own_seconds
from benchmarks.recipe_targets import PER_TENSOR, Row, Target, targets
from benchmarks.zoo import CALIBRATION_PICTURES, DS_CNN, NETWORKS, Network, has_zoo, labels, zoo
from quantkit.calibration.batches import batches
from quantkit.calibration.dataset import Dataset, open_dataset
from quantkit.calibration.labels import read_labels
from quantkit.calibration.preprocessing import PRESETS
from quantkit.passes.prepare import prepare

RECIPES = ("fast", "balanced", "accurate")
_LONG_S = 60.0  # what takes longer is run once


@dataclass(frozen=True, slots=True)
class Subject:
    """A network and what it is calibrated and judged on.

    Attributes:
        network: The network.
        calibration: Its data in the zoo, of which 128 samples are used.
        evaluation: Its data in the zoo, all of which are used.
        per_tensor: Whether every weight has one scale.
    """

    network: Network
    calibration: str = "imagenet/calibration"
    evaluation: str = "imagenet/validation"
    per_tensor: bool = False

    @property
    def title(self) -> str:
        """What tables call it."""
        return self.network.title + (", one scale per weight" if self.per_tensor else "")

    def samples(self, data: str, count: int | None = None) -> Dataset:
        """Samples as the network wants them."""
        inputs = prepare(self.network.path).program.inputs
        preprocessing = PRESETS[self.network.preset]
        return open_dataset(zoo() / data, inputs, preprocessing=preprocessing, num_samples=count)

    def calibration_samples(self) -> Dataset:
        """128 samples, evenly spaced, or all where there are fewer."""
        everything = self.samples(self.calibration)
        count = min(CALIBRATION_PICTURES, len(everything))
        return everything.take([index * len(everything) // count for index in range(count)])

    def command(self, recipe: str, output: Path) -> list[str]:
        """What a user types."""
        arguments: list[object] = ["quantize", self.network.path, zoo() / self.calibration]
        if not self.calibration.endswith(".npz"):
            arguments += ["--preset", self.network.preset]
        arguments += ["--num-samples", len(self.calibration_samples()), "--recipe", recipe]
        arguments += ["-o", output]
        if self.per_tensor:
            arguments += ["--per-tensor"]
        return [sys.executable, "-m", "quantkit_cli.app", "-q", *map(str, arguments)]


SUBJECTS = {
    "mobilenet_v2": Subject(NETWORKS[0]),
    "mobilenet_v1_025": Subject(NETWORKS[1]),
    PER_TENSOR: Subject(NETWORKS[1], per_tensor=True),
    "kws_dscnn": Subject(DS_CNN, "kws/calibration.npz", "kws/evaluation.npz"),
}


def main(arguments: Sequence[str] = ()) -> int:
    """Print a table per network; 1 if a target is missed."""
    parser = argparse.ArgumentParser("benchmarks.recipes", description=__doc__)
    parser.add_argument("--networks", default=",".join(SUBJECTS), help="default: %(default)s")
    parser.add_argument(
        "--recipes",
        default=",".join(RECIPES),
        help="default: %(default)s; empty: the other tools alone",
    )
    parser.add_argument("--rounds", type=int, default=3, help="runs of each, in turn")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--keep", type=Path, help="keep arrays and quantized files in this folder")
    options = parser.parse_args(arguments)
    recipes = [name for name in options.recipes.split(",") if name]
    networks = options.networks.split(",")
    if unknown := [key for key in networks if key not in SUBJECTS]:
        parser.error(f"no network is called {unknown[0]!r}; there are {', '.join(SUBJECTS)}")
    if not has_zoo():
        return 0
    found, all_met = {}, True
    with nullcontext(options.keep) if options.keep else tempfile.TemporaryDirectory() as name:
        for key in networks:
            folder = Path(name) / key
            folder.mkdir(parents=True, exist_ok=True)
            rows = measure(SUBJECTS[key], recipes, folder, options.rounds)
            all_met &= _print_table(key, rows)
            found[key] = [_entries(row) for row in rows]
            if options.json:
                options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0 if all_met else 1


def measure(subject: Subject, recipes: Sequence[str], folder: Path, rounds: int) -> list[Row]:
    """Quantize with everything, then judge all files together; float comes first."""
    print(f"\n{subject.title}", flush=True)
    samples = folder / "samples.npy"
    calibration = subject.calibration_samples()
    (name,) = calibration.input_names
    np.save(samples, np.concatenate([batch.arrays[name] for batch in batches(calibration, 1)]))
    files, commands = {}, {}
    for recipe in recipes:
        files[recipe] = folder / f"{recipe}.onnx"
        commands[recipe] = subject.command(recipe, files[recipe])
    for tool in PER_TENSOR_TOOLS if subject.per_tensor else TOOLS:
        if reason := tool.missing():
            print(f"  {tool.label} skipped: {reason}")
            continue
        files[tool.label] = folder / f"{tool.label.replace(' ', '_')}.onnx"
        commands[tool.label] = tool.command(subject.network.path, samples, files[tool.label])
    runs = _in_turn(commands, rounds)
    evaluation = subject.samples(subject.evaluation)
    classes = evaluation.labels
    judged = judge(
        subject.network.path,
        {label: files[label] for label in runs},
        evaluation,
        read_labels(evaluation, labels()) if classes is None else classes,
    )
    return [_row(label, recipes, judged, runs.get(label, [])) for label in judged]


def _in_turn(commands: Mapping[str, list[str]], rounds: int) -> dict[str, list[Run]]:
    """Runs by label; a command that fails is told and left out."""
    runs: dict[str, list[Run]] = {label: [] for label in commands}
    for _ in range(rounds):
        for label in list(runs):
            if any(run.wall_s > _LONG_S for run in runs[label]):
                continue
            run = run_command(commands[label])
            if run.exit_code:
                reason = (run.errors.strip() or run.output.strip()).splitlines()[-1:]
                print(f"  {label} failed with exit code {run.exit_code}: {' '.join(reason)}")
                del runs[label]
            else:
                runs[label].append(run)
    return runs


def _row(
    label: str, recipes: Sequence[str], judged: Mapping[str, Judgement], runs: Sequence[Run]
) -> Row:
    own = judged[label]
    theirs = judged.get(MINMAX)
    better = {
        other: p_of_better(judgement, own)
        for other, judgement in judged.items()
        if other.startswith(ONNXRUNTIME) and label in recipes
    }
    script_s = [seconds for run in runs if (seconds := own_seconds(run.output)) is not None]
    return Row(
        label=label,
        recipe=label if label in recipes else None,
        wall_s=median(run.wall_s for run in runs) if runs else None,
        own_s=median(script_s) if script_s else None,
        peak_mb=max(run.peak_mb for run in runs) if runs else None,
        sqnr_db=own.sqnr_db,
        agreement_percent=own.agreement_percent,
        tied=own.tied,
        top1_percent=own.top1_percent,
        drop=own.drop,
        integer_mac_percent=own.integer_mac_percent,
        latency_ms=own.latency_ms,
        times_onnxruntime=None if theirs is None else own.latency_ms / theirs.latency_ms,
        onnxruntime_better_p={other: p for other, p in better.items() if p is not None},
    )


def _entries(row: Row) -> dict[str, object]:
    """The figures as JSON types: no infinity."""
    return {name: None if value == math.inf else value for name, value in asdict(row).items()}


def _print_table(key: str, rows: Sequence[Row]) -> bool:
    """The figures, then each recipe's targets; whether all are met."""
    others = [row for row in rows if row.recipe is None and row.label != FLOAT]
    held = {row.label: targets(key, row, others) for row in rows if row.recipe is not None}
    print(
        f"  {'':<23}{'SQNR dB':>8}{'agree %':>9}{'top-1':>7}{'drop (95 % interval)':>26}"
        f"{'int MAC %':>10}{'ms':>7}{'x ORT':>7}{'wall s':>8}{'own s':>7}{'peak MB':>8}  targets"
    )
    for row in rows:
        drop = "{:+.2f} ({:+.2f} to {:+.2f})".format(*row.drop)
        print(
            f"  {row.label:<23}{row.sqnr_db:8.2f}{row.agreement_percent:9.2f}"
            f"{row.top1_percent:7.2f}{drop:>26}{_cell(row.integer_mac_percent, 10, 2)}"
            f"{row.latency_ms:7.2f}{_cell(row.times_onnxruntime, 7, 3)}{_cell(row.wall_s, 8, 1)}"
            f"{_cell(row.own_s, 7, 1)}{_cell(row.peak_mb, 8, 0)}  {_summary(held.get(row.label))}"
        )
    kept = []
    for label, wanted in held.items():
        print(f"  {label}:")
        for target in wanted:
            least, note = target.is_least, f" ({target.note})" if target.note else ""
            kept.append(
                within(f"  {target.what}", target.figure, target.limit, least=least, note=note)
            )
    return all(kept)


def _summary(wanted: Sequence[Target] | None) -> str:
    if wanted is None:
        return ""
    missed = [target.what for target in wanted if not target.is_met]
    return f"missed: {'; '.join(missed)}" if missed else f"all {len(wanted)} met"


def _cell(value: float | None, width: int, digits: int) -> str:
    return f"{'':>{width}}" if value is None else f"{value:{width}.{digits}f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
