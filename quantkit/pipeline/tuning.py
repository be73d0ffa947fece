"""Which layers to keep out of the 8-bit integers, so that no more is lost than allowed."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from quantkit.calibration.dataset import Dataset, DataSource
from quantkit.calibration.labels import read_labels
from quantkit.calibration.preprocessing import Preprocessing
from quantkit.calibration.table import CalibrationTable, tool_version
from quantkit.config import QuantConfig
from quantkit.errors import ConfigError
from quantkit.evaluation.integer_share import int8_mac_percent
from quantkit.evaluation.measurement import open_bench
from quantkit.evaluation.metric import Labels, Metric, metric_of
from quantkit.evaluation.samples import evenly_spaced, open_samples
from quantkit.graph.ort_session import onnxruntime_version
from quantkit.passes.prepare import Prepared
from quantkit.pipeline.calibration import as_model_says, calibrate, prepared_model
from quantkit.pipeline.quantization import quantize_calibrated
from quantkit.pipeline.tuning_limits import limited_metric, refuse_without_classes
from quantkit.pipeline.tuning_result import Point, Tuning
from quantkit.quantized_model.model import QuantizedModel
from quantkit.recovery.measurement_log import begin_log, digest_of, read_log
from quantkit.recovery.mixed_precision import Kept, Search, frontier, smallest_set
from quantkit.recovery.sensitivity import (
    Keep,
    Sensitivity,
    keep_costs,
    keeping,
    order_of_keeping,
    quantized_layers,
    sensitivities,
)
from quantkit.recovery.variants import Variants
from quantkit.reporting.drops import paired_drop
from quantkit.reporting.make_report import Progress as SectionProgress

TUNE_SAMPLES = 128
RANKING_SAMPLES = 32
_POINTS = 8


def tune(
    model: str | Path | Prepared,
    data: DataSource | Dataset,
    *,
    max_drop: float | None = None,
    min_sqnr: float | None = None,
    metric: str | None = None,
    labels: str | Path | None = None,
    search_data: DataSource | Dataset | None = None,
    config: QuantConfig | None = None,
    table: CalibrationTable | None = None,
    keep: Keep = "float",
    preprocessing: Preprocessing | str | None = None,
    num_samples: int | None = None,
    strict: bool = False,
    state: str | Path | None = None,
    resume: bool = False,
    progress: SectionProgress | None = None,
) -> Tuning:
    """Find the cheapest set of layers to keep, so that the others lose no more than allowed.

    Layers are ranked by the SQNR of the outputs, which tells apart what accuracies cannot; the
    metric decides. All measurements are onnxruntime's, on the exported model.

    Args:
        model: A float ONNX file, or the result of ``prepare``.
        data: Samples, as for ``calibrate``.
        max_drop: How far below the float network's the metric may be: percentage points (top1,
            agreement), or the metric's own unit.
        min_sqnr: Instead: the least SQNR of the outputs, in dB.
        metric: "top1", "agreement", "sqnr" or "module:function", see ``evaluation.metric``; None:
            top1 with labels, agreement without, sqnr with ``min_sqnr``.
        labels: A CSV ``file,label``, an ``.npy`` or class folders, for the samples that the
            variants are measured on; None: those in the data, if any; with "top1" also the class
            folders they lie in.
        search_data: Samples that the variants are measured on; None: ``data``.
        config: How the other layers are quantized; None: recipe ``fast``.
        table: A calibration table of the model; None: calibrate on ``data``.
        keep: What becomes of kept layers: "float", or their activations get 16 bits.
        preprocessing: How pictures become inputs; None: as stored in ``table``.
        num_samples: How many samples of each, evenly spaced; None: at most 128.
        strict: Refuse unreadable pictures instead of skipping them.
        state: A file that every measurement is added to; None: nowhere.
        resume: Take what ``state`` holds instead of measuring again; the limit may be another.
        progress: Told how far each section is.

    Raises:
        ConfigError: Not exactly one limit, one that does not fit the metric, or nothing to tune.
        CalibrationError: ``state`` holds other work.
        QuantkitError: Bad model, data or labels; see ``errors``.
    """
    config = config or QuantConfig()
    name = limited_metric(metric, max_drop, min_sqnr)
    judge = None if name is None else metric_of(name)
    prepared = prepared_model(model)
    layers = quantized_layers(prepared, config)
    if not layers:
        raise ConfigError("no layer is quantized, so there is nothing to tune")
    given = as_model_says(preprocessing, prepared)

    def opened(source: DataSource | Dataset) -> Dataset:
        return open_samples(
            source,
            prepared.program.inputs,
            given,
            None if table is None else table.preprocessing,
            num_samples=num_samples,
            default_samples=TUNE_SAMPLES,
            strict=strict,
        )

    dataset = opened(data)
    samples = dataset if search_data is None else opened(search_data)
    # Class folders are labels where they are asked for.
    asked_for = labels is not None or name == "top1"
    classes = read_labels(samples, labels) if asked_for else samples.labels
    if judge is None:
        judge = metric_of("agreement" if classes is None else "top1")
    # Before the table is made: a metric that cannot be had is told first.
    bench = open_bench(samples, prepared.model, classes, judge)
    if name is None:
        refuse_without_classes(bench)
    few = evenly_spaced(samples, RANKING_SAMPLES)
    few_bench = open_bench(few, prepared.model, None, metric_of("sqnr"))
    if table is None:
        table = calibrate(prepared, dataset, progress=_section(progress, "calibrate"))
    table.require_model(prepared.digest)
    samples.tell_skipped()
    work = _work(prepared, table, config, keep, judge, samples, classes)
    log = None if state is None else Path(state)
    variants = _variants(prepared, table, dataset, log, work, resume)
    before = len(variants.known)
    ranking = sensitivities(
        layers,
        config,
        lambda variant: variants.measurement(variant, few_bench).sqnr_db,
        keep=keep,
        progress=_section(progress, "rank layers"),
    )
    reference = bench.float_measurement.value
    limit = reference - max_drop if max_drop is not None else min_sqnr
    assert limit is not None

    def config_of(kept: Kept) -> QuantConfig:
        return keeping(config, [layer for layer in layers if layer.name in kept], keep)

    found = _search(
        ranking,
        lambda kept: variants.measurement(config_of(kept), bench).value,
        limit,
        _section(progress, "search"),
    )
    measurements = len(variants.known) - before
    shown = _shown(found, keep_costs(layers))
    models = [variants.model(config_of(kept)) for kept in shown]
    latencies = variants.latencies_ms([None, *models], few_bench)
    points: dict[Kept, Point] = {}
    for kept, made, latency in zip(shown, models, latencies[1:], strict=True):
        measured = variants.measurement(config_of(kept), bench)
        names = tuple(layer.name for layer in layers if layer.name in kept)
        share = int8_mac_percent(made)
        points[kept] = Point(names, measured.value, measured.sqnr_db, share, latency)
    counts = variants.measurement(config_of(found.kept), bench).counts
    return Tuning(
        metric=judge.name,
        unit=judge.unit,
        float_value=reference,
        limit=limit,
        is_met=found.is_met and not (keep == "float" and len(found.kept) == len(layers)),
        keep=keep,
        layers=layers,
        ranking=ranking,
        frontier=tuple(points.values()),
        chosen=points[found.kept],
        float_latency_ms=latencies[0],
        drop=None if counts is None else paired_drop(counts),
        config=config_of(found.kept),
        table=table,
        samples=bench.count,
        ranking_samples=few_bench.count,
        measurements=measurements,
        known_measurements=before,
    )


def _variants(
    prepared: Prepared,
    table: CalibrationTable,
    dataset: Dataset,
    log: Path | None,
    work: str,
    resume: bool,
) -> Variants:
    def quantize(config: QuantConfig) -> QuantizedModel:
        data = dataset if config.steps_with_data() else None
        return quantize_calibrated(prepared, table, config, data=data).model

    known = {}
    if log is not None:
        if resume and log.exists():
            known = read_log(log, work)
        else:
            begin_log(log, work)
    return Variants(prepared, quantize, known, log)


def _search(
    ranking: tuple[Sensitivity, ...],
    value: Callable[[Kept], float],
    limit: float,
    progress: Callable[[int, int], None],
) -> Search:
    order = order_of_keeping(ranking)
    # A beginning of the order is found in so many steps; then each layer is tried once, or more.
    total = 2 * len(order).bit_length() + len(order)
    asked = 0

    def counted(kept: Kept) -> float:
        nonlocal asked
        found = value(kept)
        asked = min(asked + 1, total - 1)
        progress(asked, total)
        return found

    found = smallest_set(order, keep_costs([each.layer for each in ranking]), counted, limit)
    progress(total, total)
    return found


def _shown(found: Search, cost: dict[str, float]) -> list[Kept]:
    """Some points of the frontier, the ends and what was chosen among them."""
    whole = frontier(found.tried, cost)
    if len(whole) <= _POINTS:
        return [*whole, *({found.kept} - {*whole})]
    last = len(whole) - 1
    indices = {round(index * last / (_POINTS - 1)) for index in range(_POINTS)}
    return [kept for index, kept in enumerate(whole) if index in indices or kept == found.kept]


def _work(
    prepared: Prepared,
    table: CalibrationTable,
    config: QuantConfig,
    keep: Keep,
    metric: Metric,
    samples: Dataset,
    labels: Labels | None,
) -> str:
    """Digest of all that decides the measurements; the limit does not."""
    return digest_of(
        tool_version(),
        onnxruntime_version(),
        prepared.digest,
        [table.data_digest, table.sample_count, table.exact],
        config.model_dump_json(),
        keep,
        [metric.name, metric.digest],
        samples.stamp,
        None if labels is None else hashlib.sha256(labels.tobytes()).hexdigest(),
    )


def _section(progress: SectionProgress | None, name: str) -> Callable[[int, int], None]:
    return lambda done, total: None if progress is None else progress(name, done, total)
