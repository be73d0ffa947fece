"""What differs between two quantized models, or between two reports."""

import codecs
from pathlib import Path

from quantkit.errors import ConfigError, ModelError, UnsupportedModelError
from quantkit.graph.model_io import load_model, program_of
from quantkit.graph.program import Program
from quantkit.pipeline.quantization import read_quantized
from quantkit.quantized_model.model import QuantizedModel
from quantkit.reporting.compare_models import compare_models
from quantkit.reporting.model_differences import ModelDifferences
from quantkit.reporting.report_differences import (
    ReportDifferences,
    compare_reports,
    read_report,
)

_LONGEST_BLANK = 1024


def diff(first: str | Path, second: str | Path) -> ModelDifferences | ReportDifferences:
    """Compare two quantized models, or two reports; which of them is told by the content.

    Args:
        first: A quantized ONNX file of any tool, or a report as JSON.
        second: Another of the same kind.

    Raises:
        ConfigError: One is a model and the other a report, or the JSON is no report.
        ModelError: A model cannot be read.
        UnsupportedModelError: A model is not quantized.
    """
    paths = Path(first), Path(second)
    names = str(first), str(second)
    are_json = [_is_json(path) for path in paths]
    if all(are_json):
        return compare_reports(names, *(read_report(path) for path in paths))
    if any(are_json):
        report, model = names if are_json[0] else reversed(names)
        raise ConfigError(
            f"{report!r} is JSON, a report, and {model!r} is not; "
            "give two quantized models or two reports"
        )
    (a, file_a), (b, file_b) = (_read(path) for path in paths)
    return compare_models(names, a, b, (file_a, file_b))


def _is_json(path: Path) -> bool:
    """Whether a file holds JSON: no ONNX file begins with a brace, which would be a field 15.

    Raises:
        ModelError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_LONGEST_BLANK)
    except OSError as error:
        raise ModelError(
            f"{str(path)!r} cannot be read: {error.strerror}; give a quantized ONNX model, "
            "or a report as JSON"
        ) from error
    return start.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{")


def _read(path: Path) -> tuple[QuantizedModel, Program]:
    try:
        return read_quantized(path), program_of(load_model(path))
    except UnsupportedModelError as error:
        raise UnsupportedModelError(
            f"{error}; `quantkit diff` compares quantized models: two of them, or two reports"
        ) from error
