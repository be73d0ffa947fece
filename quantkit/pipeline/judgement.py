"""What a quantized model computes, and what it cost."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from quantkit.calibration.collector import Progress
from quantkit.calibration.dataset import DataSource
from quantkit.calibration.labels import read_labels
from quantkit.calibration.preprocessing import Preprocessing
from quantkit.errors import QuantkitError, UnsupportedModelError
from quantkit.evaluation.file_boundaries import real_samples
from quantkit.evaluation.hardware import hardware_verdicts
from quantkit.evaluation.integer_share import planned_mac_percent
from quantkit.evaluation.metric import users_metric
from quantkit.evaluation.samples import open_samples, stored_preprocessing
from quantkit.evaluation.side_by_side import verify as verify_layers
from quantkit.evaluation.verification import Verification
from quantkit.passes.prepare import Prepared, prepare
from quantkit.pipeline.quantization import read_quantized
from quantkit.quantized_model.qdq_reader import read_qdq
from quantkit.reporting.make_report import Progress as SectionProgress
from quantkit.reporting.make_report import make_report
from quantkit.reporting.report import Report
from quantkit.reporting.subject import Subject

VERIFY_SAMPLES = 16  # every one has up to millions of codes


def verify(
    path: str | Path,
    data: DataSource,
    *,
    preprocessing: Preprocessing | str | None = None,
    num_samples: int | None = None,
    strict: bool = False,
    arithmetic: str = "onnxruntime",
    strict_integer: bool = False,
    fold_batch_norm: bool = False,
    hardware: bool = False,
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
        fold_batch_norm: Fold BatchNormalization behind a quantized convolution into its weight
            scales; onnxruntime computes such layers in floats, so they are shown, not judged.
        hardware: Also find out what every node asks of the hardware, in a second pass.
        progress: Told how far the pass is.

    Raises:
        QuantkitError: Bad model or data; see ``errors``.
    """
    model = read_quantized(path, fold_batch_norm=fold_batch_norm)
    inputs, stored = model.prepared.program.inputs, stored_preprocessing(model)
    dataset = open_samples(
        data,
        inputs,
        preprocessing,
        stored,
        num_samples=num_samples,
        default_samples=VERIFY_SAMPLES,
        strict=strict,
    )
    dataset = real_samples(model, dataset)
    passes = 2 if hardware else 1
    found = verify_layers(
        Path(path),
        model,
        dataset,
        arithmetic=arithmetic,
        strict_integer=strict_integer,
        progress=_pass_of(progress, 1, passes),
    )
    found = replace(
        found,
        integer_mac_percent=planned_mac_percent(model),
        is_made_by_quantkit="version" in model.metadata,
    )
    if hardware:
        verdicts = hardware_verdicts(model, dataset, progress=_pass_of(progress, 2, passes))
        found = replace(found, hardware=verdicts)
    dataset.tell_skipped()
    return found


def _pass_of(progress: Progress | None, number: int, passes: int) -> Progress | None:
    """Progress of one of several passes; a sample is done when it is done in all of them."""
    if progress is None or passes == 1:
        return progress
    return lambda done, total: progress(((number - 1) * total + done) // passes, total)


def report(
    float_model: str | Path | None,
    quantized_model: str | Path,
    data: DataSource,
    *,
    labels: str | Path | None = None,
    metric: str | None = None,
    class_names: Sequence[str] = (),
    preprocessing: Preprocessing | str | None = None,
    num_samples: int | None = None,
    strict: bool = False,
    batch_size: int = 8,
    with_integer_session: bool = True,
    fold_batch_norm: bool = False,
    command: str = "",
    progress: SectionProgress | None = None,
) -> Report:
    """Measure what quantization cost: accuracy, layer errors, causes, size and latency.

    Args:
        float_model: The float ONNX file; None: there is none, and the integer session is judged
            against onnxruntime, the layers against the network of the dequantized weights.
        quantized_model: The quantized ONNX file, of any tool.
        data: Samples, as for ``calibrate``.
        labels: A CSV ``file,label``, an ``.npy`` or class folders; None: those in the data, if any.
        metric: A function of yours that judges the outputs, ``module:function``; see ``tune``.
        class_names: By class number, for people.
        preprocessing: How pictures become inputs; None: as stored in the quantized model.
        num_samples: How many samples, evenly spaced; None: all.
        strict: Refuse unreadable pictures instead of skipping them.
        batch_size: Samples per run.
        with_integer_session: Also run every sample through the integer session.
        fold_batch_norm: As for ``verify``; onnxruntime runs the file as it is.
        command: The command line that asked for it, to be told.
        progress: Told how far each section is.

    Raises:
        QuantkitError: Bad model, data, labels or metric; see ``errors``.
    """
    judged_by = None if metric is None else users_metric(metric)
    reference = None if float_model is None else _prepared_float(float_model)
    model = read_quantized(quantized_model, fold_batch_norm=fold_batch_norm)
    inputs = (model.prepared if reference is None else reference).program.inputs
    stored = stored_preprocessing(model)
    dataset = open_samples(
        data, inputs, preprocessing, stored, num_samples=num_samples, strict=strict
    )
    dataset = real_samples(model, dataset)
    classes = read_labels(dataset, labels) if labels is not None else dataset.labels
    path = None if float_model is None else Path(float_model)
    made = make_report(
        Subject(path, Path(quantized_model), reference, model),
        dataset,
        classes,
        metric=judged_by,
        class_names=class_names,
        batch_size=batch_size,
        with_integer_session=with_integer_session,
        command=command,
        progress=progress,
    )
    dataset.tell_skipped()
    return made


def _prepared_float(path: str | Path) -> Prepared:
    try:
        return prepare(path)
    except UnsupportedModelError as error:
        try:
            read_qdq(path)
        except QuantkitError:
            raise error from None
        raise UnsupportedModelError(f"{error}; are the two models swapped?") from error
