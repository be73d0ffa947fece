"""From a float model and a calibration table to a quantized model, and to its file."""

import json
import logging
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from quantkit.calibration.dataset import Dataset, DataSource
from quantkit.calibration.kept_samples import with_kept_samples
from quantkit.calibration.preprocessing import Preprocessing
from quantkit.calibration.table import CalibrationTable, tool_version
from quantkit.config import QuantConfig
from quantkit.errors import ConfigError, ModelError
from quantkit.evaluation.file_boundaries import real_samples
from quantkit.evaluation.layer_codes import record_samples
from quantkit.evaluation.samples import open_samples, stored_preprocessing
from quantkit.exporters.contract import EXPORTERS, SAMPLE_FORMATS, Samples
from quantkit.graph.model_io import load_model
from quantkit.passes.prepare import Prepared
from quantkit.pipeline.calibration import as_model_says, calibrate, prepared_model
from quantkit.plan import candidate_refusals
from quantkit.quantized_model.model import QuantizedModel
from quantkit.quantized_model.qdq_reader import read_qdq
from quantkit.recipes import BALANCED
from quantkit.recovery.recover import StepProgress, quantize_with_recovery

logger = logging.getLogger(__name__)


# Means and second moments of fewer samples say little of the samples to come.
_FEW_SAMPLES = 32


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
        export(self.model, path, format)


def quantize_calibrated(
    model: str | Path | Prepared,
    table: CalibrationTable,
    config: QuantConfig | None = None,
    *,
    data: DataSource | Dataset | None = None,
    preprocessing: Preprocessing | str | None = None,
    num_samples: int | None = None,
    strict: bool = False,
    progress: StepProgress | None = None,
) -> Quantization:
    """Quantize with a calibration table at hand.

    Args:
        model: A float ONNX file, or the result of ``prepare``.
        table: Its calibration table.
        config: The user's choices; None: recipe ``fast``, which needs no data.
        data: The calibration samples, for the steps that run the model on them.
        preprocessing: How pictures become inputs; None: as stored in ``table``.
        num_samples: How many samples, evenly spaced; None: as many as the table was made from.
        strict: Refuse unreadable pictures instead of skipping them.
        progress: Told how far each step is.

    Raises:
        TableMismatchError: The table was made for another model.
        ConfigError: A step needs data, and none are given.
        QuantkitError: See ``errors``.
    """
    config = config or QuantConfig()
    prepared = prepared_model(model)
    steps = config.steps_with_data()
    if steps and data is None:
        raise ConfigError(
            f"{', '.join(steps)}: runs the model on the calibration data, and none are given; "
            "give data, or switch it off"
        )
    table.require_model(prepared.digest)
    dataset = None
    if data is not None and steps:
        dataset = open_samples(
            data,
            prepared.program.inputs,
            as_model_says(preprocessing, prepared),
            table.preprocessing,
            num_samples=num_samples,
            default_samples=table.sample_count,
            strict=strict,
        )
        dataset = with_kept_samples(dataset)
        if len(dataset) < _FEW_SAMPLES:
            logger.warning(
                "%d samples are few for steps that fit the network to them (%s): give %d or more, "
                "or use recipe fast",
                len(dataset),
                ", ".join(step.replace("_", " ") for step in steps),
                _FEW_SAMPLES,
            )
    quantized = quantize_with_recovery(prepared, table, config, dataset, progress)
    if len(quantized.plan.kept_float) == len(prepared.program.nodes):
        logger.warning("nothing is quantized: every node stays float")
    metadata = {**quantized.metadata, **_metadata(table, config)}
    return Quantization(replace(quantized, metadata=metadata), table)


