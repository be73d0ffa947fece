"""The public verbs: calibrate, quantize, export, verify, report.

- ``calibration``: from data to a calibration table, in one process or many.
- ``quantization``: from a model and a table to a quantized model, and to its file.
- ``judgement``: what a quantized model computes and what it cost.
"""

from quantkit.pipeline.calibration import calibrate
from quantkit.pipeline.judgement import report, verify
from quantkit.pipeline.quantization import (
    Quantization,
    export,
    load_quantized,
    quantize,
    quantize_calibrated,
)

__all__ = [
    "Quantization",
    "calibrate",
    "export",
    "load_quantized",
    "quantize",
    "quantize_calibrated",
    "report",
    "verify",
]
