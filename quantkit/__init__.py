"""quantkit: post-training quantization of ONNX networks, exact and explained.

Example:
    >>> import quantkit
    >>> result = quantkit.quantize("mobilenet.onnx", "pictures/")  # doctest: +SKIP
    >>> result.save("mobilenet.int8.onnx")  # doctest: +SKIP

A quantized model of any tool, on integers:
    >>> model = quantkit.QuantizedModel.from_qdq("mobilenet.int8.onnx")  # doctest: +SKIP
    >>> outputs = quantkit.open_integer_session(model).run({"input": x})  # doctest: +SKIP
"""

from quantkit.calibration.preprocessing import PRESETS, Preprocessing
from quantkit.calibration.table import CalibrationTable
from quantkit.config import QuantConfig, read_config
from quantkit.errors import QuantkitError
from quantkit.evaluation.hardware import LayerVerdict, hardware_verdicts
from quantkit.integer_session import IntegerSession, open_integer_session
from quantkit.passes.prepare import Prepared, prepare
from quantkit.pipeline import (
    Quantization,
    calibrate,
    export,
    load_quantized,
    quantize,
    quantize_calibrated,
    report,
    verify,
)
from quantkit.quantized_model.model import QuantizedModel

__all__ = [
    "PRESETS",
    "CalibrationTable",
    "IntegerSession",
    "LayerVerdict",
    "Prepared",
    "Preprocessing",
    "QuantConfig",
    "Quantization",
    "QuantizedModel",
    "QuantkitError",
    "calibrate",
    "export",
    "hardware_verdicts",
    "load_quantized",
    "open_integer_session",
    "prepare",
    "quantize",
    "quantize_calibrated",
    "read_config",
    "report",
    "verify",
]
