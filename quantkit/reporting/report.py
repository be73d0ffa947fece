"""The report as plain data: measured numbers, nothing rendered.

Every form of a report (terminal, HTML, Markdown, JSON, CSV, JUnit) is made of this data alone. JSON
holds them as they are; ``Report.model_validate_json`` reads them back, equal to the last bit.
``docs/report.md`` documents the fields for readers of the JSON.
"""

from typing import Literal

from pydantic import Field

from quantkit.reporting.layer import Layer
from quantkit.reporting.plain_data import Frozen

FLOAT_LABEL = "float"
INT8_LABEL = "int8 in onnxruntime"
INTEGER_LABEL = "int8 integer session"


class EngineRow(Frozen):
    """One way to run the network, over all samples.

    Attributes:
        label: What it is called.
        top1_percent: None without labels or classes.
        top5_percent: None also with five classes or fewer.
        metric: The user's metric (``Report.metric``); None without one.
        agreement_percent: Samples with the reference's class; None for the reference itself, and
            where the outputs are no classes' scores.
        tied: Samples with several best classes, of which the first is taken.
        sqnr_db: By output, against the reference; empty for the reference itself.
        latency_ms: Median of one sample; None where it was not measured.
        size_bytes: The file, with its external data.
    """

    label: str
    top1_percent: float | None
    top5_percent: float | None
    metric: float | None = None
    agreement_percent: float | None
    tied: int | None
    sqnr_db: dict[str, float]
    latency_ms: float | None
    size_bytes: int | None


class Drop(Frozen):
    """What was lost of a score from float to int8 in onnxruntime, on the same samples.

    Attributes:
        metric: "top-1", or the user's metric.
        unit: "points" (of per cent) for top-1, "" for the user's own.
        points: Float minus int8.
        low: Lower end of the 95 % interval: Newcombe's for paired proportions, else bootstrap.
        high: Its upper end.
        p_value: Exact McNemar; None for other metrics than top-1.
        right_to_wrong: Samples that only the float network answers rightly; None as above.
        wrong_to_right: Samples that only the int8 network answers rightly.
    """

    metric: str = "top-1"
    unit: str = "points"
    points: float
    low: float
    high: float
    p_value: float | None
    right_to_wrong: int | None
    wrong_to_right: int | None

    @property
    def is_noise(self) -> bool:
        """Whether the interval contains no change."""
        return self.low <= 0.0 <= self.high


class Cost(Frozen):
    """What the network needs, for one sample.

    Attributes:
        macs: Multiply-accumulates; None where shapes are unknown.
        int8_mac_percent: Of them in integer kernels, in the graph onnxruntime writes after
            optimizing.
        float_peak_bytes: Most bytes of activations held at a time, computed in the graph's order.
        int8_peak_bytes: The same for the quantized network.
    """

    macs: int | None = None
    int8_mac_percent: float | None = None
    float_peak_bytes: int | None = None
    int8_peak_bytes: int | None = None


class SplitRow(Frozen):
    """The network with only some of its tensors quantized, against the reference.

    Attributes:
        label: "weights only", "activations only" or "both".
        sqnr_db: By output.
        agreement_percent: None where there are no classes.
        top1_percent: None without labels.
    """

    label: str
    sqnr_db: dict[str, float]
    agreement_percent: float | None
    top1_percent: float | None


class Remedy(Frozen):
    """What to try against a cause.

    Attributes:
        text: For people: the option as typed, and a word on what it costs.
        config: Fields of ``QuantConfig`` to change; empty: none.
        preprocessing: Fields of ``Preprocessing`` to change; empty: none.
        recalibrate: Whether calibrating anew (on more or other samples) is the remedy.
    """

    text: str
    config: dict[str, bool | int | float | str | tuple[str, ...]] = Field(default={})
    preprocessing: dict[str, str | tuple[float, ...]] = Field(default={})
    recalibrate: bool = False


class Cause(Frozen):
    """A cause, its evidence, and what to try.

    Attributes:
        node: The layer it was found in; "" for the whole network.
        cause: Its name.
        evidence: The numbers, in a sentence.
        remedy: What to try.
        noise_percent: Share of the outputs' noise that it is held responsible for; causes are in
            the order of it. None where that is not known.
    """

    node: str
    cause: str
    evidence: str
    remedy: Remedy
    noise_percent: float | None = None


class TriedFix(Frozen):
    """A remedy, applied and measured on samples that were not calibrated on where there were any.

    Attributes:
        text: The remedy's.
        cause: The cause it was tried for; "" for the control: calibrated anew, nothing changed.
        sqnr_db: Of the outputs (all together), before and after.
        agreement_percent: Before and after; None without classes.
        error: Why it could not be applied; None where it could.
    """

    text: str
    cause: str
    sqnr_db: tuple[float, float] | None
    agreement_percent: tuple[float, float] | None
    error: str | None = None


class ChangedPrediction(Frozen):
    """A sample that the int8 network in onnxruntime answers otherwise than the float one.

    Attributes:
        sample: Its name.
        label: Its class; None without labels.
        float_class: The float network's answer.
        int8_class: The int8 network's.
        float_margin: By how much the float network scores its answer above the int8 network's.
        picture: A JPEG of what the network saw, in base64; "" where the input is no picture.
    """

    sample: str
    label: int | None
    float_class: int
    int8_class: int
    float_margin: float
    picture: str


class ClassFlip(Frozen):
    """How many samples changed from one class to another."""

    float_class: int
    int8_class: int
    count: int


class Report(Frozen):
    """What was lost, where and why.

    Attributes:
        schema_version: Of this data.
        float_model: File name; None where there was none: the reference of the engines is then
            onnxruntime, that of the layers the network of the dequantized weights.
        quantized_model: File name.
        samples: Samples read.
        skipped: Samples that could not be read.
        metric: Name of the user's metric; None without.
        class_names: By class number; empty where not given.
        engines: The reference first.
        drop: None without labels or classes, and without a float model.
        metric_drop: Of the user's metric.
        cost: Before and after.
        split: Weights only, activations only, both; empty where it could not be measured.
        kept_float: Node -> why it stays float.
        layers_without_reference: Integer layers for which the float network has no tensor of the
            same name, so that nothing can be said of them.
        layer_samples: How many samples layers were judged on.
        layers: In the graph's order.
        causes: The worst first; empty for a healthy network.
        fixes: Empty where none were tried.
        changed: Changed predictions, at most 24: first those that were right, then by margin.
        changed_count: How many there are in all; None without classes.
        flips: The most frequent first.
        provenance: Versions, digests, preprocessing, recipe, command line.
    """

    schema_version: Literal[2] = 2
    float_model: str | None
    quantized_model: str
    samples: int
    skipped: int
    metric: str | None = None
    class_names: tuple[str, ...] = ()
    engines: tuple[EngineRow, ...]
    drop: Drop | None
    metric_drop: Drop | None = None
    cost: Cost = Cost()
    split: tuple[SplitRow, ...] = ()
    kept_float: dict[str, str]
    layers_without_reference: int
    layer_samples: int = 0
    layers: tuple[Layer, ...]
    causes: tuple[Cause, ...]
    fixes: tuple[TriedFix, ...] = ()
    changed: tuple[ChangedPrediction, ...] = ()
    changed_count: int | None = None
    flips: tuple[ClassFlip, ...] = ()
    provenance: dict[str, str]

    def engine(self, label: str) -> EngineRow:
        """The row of an engine."""
        return next(row for row in self.engines if row.label == label)
