"""The public verbs: calibrate, quantize, export, verify, report."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from quantkit.calibration.collector import collect
from quantkit.calibration.dataset import Dataset, DataSource, open_dataset
from quantkit.calibration.labels import read_labels
from quantkit.calibration.preprocessing import Preprocessing
from quantkit.calibration.table import CalibrationTable, tool_version
from quantkit.config import QuantConfig
from quantkit.errors import ConfigError, ModelError
from quantkit.evaluation.verification import Verification
from quantkit.evaluation.verification import verify as verify_layers
from quantkit.exporters.contract import EXPORTERS
from quantkit.graph.ort_session import open_session, with_outputs
from quantkit.passes.prepare import Prepared, prepare
from quantkit.plan import make_plan, tensors_to_calibrate
from quantkit.quantized_model.model import QuantizedModel, quantize_model
from quantkit.quantized_model.qdq_reader import read_qdq
from quantkit.recovery.bias_correction import correct_biases
from quantkit.reporting.report import Progress as SectionProgress
from quantkit.reporting.report import Report, make_report

Progress = Callable[[int, int], None]
"""Called with the samples done and the samples in all."""


@dataclass(frozen=True, slots=True, eq=False)
class Quantization:
    """A quantized model and the calibration it rests on.

    Attributes:
        model: The quantized model.
        table: Its calibration table.
    """

    model: QuantizedModel
    table: CalibrationTable

    def save(self, path: str | Path, format: str = "qdq") -> None:
        """Write the model.

        Args:
            path: The file; written beside its place and renamed.
            format: A name of the exporter registry.

        Raises:
            UnknownNameError: No such format.
            ModelError: The file cannot be written.
        """
        EXPORTERS[format](self.model, Path(path))


def calibrate(
    model: str | Path | Prepared,
    data: DataSource | Dataset,
    *,
    preprocessing: Preprocessing | None = None,
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
    prepared = model if isinstance(model, Prepared) else prepare(model)
    dataset = (
        data
        if isinstance(data, Dataset)
        else open_dataset(
            data,
            prepared.program.inputs,
            preprocessing=preprocessing,
            num_samples=num_samples,
            strict=strict,
        )
    )
    tensors = tensors_to_calibrate(prepared)
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
    prepared = model if isinstance(model, Prepared) else prepare(model)
    quantized = quantize_model(prepared, make_plan(prepared, table, config), config)
    if config.bias_correction:
        quantized = correct_biases(quantized, table)
    return Quantization(replace(quantized, metadata=_metadata(table, config)), table)


def quantize(
    model: str | Path | Prepared,
    data: DataSource | Dataset,
    *,
    config: QuantConfig | None = None,
    preprocessing: Preprocessing | None = None,
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
    prepared = model if isinstance(model, Prepared) else prepare(model)
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
    preprocessing: Preprocessing | None = None,
    num_samples: int | None = None,
    arithmetic: str = "onnxruntime",
    strict_integer: bool = False,
    progress: Progress | None = None,
) -> Verification:
    """Compare the integer session with onnxruntime and the float reference, layer by layer.

    Args:
        path: A quantized ONNX file of any tool.
        data: Samples, as for ``calibrate``.
        preprocessing: How pictures become inputs; None: as stored in the model.
        num_samples: How many samples, evenly spaced; None: all.
        arithmetic: "onnxruntime" or "fixed_point".
        strict_integer: Run kernels that hold no float array.
        progress: Told how far the pass is.

    Raises:
        QuantkitError: Bad model or data; see ``errors``.
    """
    model = load_quantized(path)
    dataset = open_dataset(
        data,
        model.prepared.program.inputs,
        preprocessing=preprocessing or stored_preprocessing(model),
        num_samples=num_samples,
    )
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
    preprocessing: Preprocessing | None = None,
    num_samples: int | None = None,
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
        batch_size: Samples per run.
        with_integer_session: Also run every sample through the integer session.
        progress: Told how far each section is.

    Raises:
        QuantkitError: Bad model, data or labels; see ``errors``.
    """
    reference = prepare(float_model)
    model = load_quantized(quantized_model)
    dataset = open_dataset(
        data,
        reference.program.inputs,
        preprocessing=preprocessing or stored_preprocessing(model),
        num_samples=num_samples,
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


def stored_preprocessing(model: QuantizedModel) -> Preprocessing | None:
    """The preprocessing the model was calibrated with, as its metadata hold it.

    Raises:
        ModelError: The metadata are damaged.
    """
    try:
        fields = json.loads(model.metadata.get("preprocessing", "null"))
        return None if fields is None else Preprocessing.from_json(fields)
    except (ValueError, TypeError, ConfigError) as error:
        raise ModelError(
            f"the preprocessing stored in the model cannot be read ({error}); give --preset"
        ) from error


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
