"""Codes of the integer session against onnxruntime's; its classes on all validation pictures."""

import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.zoo import CALIBRATION_PICTURES, NETWORKS, Network, pictures
from quantkit.evaluation.accuracy import evaluate
from quantkit.evaluation.engines import integer_engine, onnxruntime_engine
from quantkit.evaluation.verification import CodeDifference, verify
from quantkit.pipeline import load_quantized, quantize

SAMPLES = 16


def main() -> None:
    """Print the counts per network and arithmetic."""
    for network in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "int8.onnx"
            dataset = pictures(network, "calibration", CALIBRATION_PICTURES)
            quantize(network.path, dataset).save(path)
            print(f"\n{network.title}")
            for arithmetic in ("onnxruntime", "fixed_point"):
                _isolated(network, path, arithmetic)
            _end_to_end(network, path)


def _isolated(network: Network, path: Path, arithmetic: str) -> None:
    dataset = pictures(network, "validation", SAMPLES)
    found = verify(path, load_quantized(path), dataset, arithmetic=arithmetic)
    families: dict[str, list[CodeDifference]] = defaultdict(list)
    for layer in found.layers:
        families[layer.op_type].append(layer.isolated)
    print(f"  {arithmetic} arithmetic, equal inputs, {found.samples} pictures")
    for op_type, differences in families.items():
        saturated = sum(d.saturated for d in differences)
        unsaturated = sum(d.unsaturated for d in differences)
        wrong = sum(d.mismatches for d in differences)
        print(
            f"    {op_type}: {len(differences)} nodes, "
            f"{sum(d.unsaturated_mismatches for d in differences):,} of {unsaturated:,} "
            f"unsaturated and {sum(d.saturated_mismatches for d in differences):,} of "
            f"{saturated:,} saturated codes differ "
            f"({100 * wrong / (saturated + unsaturated):.4f} %), "
            f"by at most {max(d.largest for d in differences)}"
        )
    if not found.passed:
        sys.exit("FAIL")


def _end_to_end(network: Network, path: Path) -> None:
    engines = [
        onnxruntime_engine("onnxruntime", path),
        integer_engine("integer session", load_quantized(path)),
    ]
    dataset = pictures(network, "validation")
    start = time.perf_counter()
    scores = evaluate(engines, dataset).engines[1]
    seconds = time.perf_counter() - start
    assert scores.agrees is not None
    same = int(np.sum(scores.agrees))
    print(
        f"  end to end: same class as onnxruntime on {same} of {scores.agrees.size} pictures "
        f"({100 * same / scores.agrees.size:.2f} %), output SQNR "
        f"{min(scores.sqnr_db.values())} dB; {seconds:.0f} s with decoding"
    )


if __name__ == "__main__":
    main()
