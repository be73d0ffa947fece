"""quantkit: post-training quantization of ONNX networks, exact and explained.

Example:
    >>> import quantkit
    >>> result = quantkit.quantize("mobilenet.onnx", "pictures/")  # doctest: +SKIP
    >>> result.save("mobilenet.int8.onnx")  # doctest: +SKIP
"""

from quantkit.calibration.preprocessing import PRESETS, Preprocessing
from quantkit.calibration.table import CalibrationTable
from quantkit.config import QuantConfig, read_config
from quantkit.errors import QuantkitError
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
    "Prepared",
    "Preprocessing",
    "QuantConfig",
    "Quantization",
    "QuantizedModel",
    "QuantkitError",
    "calibrate",
    "export",
    "load_quantized",
    "open_integer_session",
    "prepare",
    "quantize",
    "quantize_calibrated",
    "read_config",
    "report",
    "verify",
]
