"""What was measured of a network, for the causes to look at."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from quantkit.calibration.dataset import Dataset
from quantkit.calibration.statistics import TensorStatistics
from quantkit.config import QuantConfig
from quantkit.graph.program import Node
from quantkit.passes.prepare import Prepared
from quantkit.quantized_model.model import QuantizedModel
from quantkit.reporting.layer import Layer


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """What was measured of a network.

    Attributes:
        reference: The prepared float network; the one of the dequantized weights where there was no
            float model.
        model: The quantized network.
        layers: What each layer loses, in the graph's order.
        statistics: Of the float network's values on the layers' samples, by name, with the channels
            as the quantized network has them (equalized).
        has_float_model: Whether ``reference`` is the user's float model.
        dataset: All samples of the report; None: nothing is said of how they were made.
        labels: int64, a class per sample of ``dataset``.
        float_right: Which of the samples that could be read the float model answers rightly
            (``EngineScores.top1``); None without labels or classes, and without a float model.
    """

    reference: Prepared
    model: QuantizedModel
    layers: tuple[Layer, ...]
    statistics: Mapping[str, TensorStatistics]
    has_float_model: bool = True
    dataset: Dataset | None = None
    labels: npt.NDArray[np.int64] | None = None
    float_right: npt.NDArray[np.bool_] | None = None

    def nodes(self) -> dict[str, Node]:
        """The quantized network's nodes, by name."""
        return {node.name: node for node in self.model.prepared.program.nodes}

    def config(self) -> QuantConfig | None:
        """How quantkit made the quantized network, as its metadata hold it; None: not known."""
        try:
            return QuantConfig.model_validate_json(self.model.metadata.get("config", ""))
        except ValidationError:
            return None

    def calibration_samples(self) -> int | None:
        """On how many samples quantkit calibrated it; None: not known."""
        text = self.model.metadata.get("sample_count", "")
        return int(text) if text.isdecimal() else None
