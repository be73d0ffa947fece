"""The public verbs: calibrate, quantize, export, verify, report."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from quantkit.calibration.collector import collect
from quantkit.calibration.dataset import Dataset, DataSource
from quantkit.calibration.labels import read_labels
from quantkit.calibration.preprocessing import Preprocessing
from quantkit.calibration.table import CalibrationTable, tool_version
from quantkit.config import QuantConfig
from quantkit.evaluation.samples import evenly_spaced, open_samples, stored_preprocessing
from quantkit.evaluation.verification import Verification
from quantkit.evaluation.verification import verify as verify_layers
from quantkit.exporters.contract import EXPORTERS
from quantkit.graph.ort_session import open_session, with_outputs
from quantkit.passes.prepare import Prepared, prepare
from quantkit.plan import candidate_refusals, make_plan, tensors_to_calibrate
from quantkit.quantized_model.model import QuantizedModel, quantize_model
from quantkit.quantized_model.qdq_reader import read_qdq
from quantkit.recovery.bias_correction import correct_biases
from quantkit.reporting.report import Progress as SectionProgress
from quantkit.reporting.report import Report, make_report

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the samples done and the samples in all."""

VERIFY_SAMPLES = 16  # every one has up to millions of codes


@dataclass(frozen=True, slots=True, eq=False)
class Quantization:
    """A quantized model and the calibration it rests on.

    Attributes:
        model: The quantized model.
        table: Its calibration table.
    """

    model: QuantizedModel
    table: CalibrationTable

    def __repr__(self) -> str:
        return f"Quantization(model={self.model!r}, table={self.table!r})"

    def save(self, path: str | Path, format: str = "qdq") -> None:
        """Write the model in a format of the exporter registry.

        Raises:
            UnknownNameError: No such format.
            ModelError: The file cannot be written.
        """
        EXPORTERS[format](self.model, Path(path))


def calibrate(
    model: str | Path | Prepared,
    data: DataSource | Dataset,
    *,
    preprocessing: Preprocessing | str | None = None,
    num_samples: int | None = None,
    batch_size: int = 1,
    threads: int = 2,
    strict: bool = False,
    progress: Progress | None = None,
) -> CalibrationTable:
    """Run the float model over the data once and collect what every tensor's range needs.

    Args:
        model: A float ONNX file, or the result of ``prepare``.
        data: A folder of pictures, an ``.npy``, an ``.npz``, arrays, or an iterable of dicts.
        preprocessing: How pictures become inputs; not needed for arrays.
        num_samples: How many samples, evenly spaced; None: all.
        batch_size: Samples per run; it does not change the result.
        threads: Batches in the works at a time; they do not change the result.
        strict: Refuse unreadable pictures instead of skipping them.
        progress: Told how far the pass is.

    Raises:
        QuantkitError: Bad model or data; see ``errors``.
    """
    prepared = _prepared(model)
    dataset = open_samples(
        data, prepared.program.inputs, preprocessing, num_samples=num_samples, strict=strict
    )
    tensors = tensors_to_calibrate(prepared)
    logger.info("calibrating %d tensors on %d samples", len(tensors), len(dataset))
    session = open_session(with_outputs(prepared.model, tensors), threads=1)
    return collect(
        session,
        tensors,
        dataset,
        model_digest=prepared.digest,
        model_name="" if isinstance(model, Prepared) else Path(model).name,
        batch_size=batch_size,
        threads=threads,
        progress=progress,
    )


def quantize_calibrated(
    model: str | Path | Prepared, table: CalibrationTable, config: QuantConfig | None = None
) -> Quantization:
    """Quantize with a calibration table at hand; no data are needed.

    Raises:
        TableMismatchError: The table was made for another model.
        QuantkitError: See ``errors``.
    """
    config = config or QuantConfig()
    prepared = _prepared(model)
    quantized = quantize_model(prepared, make_plan(prepared, table, config), config)
    if len(quantized.plan.kept_float) == len(prepared.program.nodes):
        logger.warning("nothing is quantized: every node stays float")
    if config.bias_correction:
        quantized = correct_biases(quantized, table)
    return Quantization(replace(quantized, metadata=_metadata(table, config)), table)


def quantize(
    model: str | Path | Prepared,
    data: DataSource | Dataset,
    *,
    config: QuantConfig | None = None,
    preprocessing: Preprocessing | str | None = None,
    num_samples: int | None = None,
    batch_size: int = 1,
    threads: int = 2,
    strict: bool = False,
    progress: Progress | None = None,
) -> Quantization:
    """Calibrate and quantize in one go; the arguments are those of both.

    Example:
        >>> import quantkit
        >>> from quantkit import bundled
        >>> digits = bundled.files()
        >>> result = quantkit.quantize(
        ...     digits / "digits_mobilenet.onnx", digits / "digits_calibration.npz"
        ... )
        >>> result.table.sample_count
        100
    """
    prepared = _prepared(model)
    candidate_refusals(prepared, config)  # wrong names are told before the data are read
    table = calibrate(
        prepared,
        data,
        preprocessing=preprocessing,
        num_samples=num_samples,
        batch_size=batch_size,
        threads=threads,
        strict=strict,
        progress=progress,
    )
    if not isinstance(model, Prepared):
        table = replace(table, model_name=Path(model).name)
    return quantize_calibrated(prepared, table, config)


