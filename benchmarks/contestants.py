"""Ways to calibrate, each measured in a process of its own.

Run as ``python -m benchmarks.contestants NAME MODEL DATA``: prints JSON. Imports are done before
the clock starts; whatever else stands between two paths and the result is timed.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path

import numpy as np

from benchmarks.peers import calibrate_with_onnxruntime
from quantkit.calibration.array_files import open_rows
from quantkit.calibration.batches import readable_batches
from quantkit.calibration.collector import collect
from quantkit.calibration.dataset import open_dataset
from quantkit.calibration.preprocessing import PRESETS
from quantkit.graph.ort_session import open_session
from quantkit.graph.program import Array
from quantkit.passes.prepare import prepare
from quantkit.pipeline import calibrate
from quantkit.pipeline.calibration import open_collector

_PRESET, _INPUT = "imagenet", "input"  # MobileNetV2's
_OVERLAP_ROUNDS = 5

Figures = dict[str, float]


def measure(name: str, model: Path, data: Path) -> Figures:
    """Figures of one contestant, in a fresh process: wall_s, cpu_s, peak_mb and its own."""
    command = [sys.executable, "-m", "benchmarks.contestants", name, str(model), str(data)]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])  # Percentile prints what it does
    return figures


def plain(model: Path, data: Path) -> Figures:
    """The float model in onnxruntime with all cores, picture by picture."""
    session = open_session(model)
    for feeds in _feeds(data):
        session.run(feeds)
    return {}


def quantkit(model: Path, data: Path) -> Figures:
    """Our calibration as it is without options."""
    preset = _PRESET if data.is_dir() else None
    return {"tensors": len(calibrate(model, data, preprocessing=preset).statistics)}


def exact(model: Path, data: Path) -> Figures:
    """Our calibration, every value counted."""
    return {"tensors": len(calibrate(model, data, exact=True).statistics)}


def minmax(model: Path, data: Path) -> Figures:
    """MinMax of onnxruntime; the model is preprocessed."""
    return {"tensors": calibrate_with_onnxruntime(model, _feeds(data), "MinMax")}


def percentile(model: Path, data: Path) -> Figures:
    """Percentile of onnxruntime; the model is preprocessed."""
    return {"tensors": calibrate_with_onnxruntime(model, _feeds(data), "Percentile")}


def overlap(model: Path, data: Path) -> Figures:
    """The pass over a folder of pictures, and its two halves alone; medians of rounds in turn.

    The session is open before. ``pass_s`` runs from the folder's name to the table: listing,
    decoding, preprocessing, inference, statistics. ``decode_s`` reads and preprocesses the pictures
    in the pass's reader threads and drops them; ``infer_s`` is the pass over what they give, kept
    in memory.
    """
    prepared = prepare(model)
    inputs, collector = prepared.program.inputs, open_collector(prepared)
    preset = PRESETS[_PRESET]
    kept = [
        batch.arrays[inputs[0].name]
        for batch in readable_batches(open_dataset(data, inputs, preprocessing=preset), 1)
    ]
    in_memory = open_dataset(np.concatenate(kept), inputs, preprocessing=None)
    del kept

    def whole() -> None:
        collect(collector, open_dataset(data, inputs, preprocessing=preset))

    def decode() -> None:
        for _ in readable_batches(open_dataset(data, inputs, preprocessing=preset), 1):
            pass

    parts = {"pass": whole, "decode": decode, "infer": lambda: collect(collector, in_memory)}
    times: dict[str, list[float]] = {}
    for _ in range(_OVERLAP_ROUNDS):
        for name, work in parts.items():
            wall, cpu = _timed(work)
            times.setdefault(f"{name}_s", []).append(wall)
            times.setdefault(f"{name}_cpu_s", []).append(cpu)
    return {name: statistics.median(values) for name, values in times.items()}


CONTESTANTS: dict[str, Callable[[Path, Path], Figures]] = {
    function.__name__: function
    for function in (plain, quantkit, exact, minmax, percentile, overlap)
}


def _feeds(data: Path) -> Iterator[dict[str, Array]]:
    """The rows of an ``.npy``, read one at a time as quantkit reads them."""
    rows = open_rows(data, "")
    for index in range(len(rows)):
        yield {_INPUT: rows[index][np.newaxis]}


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall time and the CPU time of all threads, in seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def peak_mb() -> float:
    """The largest resident memory so far.

    Linux starts ``ru_maxrss`` at the peak of the process that started this one; the file does not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def available_gb() -> float:
    """Memory that can be had without swapping; infinite where the system does not tell."""
    facts = Path("/proc/meminfo")
    if not facts.exists():
        return inf
    lines = dict(line.split(":", 1) for line in facts.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) / 2**20


def main(name: str, model: str, data: str) -> None:
    """Print the figures of one contestant."""
    figures: Figures = {}
    wall, cpu = _timed(lambda: figures.update(CONTESTANTS[name](Path(model), Path(data))))
    print(json.dumps({"wall_s": wall, "cpu_s": cpu, "peak_mb": peak_mb(), **figures}))


if __name__ == "__main__":
    main(*sys.argv[1:])
