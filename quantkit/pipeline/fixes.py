"""The proposed remedies, applied and measured: what each gains in onnxruntime.

The network is quantized anew as its metadata say it was, once as it is (the control: other samples
may be all that was needed) and once per remedy, on samples that are not judged on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from quantkit.calibration.dataset import Dataset, DataSource
from quantkit.calibration.pictures import PictureSource
from quantkit.calibration.preprocessing import Preprocessing
from quantkit.calibration.table import CalibrationTable
from quantkit.config import QuantConfig
from quantkit.errors import ConfigError, QuantkitError
from quantkit.evaluation.file_boundaries import real_samples
from quantkit.evaluation.measurement import Bench, Measurement, measure, open_bench
from quantkit.evaluation.metric import metric_of
from quantkit.evaluation.samples import evenly_spaced, open_samples, stored_preprocessing
from quantkit.exporters.qdq import qdq_graph
from quantkit.graph.ort_session import Model
from quantkit.passes.prepare import Prepared
from quantkit.pipeline.calibration import calibrate, prepared_model
from quantkit.pipeline.quantization import quantize_calibrated, read_quantized
from quantkit.pipeline.remedies import distinct_remedies, stored_config, together, with_changes
from quantkit.quantized_model.model import QuantizedModel
from quantkit.reporting.report import Remedy, Report, TriedFix

Progress = Callable[[str, int, int], None]

CALIBRATION_SAMPLES = 128
JUDGED_SAMPLES = 128
# Fewer say little of a network, so that all samples had better be judged on.
_FEWEST_JUDGED = 16
# Less is chance: errors of weights and activations partly cancel.
_HELPED_DB = 0.1
_CALIBRATION_FILE = ".calib.npz"


def try_fixes(
    report: Report,
    float_model: str | Path | Prepared,
    quantized_model: str | Path | QuantizedModel,
    data: DataSource | Dataset,
    *,
    calibration: DataSource | Dataset | None = None,
    preprocessing: Preprocessing | str | None = None,
    num_samples: int | None = None,
    strict: bool = False,
    progress: Progress | None = None,
) -> tuple[TriedFix, ...]:
    """Apply the remedies of a report's worst causes and measure them.

    Args:
        report: Its causes are read.
        float_model: The float file, or the result of ``prepare``.
        quantized_model: The quantized file, or the model that was read from it.
        data: The report's samples: up to 128 of them calibrate, at most 128 of the others judge;
            all do both where fewer than 16 would be left.
        calibration: A ``.calib.npz`` of the float model, or other samples to calibrate on: then
            all of ``data`` may judge. None: see ``data``.
        preprocessing: Of ``data``; None: as stored in the quantized model.
        num_samples: How many of ``data``, evenly spaced; None: all.
        strict: Refuse unreadable pictures instead of skipping them.
        progress: Told how far each fix is.

    Returns:
        The control first, then the at most 4 best distinct remedies, then all that helped together
        where more than one did; empty where no cause has a remedy to apply.

    Raises:
        QuantkitError: Bad model or data; a remedy that fails says so in its row.
    """
    remedies = distinct_remedies(report)
    if not remedies:
        return ()
    prepared = prepared_model(float_model)
    model = (
        quantized_model
        if isinstance(quantized_model, QuantizedModel)
        else read_quantized(quantized_model)
    )
    opened = partial(
        open_samples,
        inputs=prepared.program.inputs,
        given=preprocessing,
        stored=stored_preprocessing(model),
        strict=strict,
    )
    dataset = real_samples(model, opened(data, num_samples=num_samples))
    table = None
    if isinstance(calibration, str | Path) and str(calibration).endswith(_CALIBRATION_FILE):
        table, calibration = CalibrationTable.load(calibration), None
    if calibration is None:
        calibrating, judging = split_samples(dataset)
    else:
        calibrating = opened(calibration, default_samples=CALIBRATION_SAMPLES)
        judging = evenly_spaced(dataset, JUDGED_SAMPLES)
    is_file = isinstance(quantized_model, str | Path) and not model.code_boundaries
    trial = _Trial(
        prepared,
        Path(quantized_model) if is_file else qdq_graph(model),  # type: ignore[arg-type]
        stored_config(model),
        calibrating,
        judging,
        table,
        progress,
        len(remedies) + 2,
    )
    return trial.rows(remedies)


def split_samples(dataset: Dataset) -> tuple[Dataset, Dataset]:
    """Evenly spaced samples to calibrate on, and others to judge on; the same if there are few."""
    count = min(CALIBRATION_SAMPLES, len(dataset) // 2)
    if len(dataset) - count < _FEWEST_JUDGED:
        return dataset, dataset
    chosen = [index * len(dataset) // count for index in range(count)]
    others = sorted({*range(len(dataset))} - {*chosen})
    return dataset.take(chosen), evenly_spaced(dataset.take(others), JUDGED_SAMPLES)


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """Samples as they are fed, and what the float and the quantized network make of them."""

    bench: Bench
    before: Measurement
    calibrating: Dataset
    table: CalibrationTable


@dataclass(frozen=True, slots=True, eq=False)
class _Trial:
    """What all fixes have in common.

    Attributes:
        prepared: The float network.
        before: The quantized one, as onnxruntime runs it.
        config: How it was quantized.
        calibrating: Samples to quantize on.
        judging: Samples to judge on.
        table: Given by the user; None: made of ``calibrating``.
        progress: Told how far each fix is.
        total: How many fixes there may be.
        known: Benches by changes of the preprocessing.
    """

    prepared: Prepared
    before: Model | Path
    config: QuantConfig
    calibrating: Dataset
    judging: Dataset
    table: CalibrationTable | None
    progress: Progress | None
    total: int
    known: dict[str, _Judged] = field(default_factory=dict)

    def rows(self, remedies: Sequence[tuple[str, Remedy]]) -> tuple[TriedFix, ...]:
        """The control, the remedies, and all that helped together."""
        are_same = self.judging.positions == self.calibrating.positions
        where = "on the same samples that judge" if are_same else "on other samples than judge"
        control, _ = self._row(0, "", Remedy(text=f"calibrated anew {where}, nothing changed"))
        rows = [control]
        helped: list[Remedy] = []
        for number, (cause, remedy) in enumerate(remedies, start=1):
            row, gain_db = self._row(number, cause, remedy, control)
            rows.append(row)
            if gain_db > _HELPED_DB and row is not control:
                helped.append(remedy)
        if len(helped) > 1:
            row, _ = self._row(len(remedies) + 1, "all that helped", together(helped), control)
            rows.append(row)
        self._told("fixes", self.total, self.total)
        return tuple(rows)

    def _row(
        self, number: int, cause: str, remedy: Remedy, control: TriedFix | None = None
    ) -> tuple[TriedFix, float]:
        """A row, and by how much it is better than the control."""
        self._told("fixes", number, self.total)
        if control is not None and self._is_control(remedy):
            return control.model_copy(update={"text": remedy.text, "cause": cause}), 0.0
        try:
            judged = self._judged(remedy)
            config = with_changes(self.config, [remedy.config])
            made = quantize_calibrated(
                self.prepared,
                judged.table,
                config,
                data=judged.calibrating,
                progress=self._inner(number),
            )
            after = measure(judged.bench, qdq_graph(made.model))
        except QuantkitError as error:
            failed = TriedFix(
                text=remedy.text,
                cause=cause,
                sqnr_db=None,
                agreement_percent=None,
                error=" ".join(str(error).split()),
            )
            return failed, 0.0
        before = judged.before
        has_classes = judged.bench.metric.name == "agreement"
        row = TriedFix(
            text=remedy.text,
            cause=cause,
            sqnr_db=(before.sqnr_db, after.sqnr_db),
            agreement_percent=(before.value, after.value) if has_classes else None,
        )
        reference = before.sqnr_db
        if control is not None and control.sqnr_db is not None and not remedy.preprocessing:
            reference = control.sqnr_db[1]
        return row, after.sqnr_db - reference

    def _is_control(self, remedy: Remedy) -> bool:
        return not remedy.config and not remedy.preprocessing and self.table is None

    def _judged(self, remedy: Remedy) -> _Judged:
        key = remedy.model_copy(update={"text": "", "config": {}}).model_dump_json()
        if key not in self.known:
            calibrating = _fed(self.calibrating, remedy)
            judging = _fed(self.judging, remedy)
            table = self.table
            if table is None or remedy.recalibrate:
                told = None if self.progress is None else partial(self.progress, "calibrate")
                table = calibrate(self.prepared, calibrating, progress=told)
            bench = _bench(judging, self.prepared)
            self.known[key] = _Judged(bench, measure(bench, self.before), calibrating, table)
        return self.known[key]

    def _told(self, section: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(section, done, total)

    def _inner(self, number: int) -> Progress | None:
        if self.progress is None:
            return None
        return lambda step, done, total: self._told(f"fix {number}: {step}", done, total)


def _bench(judging: Dataset, prepared: Prepared) -> Bench:
    try:
        return open_bench(judging, prepared.model, None, metric_of("agreement"))
    except ConfigError:  # no classes
        return open_bench(judging, prepared.model, None, metric_of("sqnr"))


def _fed(dataset: Dataset, remedy: Remedy) -> Dataset:
    """The samples with the remedy's preprocessing."""
    if not remedy.preprocessing:
        return dataset
    if not isinstance(dataset.source, PictureSource) or dataset.preprocessing is None:
        raise ConfigError("the data are arrays, which are fed as they are; change them")
    how = replace(dataset.preprocessing, **remedy.preprocessing)  # type: ignore[arg-type]
    return replace(dataset, preprocessing=how, source=replace(dataset.source, preprocessing=how))
