"""What a report costs: all sections on MobileNetV2, 650 pictures, two engines.

python -m benchmarks.report
"""

import sys
import tempfile
from pathlib import Path

from benchmarks.child_process import run_command
from benchmarks.limits import within
from benchmarks.zoo import CALIBRATION_PICTURES, NETWORKS, has_zoo, labels, zoo

_MOST_SECONDS, _MOST_MB, _MOST_FILE_MB = 180.0, 1500.0, 6.0


def main() -> int:
    """Quantize, report, and print time, memory and size.

    Returns:
        How many limits were missed.
    """
    network = NETWORKS[0]
    print(f"{network.title}, all sections, float and int8 in onnxruntime and the integer session")
    with tempfile.TemporaryDirectory() as folder:
        quantized, page = Path(folder) / "int8.onnx", Path(folder) / "report.html"
        _quantkit(
            "quantize", network.path, zoo() / "imagenet" / "calibration",
            "--preset", network.preset, "--num-samples", CALIBRATION_PICTURES, "-o", quantized,
        )  # fmt: skip
        seconds, peak_mb = _quantkit(
            "report", network.path, quantized, "--data", zoo() / "imagenet" / "validation",
            "--labels", labels(), "-o", page,
        )  # fmt: skip
        size_mb = page.stat().st_size / 1e6
    kept = [
        within("wall time, s", seconds, _MOST_SECONDS),
        within("peak memory, MB", peak_mb, _MOST_MB),
        within("HTML file, MB", size_mb, _MOST_FILE_MB),
    ]
    return kept.count(False)


def _quantkit(*arguments: object) -> tuple[float, float]:
    """Wall time in seconds and peak memory in MB."""
    done = run_command([sys.executable, "-m", "quantkit_cli.app", "-q", *map(str, arguments)])
    if done.exit_code:
        sys.exit(done.errors)
    return done.wall_s, done.peak_mb


if __name__ == "__main__":
    sys.exit(1 if has_zoo() and main() else 0)