def load_quantized(path: str | Path) -> QuantizedModel:
    """Read a quantized ONNX file of any tool.

    Raises:
        ModelError: The file cannot be read, or a Q/DQ node is malformed.
        UnsupportedModelError: The model is not quantized.
    """
    return read_qdq(path)


def export(model: QuantizedModel, path: str | Path, format: str = "qdq") -> None:
    """Write a quantized model in a format of the exporter registry.

    Raises:
        UnknownNameError: No such format.
        ModelError: The file cannot be written.
    """
    EXPORTERS[format](model, Path(path))


def verify(
    path: str | Path,
    data: DataSource,
    *,
    preprocessing: Preprocessing | str | None = None,
    num_samples: int | None = None,
    strict: bool = False,
    arithmetic: str = "onnxruntime",
    strict_integer: bool = False,
    progress: Progress | None = None,
) -> Verification:
    """Compare integer session, onnxruntime and float reference, layer by layer.

    Args:
        path: A quantized ONNX file of any tool.
        data: Samples, as for ``calibrate``.
        preprocessing: How pictures become inputs; None: as stored in the model.
        num_samples: As for ``calibrate``; None: at most 16.
        strict: As for ``calibrate``.
        arithmetic: "onnxruntime" or "fixed_point".
        strict_integer: Run kernels that hold no float array.
        progress: Told how far the pass is.

    Raises:
        QuantkitError: Bad model or data; see ``errors``.
    """
    model = load_quantized(path)
    inputs, stored = model.prepared.program.inputs, stored_preprocessing(model)
    dataset = open_samples(
        data, inputs, preprocessing, stored, num_samples=num_samples, strict=strict
    )
    if num_samples is None:
        dataset = evenly_spaced(dataset, VERIFY_SAMPLES)
    return verify_layers(
        Path(path),
        model,
        dataset,
        arithmetic=arithmetic,
        strict_integer=strict_integer,
        progress=progress,
    )


def report(
    float_model: str | Path,
    quantized_model: str | Path,
    data: DataSource,
    *,
    labels: str | Path | None = None,
    preprocessing: Preprocessing | str | None = None,
    num_samples: int | None = None,
    strict: bool = False,
    batch_size: int = 8,
    with_integer_session: bool = True,
    progress: SectionProgress | None = None,
) -> Report:
    """Measure what quantization cost: accuracy, layer errors, causes, size and latency.

    Args:
        float_model: The float ONNX file.
        quantized_model: The quantized ONNX file, of any tool.
        data: Samples, as for ``calibrate``.
        labels: A CSV ``file,label``, an ``.npy`` or class folders; None: those in the data, if any.
        preprocessing: How pictures become inputs; None: as stored in the quantized model.
        num_samples: How many samples, evenly spaced; None: all.
        strict: Refuse unreadable pictures instead of skipping them.
        batch_size: Samples per run.
        with_integer_session: Also run every sample through the integer session.
        progress: Told how far each section is.

    Raises:
        QuantkitError: Bad model, data or labels; see ``errors``.
    """
    reference = prepare(float_model)
    model = load_quantized(quantized_model)
    inputs, stored = reference.program.inputs, stored_preprocessing(model)
    dataset = open_samples(
        data, inputs, preprocessing, stored, num_samples=num_samples, strict=strict
    )
    classes = read_labels(dataset, labels) if labels is not None else dataset.labels
    return make_report(
        Path(float_model),
        Path(quantized_model),
        reference,
        model,
        dataset,
        classes,
        batch_size=batch_size,
        with_integer_session=with_integer_session,
        progress=progress,
    )


def _prepared(model: str | Path | Prepared) -> Prepared:
    if isinstance(model, Prepared):
        return model
    prepared = prepare(model)
    done = sum(note.applied for note in prepared.notes)
    for note in prepared.notes:
        logger.debug("%s: %s: %s", note.pass_name, note.node, note.message)
    logger.info("%s: %d nodes after %d edits", model, len(prepared.program.nodes), done)
    return prepared


def _metadata(table: CalibrationTable, config: QuantConfig) -> dict[str, str]:
    """What is stored in the exported model: enough to repeat it and to read pictures alike."""
    preprocessing = table.preprocessing
    return {
        "version": tool_version(),
        "model_digest": table.model_digest,
        "data_digest": table.data_digest,
        "sample_count": str(table.sample_count),
        "preprocessing": json.dumps(preprocessing.to_json() if preprocessing else None),
        "config": config.model_dump_json(),
    }
