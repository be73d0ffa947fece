"""quantkit: post-training quantization of ONNX networks, exact and explained.

Example:
    >>> import quantkit
    >>> result = quantkit.quantize("mobilenet.onnx", "pictures/")  # doctest: +SKIP
    >>> result.save("mobilenet.int8.onnx")  # doctest: +SKIP

With another recipe than ``balanced``:
    >>> from quantkit.recipes import RECIPES
    >>> quantkit.quantize(
    ...     "mobilenet.onnx", "pictures/", config=RECIPES["accurate"]
    ... )  # doctest: +SKIP

A quantized model of any tool, on integers:
    >>> model = quantkit.QuantizedModel.from_qdq("mobilenet.int8.onnx")  # doctest: +SKIP
    >>> outputs = quantkit.open_integer_session(model).run({"input": x})  # doctest: +SKIP
"""

from quantkit.calibration.preprocessing import PRESETS, Preprocessing
from quantkit.calibration.table import CalibrationTable
from quantkit.config import QuantConfig
from quantkit.errors import QuantkitError
from quantkit.evaluation.hardware import LayerVerdict, hardware_verdicts
from quantkit.integer_session import IntegerSession, open_integer_session
from quantkit.passes.prepare import Prepared, prepare
from quantkit.pipeline import (
    Quantization,
    Tuning,
    calibrate,
    export,
    load_quantized,
    quantize,
    quantize_calibrated,
    report,
    tune,
    verify,
)
from quantkit.quantized_model.model import QuantizedModel
from quantkit.recipes import read_config

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
    "Tuning",
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
    "tune",
    "verify",
]
