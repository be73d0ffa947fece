"""Speed, memory and overlap of the calibration pass on MobileNetV2.

Run with ``python -m benchmarks.calibration``. Every contestant has a process of its own
(:mod:`benchmarks.contestants`) and its turn in every round; ratios are of medians.
"""

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.contestants import Figures, available_gb, measure
from benchmarks.limits import within
from benchmarks.peers import prepare_for_onnxruntime
from benchmarks.zoo import CALIBRATION_PICTURES, NETWORKS, has_zoo, pictures, zoo
from quantkit.calibration.batches import batches
from quantkit.graph.program import Array

ROUNDS = 5
MANY = 2048
_PERCENTILE_NEEDS_GB = 10.0

_TITLES = {
    "plain": "float model in onnxruntime, all cores",
    "quantkit": "quantkit",
    "exact": "quantkit --exact",
    "minmax": "onnxruntime MinMax",
    "percentile": "onnxruntime Percentile",
}


def main() -> int:
    """Print the figures; 1 if one misses its limit."""
    if not has_zoo():
        return 0
    network = NETWORKS[0]
    print(f"\nCalibration of {network.title}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = folder / "rows.npy"
        dataset = pictures(network, "calibration", CALIBRATION_PICTURES)
        _write_npy(rows, (b.arrays[dataset.input_names[0]] for b in batches(dataset, 1)), 1)
        kept = [*_speed(network.path, rows, folder), *_memory(network.path, rows, folder)]
        kept += _overlap(network.path, folder)
    return 0 if all(kept) else 1


def _speed(model: Path, rows: Path, folder: Path) -> list[bool]:
    print(f"Speed: {CALIBRATION_PICTURES} samples from an .npy; medians of {ROUNDS} rounds in turn")
    prepared = folder / "prepared.onnx"
    seconds = prepare_for_onnxruntime(model, prepared)
    found: dict[str, list[Figures]] = {name: [] for name in _TITLES}
    for index in range(ROUNDS):
        for name in ("plain", "quantkit", "exact", "minmax"):
            found[name].append(measure(name, prepared if name == "minmax" else model, rows))
        if index == 0 and available_gb() >= _PERCENTILE_NEEDS_GB:
            found["percentile"].append(measure("percentile", prepared, rows))
    for name, runs in found.items():
        if runs:
            wall, cpu, peak = (_middle(runs, key) for key in ("wall_s", "cpu_s", "peak_mb"))
            tensors = runs[0].get("tensors")
            what = _TITLES[name] + (f" ({tensors:.0f} tensors)" if tensors else "")
            print(f"  {what:<58} {wall:8.2f} s   CPU {cpu:6.2f} s   peak {peak:6.0f} MB")
    print(f"  onnxruntime's own preprocessing, in no ratio {seconds:22.2f} s")
    kept = [
        _ratio(found, "quantkit", "plain", 3.5),
        _ratio(found, "exact", "plain", 8.0),
        _ratio(found, "quantkit", "minmax", 1.0),
    ]
    if found["percentile"]:
        kept.append(_ratio(found, "percentile", "quantkit", 8.0, least=True))
    else:
        print(f"  Percentile skipped: less than {_PERCENTILE_NEEDS_GB:g} GB of memory are free")
    peak = max(run["peak_mb"] for run in found["quantkit"])
    return [*kept, within("peak memory, MB", peak, 600)]


def _memory(model: Path, rows: Path, folder: Path) -> list[bool]:
    print(f"Memory: from {CALIBRATION_PICTURES} to {MANY:,} samples")
    many = folder / "many.npy"
    _write_npy(many, _noisy(np.load(rows, mmap_mode="r")), MANY // CALIBRATION_PICTURES)
    sources = {
        ".npy": (rows, many),
        "folder of pictures": (_linked(folder, CALIBRATION_PICTURES), _linked(folder, MANY)),
    }
    kept = []
    for kind, (few_path, many_path) in sources.items():
        few, more = (measure("quantkit", model, path) for path in (few_path, many_path))
        growth = 100 * (more["peak_mb"] / few["peak_mb"] - 1)
        note = f" ({few['peak_mb']:.0f} to {more['peak_mb']:.0f} MB, {more['wall_s']:.0f} s)"
        kept.append(within(f"growth of peak memory, {kind}, %", growth, 5.0, note=note))
    many.unlink()
    return kept


def _overlap(model: Path, folder: Path) -> list[bool]:
    print(f"Overlap: folder of {CALIBRATION_PICTURES} JPEG pictures to table, session open")
    found = measure("overlap", model, _linked(folder, CALIBRATION_PICTURES))
    shared = found["pass_cpu_s"] / (os.cpu_count() or 1)
    for what, key in (
        ("the pass", "pass"),
        ("decoding and preprocessing alone, 2 threads", "decode"),
        ("inference and statistics alone, from memory", "infer"),
    ):
        wall, cpu = found[f"{key}_s"], found[f"{key}_cpu_s"]
        print(f"  {what:<58} {wall:8.2f} s   CPU {cpu:6.2f} s")
    print(f"  {'CPU time of the pass / cores':<58} {shared:8.2f} s")
    slowest = max(found["decode_s"], found["infer_s"], shared)
    return [within("the pass / the longest of the three", found["pass_s"] / slowest, 1.15)]


def _ratio(
    found: dict[str, list[Figures]], ours: str, theirs: str, limit: float, *, least: bool = False
) -> bool:
    """A ratio of median wall times; beside it what tells how much other work disturbed them."""
    walls = [[run["wall_s"] for run in found[name]] for name in (ours, theirs)]
    rounds = [mine / other for mine, other in zip(*walls, strict=False)]
    fastest = min(walls[0]) / min(walls[1])
    cpu = _middle(found[ours], "cpu_s") / _middle(found[theirs], "cpu_s")
    value = median(walls[0]) / median(walls[1])
    note = (
        f" (rounds {min(rounds):.2f} to {max(rounds):.2f}; fastest runs {fastest:.2f}; "
        f"CPU time {cpu:.2f})"
    )
    return within(f"{_TITLES[ours]} / {_TITLES[theirs]}", value, limit, least=least, note=note)


def _middle(runs: list[Figures], key: str) -> float:
    return median(run[key] for run in runs)


def _write_npy(path: Path, chunks: Iterable[Array], times: int) -> None:
    """Rows as float32 ``.npy``, chunk by chunk; ``times``: how many of the first's lengths."""
    with path.open("wb") as file:
        for index, chunk in enumerate(chunks):
            if index == 0:
                shape = (CALIBRATION_PICTURES * times, *chunk.shape[1:])
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(chunk.astype("<f4").tobytes())


def _noisy(rows: Array) -> Iterator[Array]:
    """The rows again and again, each time with other noise of 1 % of a standard deviation."""
    generator = np.random.default_rng(0)
    for index in range(MANY):
        row = rows[index % len(rows)][np.newaxis]
        yield row + np.float32(0.01) * generator.standard_normal(row.shape, np.float32)


def _linked(folder: Path, count: int) -> Path:
    """A folder of so many links to the calibration pictures, evenly spaced or again and again."""
    linked = folder / f"pictures_{count}"
    if not linked.exists():
        linked.mkdir()
        found = sorted((zoo() / "imagenet" / "calibration").iterdir())
        for index in range(count):
            picture = found[
                index * len(found) // count if count < len(found) else index % len(found)
            ]
            (linked / f"{index:04}{picture.suffix}").symlink_to(picture.resolve())
    return linked


if __name__ == "__main__":
    sys.exit(main())
