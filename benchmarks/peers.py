"""onnxruntime's own calibration and quantizer on the same model and samples.

``python -m benchmarks.peers MODEL SAMPLES OUTPUT`` quantizes with one scale per weight.
"""

import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
from onnxruntime.quantization.shape_inference import quant_pre_process

from quantkit.calibration.batches import batches
from quantkit.calibration.dataset import Dataset, open_dataset
from quantkit.graph.program import Array
from quantkit.passes.prepare import prepare


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Feeds samples one at a time."""

    def __init__(self, feeds: Iterable[Mapping[str, Array]]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Mapping[str, Array] | None:
        """The next sample, or None."""
        feed = next(self._feeds, None)
        if feed is None:
            return None
        return {name: np.ascontiguousarray(array) for name, array in feed.items()}


def prepare_for_onnxruntime(source: Path, output: Path) -> float:
    """Fold and optimize a model as onnxruntime's manual asks for before quantization.

    Returns:
        Seconds it took.
    """
    start = time.perf_counter()
    quant_pre_process(str(source), str(output), skip_symbolic_shape=True)
    return time.perf_counter() - start


def calibrate_with_onnxruntime(
    prepared: Path, feeds: Iterable[Mapping[str, Array]], method: str
) -> int:
    """The part of ``quantize_static`` that calibrates, with the options it has by default.

    Args:
        prepared: The model, preprocessed.
        feeds: One sample each.
        method: "MinMax" or "Percentile".

    Returns:
        Tensors that a range was found for.
    """
    with tempfile.TemporaryDirectory() as folder:
        calibrator = create_calibrator(
            prepared,
            sorted({*QLinearOpsRegistry, *QDQRegistry}),
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=CalibrationMethod[method],
        )
        calibrator.collect_data(_Reader(feeds))
        return len(calibrator.compute_data().keys())


def quantize_with_onnxruntime(
    source: Path, dataset: Dataset, output: Path, *, per_channel: bool = True
) -> float:
    """Preprocess and quantize (MinMax, QDQ, uint8 activations, int8 weights).

    Returns:
        Seconds it took.
    """
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        prepare_for_onnxruntime(source, prepared)
        quantize_static(
            str(prepared),
            str(output),
            _Reader(batch.arrays for batch in batches(dataset, 1)),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=per_channel,
            calibrate_method=CalibrationMethod.MinMax,
        )
    return time.perf_counter() - start


def main(model: str, samples: str, output: str) -> None:
    """Quantize with one scale per weight, and print the time."""
    inputs = prepare(model).program.inputs
    dataset = open_dataset(samples, inputs, preprocessing=None)
    seconds = quantize_with_onnxruntime(Path(model), dataset, Path(output), per_channel=False)
    print(f"time {seconds:.1f}s")


if __name__ == "__main__":
    main(*sys.argv[1:])
