"""onnxruntime's own quantizer on the same model and samples."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from quantkit.calibration.batches import batches
from quantkit.calibration.dataset import Dataset
from quantkit.graph.program import Array


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Feeds samples one at a time."""

    def __init__(self, dataset: Dataset) -> None:
        self._batches = batches(dataset, 1)

    def get_next(self) -> Mapping[str, Array] | None:
        """The next sample, or None."""
        batch = next(self._batches, None)
        if batch is None:
            return None
        return {name: np.ascontiguousarray(array) for name, array in batch.arrays.items()}


def quantize_with_onnxruntime(source: Path, dataset: Dataset, output: Path) -> float:
    """Preprocess and quantize (MinMax, QDQ, uint8 activations, int8 per-channel weights).

    Returns:
        Seconds it took.
    """
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(output),
            _Reader(dataset),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=CalibrationMethod.MinMax,
        )
    return time.perf_counter() - start
