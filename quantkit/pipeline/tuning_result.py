"""What ``tune`` found: the ranking of the layers, the frontier and the variant chosen."""

from dataclasses import dataclass

from quantkit.calibration.table import CalibrationTable
from quantkit.config import QuantConfig
from quantkit.recovery.sensitivity import Keep, Layer, Sensitivity
from quantkit.reporting.report import Drop


@dataclass(frozen=True, slots=True)
class Point:
    """One variant of the network.

    Attributes:
        kept: Names of the layers that are not in 8-bit integers, in graph order.
        value: Of the metric.
        sqnr_db: Of the outputs, against the float network's.
        int8_mac_percent: Share of multiply-accumulates in 8-bit integers; None where unknown.
        latency_ms: Median in onnxruntime, one sample.
    """

    kept: tuple[str, ...]
    value: float
    sqnr_db: float
    int8_mac_percent: float | None
    latency_ms: float


@dataclass(frozen=True, slots=True, eq=False)
class Tuning:
    """What was found on the samples; other samples may say otherwise.

    Attributes:
        metric: Its name.
        unit: Of its values: "%", "dB" or "".
        float_value: The float network's.
        limit: The least value that was asked for.
        is_met: Whether ``chosen`` reaches it, with a layer in integers.
        keep: What becomes of the layers that are kept: "float" or "16bit".
        layers: All that were quantized, in graph order.
        ranking: The layers, the one that makes most noise alone first.
        frontier: The variants than which none measured is both faster and better; the one with
            most multiply-accumulates in 8-bit integers first.
        chosen: The variant found; where the limit is missed the best one.
        float_latency_ms: Median of the float network.
        drop: Top-1 of ``chosen`` against the float network's; None for other metrics.
        config: Makes ``chosen``.
        table: The calibration table.
        samples: How many samples the variants were measured on.
        ranking_samples: How many of them the layers were ranked on.
        measurements: How many variants were measured, those of an earlier run not counted.
        known_measurements: How many were taken from an earlier run.
    """

    metric: str
    unit: str
    float_value: float
    limit: float
    is_met: bool
    keep: Keep
    layers: tuple[Layer, ...]
    ranking: tuple[Sensitivity, ...]
    frontier: tuple[Point, ...]
    chosen: Point
    float_latency_ms: float
    drop: Drop | None
    config: QuantConfig
    table: CalibrationTable
    samples: int
    ranking_samples: int
    measurements: int
    known_measurements: int

    @property
    def only_float_meets(self) -> bool:
        """Whether ``chosen`` is the float network: nothing else reaches the limit."""
        return self.keep == "float" and len(self.chosen.kept) == len(self.layers)
