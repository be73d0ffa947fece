"""The public verbs: calibrate, quantize, tune, export, verify, report.

- ``calibration``: from data to a calibration table, in one process or many.
- ``quantization``: from a model, a table and a recipe to a quantized model, and to its file.
- ``tuning``: which layers to keep out of the integers; ``tuning_result`` is what it finds.
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
from quantkit.pipeline.tuning import tune
from quantkit.pipeline.tuning_result import Tuning

__all__ = [
    "Quantization",
    "Tuning",
    "calibrate",
    "export",
    "load_quantized",
    "quantize",
    "quantize_calibrated",
    "report",
    "tune",
    "verify",
]
