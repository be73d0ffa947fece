"""Speed and memory of the integer session on MobileNetV2, beside onnxruntime's int8 kernels.

Run with ``python -m benchmarks.integer_session``. Every contestant has its turn in every round,
ratios are of medians. A session of onnxruntime is open only during its turn: its threads keep
spinning for a while after a run. Peak memory is that of a process of its own
(``python -m benchmarks.integer_session MODEL``).
"""

import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.contestants import peak_mb
from benchmarks.limits import within
from benchmarks.zoo import CALIBRATION_PICTURES, NETWORKS, Network, has_zoo, pictures
from quantkit.calibration.batches import batches
from quantkit.evaluation.accuracy import evaluate
from quantkit.evaluation.engines import integer_engine
from quantkit.graph.ort_session import open_session
from quantkit.graph.program import Array, Node
from quantkit.integer_session import IntegerSession, open_integer_session
from quantkit.numerics.affine import quantize as quantize_values
from quantkit.ops.contract import OPS
from quantkit.ops.parallel import available_threads
from quantkit.pipeline import load_quantized, quantize

BATCH = 8
ROUNDS = 5
RUNS_PER_ROUND = 3
WHOLE = "whole run"

Feeds = Mapping[str, Array]


def main() -> int:
    """Print the figures; 1 if one misses its limit."""
    if not has_zoo():
        return 0
    network = NETWORKS[0]
    print(f"\nInteger session: {network.title}, batch {BATCH}, {available_threads()} cores")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        dataset = pictures(network, "calibration", CALIBRATION_PICTURES)
        quantize(network.path, dataset).save(path)
        feeds = next(iter(batches(dataset, BATCH))).arrays
        kept = [*_speed(path, feeds), _validation(network, path), _memory(path)]
    return 0 if all(kept) else 1


def _speed(path: Path, feeds: Feeds) -> list[bool]:
    model = load_quantized(path)
    sessions = {
        "default": open_integer_session(model),
        "one thread": open_integer_session(model, threads=1),
        "strict": open_integer_session(model, strict_integer=True),
    }
    turns: dict[str, Callable[[], Mapping[str, list[float]]]] = {
        "onnxruntime": lambda: _time_onnxruntime(path, feeds),
        **{name: _timer(session, feeds) for name, session in sessions.items()},
    }
    found: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in turns}
    for _ in range(ROUNDS):
        for name, turn in turns.items():
            for family, times in turn().items():
                found[name][family] += times
    picture_ms = {name: median(families[WHOLE]) for name, families in found.items()}
    _print_table(found, picture_ms)
    ratio = picture_ms["default"] / picture_ms["onnxruntime"]
    fastest = min(found["default"][WHOLE]) / min(found["onnxruntime"][WHOLE])
    return [
        within(
            "integer session, times onnxruntime's int8",
            ratio,
            15,
            note=f" (aim: 10; of the fastest runs {fastest:.2f})",
        ),
        within("strict integer session, s per picture", picture_ms["strict"] / 1e3, 1),
    ]


def _print_table(
    found: Mapping[str, Mapping[str, list[float]]], picture_ms: Mapping[str, float]
) -> None:
    print(f"Time per picture in ms, medians of {ROUNDS} rounds of {RUNS_PER_ROUND} runs in turn")
    print(f"  {'':<30}" + "".join(f"{name:>14}" for name in found))
    ratios = {name: value / picture_ms["onnxruntime"] for name, value in picture_ms.items()}
    print(f"  {WHOLE:<30}" + "".join(f"{value:14.2f}" for value in picture_ms.values()))
    print(f"  {'times onnxruntime':<30}" + "".join(f"{value:14.1f}" for value in ratios.values()))
    for family in found["default"]:
        if family != WHOLE:
            times = [families.get(family) for families in found.values()]
            cells = (f"{median(one):14.2f}" if one else " " * 14 for one in times)
            print(f"  {family:<30}" + "".join(cells))


def _time_onnxruntime(path: Path, feeds: Feeds) -> dict[str, list[float]]:
    session = open_session(path)
    session.run(feeds)
    times = []
    for _ in range(RUNS_PER_ROUND):
        start = time.perf_counter()
        session.run(feeds)
        times.append(_ms_per_picture(start))
    return {WHOLE: times}


def _timer(session: IntegerSession, feeds: Feeds) -> Callable[[], Mapping[str, list[float]]]:
    """A turn of a session: whole runs, then one run step by step for the times of op families."""

    def turn() -> dict[str, list[float]]:
        found: dict[str, list[float]] = defaultdict(list)
        session.run(feeds)
        for _ in range(RUNS_PER_ROUND):
            start = time.perf_counter()
            session.run(feeds)
            found[WHOLE].append(_ms_per_picture(start))
        families: dict[str, float] = defaultdict(float)
        start = time.perf_counter()
        values: dict[str, Array] = {
            name: quantize_values(array, session.params[name]) for name, array in feeds.items()
        }
        families["quantize the input"] += _ms_per_picture(start)
        for step, forgotten in zip(session.steps, session.last_use, strict=True):
            start = time.perf_counter()
            values.update(session.run_step(step, values))
            families[_family(step.node, session)] += _ms_per_picture(start)
            for name in forgotten:
                values.pop(name, None)
        for family, value in families.items():
            found[family].append(value)
        return found

    return turn


def _family(node: Node, session: IntegerSession) -> str:
    if node.op_type == "Conv":
        weight = session.program.constants[node.inputs[1]]
        if weight.shape[1] == 1 < node.integer("group", 1):
            return "Conv depthwise"
        return "Conv pointwise" if set(weight.shape[2:]) == {1} else "Conv other"
    if "Pool" in node.op_type:
        return "pooling"
    rule = OPS[node.op_type].rule
    return "movement" if rule.output == "same_as_input" and not rule.clamps else node.op_type


def _validation(network: Network, path: Path) -> bool:
    start, cpu = time.perf_counter(), time.process_time()
    dataset = pictures(network, "validation")
    evaluate([integer_engine("integer session", load_quantized(path))], dataset, batch_size=BATCH)
    what = f"{len(dataset)} validation pictures, decoding included, s"
    seconds = time.perf_counter() - start
    return within(what, seconds, 40, note=f" (CPU {time.process_time() - cpu:.1f} s)")


def _memory(path: Path) -> bool:
    command = [sys.executable, "-m", "benchmarks.integer_session", str(path)]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    default, strict = map(float, done.stdout.split())
    note = f" (with a strict run after it {strict:.0f} MB)"
    return within("peak memory of the process, MB", default, 500, note=note)


def _print_peaks(path: Path) -> None:
    """Peak memory after the default session's runs, then after the strict one's."""
    model = load_quantized(path)
    (spec,) = model.prepared.program.inputs
    shape = (BATCH, *(size for size in (spec.shape or ())[1:] if isinstance(size, int)))
    feeds = {spec.name: np.random.default_rng(0).standard_normal(shape, np.float32)}
    for strict_integer in (False, True):
        session = open_integer_session(model, strict_integer=strict_integer)
        for _ in range(2):
            session.run(feeds)
        print(peak_mb())


def _ms_per_picture(start: float) -> float:
    return (time.perf_counter() - start) * 1e3 / BATCH


if __name__ == "__main__":
    if sys.argv[1:]:
        _print_peaks(Path(sys.argv[1]))
    else:
        sys.exit(main())