def quantize(
    model: str | Path | Prepared,
    data: DataSource | Dataset,
    *,
    config: QuantConfig | None = None,
    preprocessing: Preprocessing | str | None = None,
    num_samples: int | None = None,
    batch_size: int = 1,
    threads: int = 2,
    exact: bool = False,
    strict: bool = False,
    progress: StepProgress | None = None,
) -> Quantization:
    """Calibrate and quantize in one go; the arguments are those of both.

    Args:
        model: As for ``calibrate``.
        data: As for ``calibrate``; recipes read it several times.
        config: The user's choices; None: recipe ``balanced``.
        preprocessing: As for ``calibrate``.
        num_samples: As for ``calibrate``.
        batch_size: As for ``calibrate``.
        threads: As for ``calibrate``.
        exact: As for ``calibrate``.
        strict: As for ``calibrate``.
        progress: Told how far each step is; calibration is the first.

    Raises:
        QuantkitError: See ``errors``.

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
    config = config or BALANCED
    prepared = prepared_model(model)
    candidate_refusals(prepared, config)  # wrong names are told before the data are read
    dataset = open_samples(
        data,
        prepared.program.inputs,
        as_model_says(preprocessing, prepared),
        num_samples=num_samples,
        strict=strict,
    )
    if config.steps_with_data():
        dataset = with_kept_samples(dataset)
    table = calibrate(
        prepared,
        dataset,
        batch_size=batch_size,
        threads=threads,
        exact=exact,
        strict=strict,
        progress=None if progress is None else partial(progress, "calibrate"),
    )
    if not isinstance(model, Prepared):
        table = replace(table, model_name=Path(model).name)
    return quantize_calibrated(prepared, table, config, data=dataset, progress=progress)


def load_quantized(path: str | Path, *, fold_batch_norm: bool = False) -> QuantizedModel:
    """Read a quantized ONNX file of any tool.

    Args:
        path: The file.
        fold_batch_norm: Fold BatchNormalization behind a quantized convolution into its weight
            scales; onnxruntime computes such layers in floats.

    Raises:
        ModelError: The file cannot be read, or a Q/DQ node is malformed.
        UnsupportedModelError: The model is not quantized.
    """
    model = read_quantized(path, fold_batch_norm=fold_batch_norm)
    kept_float = model.plan.kept_float
    if len(kept_float) == len(model.prepared.program.nodes):
        name, reason = next(iter(kept_float.items()), ("the graph", "it has no node"))
        logger.warning("%s has no integer node; the first, %r, stays float: %s", path, name, reason)
    return model


def read_quantized(path: str | Path, *, fold_batch_norm: bool = False) -> QuantizedModel:
    """``read_qdq``, with the file in every message, and a warning where nothing can be folded.

    Raises:
        ModelError: As ``read_qdq``.
    """
    try:
        model = read_qdq(path, fold_batch_norm=fold_batch_norm)
    except ModelError as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{str(path)!r}: {error}") from error
    if fold_batch_norm and all(
        node.op_type != "BatchNormalization" for node in load_model(path).graph
    ):
        logger.warning("%s has no BatchNormalization to fold", path)
    return model


def export(
    model: QuantizedModel,
    path: str | Path,
    format: str = "qdq",
    *,
    data: DataSource | None = None,
    preprocessing: Preprocessing | str | None = None,
    num_samples: int | None = None,
    strict: bool = False,
) -> None:
    """Write a quantized model in a format of the exporter registry.

    The arguments after ``format`` choose the samples whose codes a format holds ("vectors").

    Args:
        model: The quantized model.
        path: The file, or (vectors) the new folder.
        format: A name of the registry.
        data: Samples, as for ``calibrate``; None: pseudo-random input codes.
        preprocessing: How pictures become inputs; None: as stored in the model.
        num_samples: How many samples, evenly spaced; None: one.
        strict: Refuse unreadable pictures instead of skipping them.

    Raises:
        UnknownNameError: No such format.
        ConfigError: Samples are given to a format that holds none.
        ModelError: The file cannot be written.
        CalibrationError: The data cannot be used.
    """
    write = EXPORTERS[format]
    samples: Samples | None = None
    if format in SAMPLE_FORMATS:
        if data is None and preprocessing is not None:
            raise ConfigError("preprocessing is for data, and none are given")
        count = 1 if num_samples is None else num_samples
        dataset = None
        if data is not None:
            inputs, stored = model.prepared.program.inputs, stored_preprocessing(model)
            dataset = open_samples(
                data, inputs, preprocessing, stored, num_samples=count, strict=strict
            )
            dataset = real_samples(model, dataset)
        samples = record_samples(model, dataset, count)
    elif data is not None or num_samples is not None or preprocessing is not None:
        raise ConfigError(
            f"the format {format!r} holds no samples: data, their number and their preprocessing "
            f"are for {', '.join(sorted(SAMPLE_FORMATS))}; leave them out"
        )
    write(model, Path(path), samples)


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
