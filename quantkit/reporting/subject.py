"""The models that a report is about."""

from dataclasses import dataclass
from pathlib import Path

from quantkit.passes.prepare import Prepared
from quantkit.quantized_model.model import QuantizedModel
from quantkit.reporting.report import FLOAT_LABEL, INT8_LABEL


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """What is reported on.

    Attributes:
        float_path: The float file; None: there is none.
        quantized_path: The quantized file.
        reference: The float file, prepared; None: there is none.
        model: The quantized file, as read.
    """

    float_path: Path | None
    quantized_path: Path
    reference: Prepared | None
    model: QuantizedModel

    def files(self) -> dict[str, Path]:
        """The model files by the labels of their engines, the reference first."""
        both = {FLOAT_LABEL: self.float_path, INT8_LABEL: self.quantized_path}
        return {label: path for label, path in both.items() if path is not None}
