"""Accuracy, integer share and speed on the MobileNets, beside onnxruntime's own quantizer.

Runs the commands a user types, straight from the picture folders: 128 calibration pictures,
650 validation pictures.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.peers import quantize_with_onnxruntime
from benchmarks.zoo import CALIBRATION_PICTURES, NETWORKS, Network, labels, pictures, zoo
from quantkit.calibration.batches import batches
from quantkit.graph.ort_session import median_latencies_ms
from quantkit.reporting.report import FLOAT_LABEL, INT8_LABEL, Report


def main() -> None:
    """Print a table per network."""
    for network in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            measure(network, Path(folder))


def measure(network: Network, folder: Path) -> None:
    """Quantize, report and time one network."""
    print(f"\n{network.title}")
    ours, theirs = folder / "quantkit.onnx", folder / "onnxruntime.onnx"
    start = time.perf_counter()
    calibration = zoo() / "imagenet" / "calibration"
    _quantkit(
        "quantize", network.path, calibration, "--preset", network.preset,
        "--num-samples", CALIBRATION_PICTURES, "-o", ours,
    )  # fmt: skip
    our_seconds = time.perf_counter() - start
    dataset = pictures(network, "calibration", CALIBRATION_PICTURES)
    their_seconds = quantize_with_onnxruntime(network.path, dataset, theirs)
    print(f"  quantize: quantkit {our_seconds:.1f} s, onnxruntime MinMax {their_seconds:.1f} s")
    reports = {
        name: _report(network, path) for name, path in (("quantkit", ours), ("onnxruntime", theirs))
    }
    float_row = reports["quantkit"].engine(FLOAT_LABEL)
    print(f"  float: top-1 {float_row.top1_percent:.2f}, top-5 {float_row.top5_percent:.2f}")
    for name, report in reports.items():
        _print_quality(name, report)
    feeds = next(iter(batches(dataset, 1))).arrays
    files = {"float": network.path, "quantkit": ours, "onnxruntime": theirs}
    latency = median_latencies_ms(files, dict.fromkeys(files, feeds), rounds=15)
    print(
        "  latency ms: "
        + ", ".join(f"{name} {value:.3f}" for name, value in latency.items())
        + f"; quantkit / onnxruntime {latency['quantkit'] / latency['onnxruntime']:.3f}"
        + f", float / quantkit {latency['float'] / latency['quantkit']:.2f}"
    )


def _print_quality(name: str, report: Report) -> None:
    row = report.engine(INT8_LABEL)
    drop = report.drop
    assert drop is not None
    sqnr = min(row.sqnr_db.values())
    print(
        f"  {name}: SQNR {sqnr:.2f} dB, agreement {row.agreement_percent:.2f} %, "
        f"top-1 {row.top1_percent:.2f} (drop {drop.points:+.2f}, 95 % {drop.low:+.2f} to "
        f"{drop.high:+.2f}), top-5 {row.top5_percent:.2f}, "
        f"MACs in integer kernels {report.cost.int8_mac_percent:.2f} %"
    )


def _report(network: Network, path: Path) -> Report:
    output = _quantkit(
        "report", network.path, path, "--data", zoo() / "imagenet" / "validation",
        "--labels", labels(), "--preset", network.preset, "--no-integer-session", "--json",
    )  # fmt: skip
    return Report.model_validate(json.loads(output))


def _quantkit(*arguments: Any) -> str:
    command = [sys.executable, "-m", "quantkit_cli.app", "-q", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


if __name__ == "__main__":
    main()
