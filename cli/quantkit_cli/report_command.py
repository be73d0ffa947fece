"""``quantkit report``: what quantization cost, in which layer, and why."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantkit_cli import data_options as options
from quantkit_cli import report_options
from quantkit_cli.console import Quiet, Verbose, sections
from quantkit_cli.outputs import files_of_model
from quantkit_cli.quantization_options import FoldBatchNorm

if TYPE_CHECKING:
    from quantkit.calibration.preprocessing import Preprocessing
    from quantkit.reporting.report import Report

logger = logging.getLogger("quantkit.report")


def report(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="[FLOAT] QUANTIZED",
            help="The float ONNX model, if there is one, and the quantized one, of any tool.",
        ),
    ],
    data: options.DataOption,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            "-l",
            help="A CSV with the header file,label; an .npy; or the folder of class folders.",
        ),
    ] = None,
    output: report_options.Outputs = None,
    max_drop: report_options.MaxDrop = None,
    min_sqnr: report_options.MinSqnr = None,
    min_agreement: report_options.MinAgreement = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            help="module:function: called with the outputs (arrays over all samples, by name) and "
            "the labels or None, it returns a number; greater is better.",
        ),
    ] = None,
    class_names: Annotated[
        Path | None,
        typer.Option(
            "--class-names",
            metavar="FILE",
            help="What classes are called: a name per line, or JSON.",
        ),
    ] = None,
    try_fixes: Annotated[
        bool,
        typer.Option(
            "--try-fixes", help="Also apply the best remedies and measure what they gain."
        ),
    ] = False,
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration",
            "-c",
            metavar="TABLE|DATA",
            help="For --try-fixes: what the model was calibrated with; default: half of --data.",
        ),
    ] = None,
    integer_session: Annotated[
        bool,
        typer.Option(
            "--integer-session/--no-integer-session",
            help="Also run every sample through the integer session.",
        ),
    ] = True,
    fold_batch_norm: FoldBatchNorm = False,
    preset: options.Preset = None,
    mean: options.Mean = None,
    std: options.Std = None,
    resize: options.Resize = None,
    fit: options.Fit = None,
    crop: options.Crop = None,
    size: options.Size = None,
    layout: options.Layout = None,
    channel_order: options.ChannelOrder = None,
    num_samples: options.NumSamples = None,
    batch_size: options.BatchSize = 8,
    strict: options.Strict = False,
    as_json: options.AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Measure what quantization cost: accuracy, layers, size, speed.

    Names the causes and the option to try against each. Without FLOAT the integer session is judged
    against onnxruntime. The preprocessing of pictures is the one stored in QUANTIZED unless given
    here. Exit code 1 where a limit (--max-drop, --min-sqnr, --min-agreement) is missed.
    """
    from quantkit.calibration.class_names import read_class_names
    from quantkit.errors import AccuracyError
    from quantkit.pipeline import report as run
    from quantkit.reporting.gate import Limits, misses
    from quantkit.reporting.report_files import write_report

    float_model, quantized_model = report_options.two_models(models)
    limits = Limits(max_drop, min_sqnr, min_agreement)
    files = tuple(output or ())
    models_read = [file for model in models for file in files_of_model(model)]
    report_options.check_outputs(files, (*models_read, data, labels, class_names, calibration))
    report_options.check_limits(
        limits,
        float_model,
        data=data,
        labels=labels,
        metric=metric,
        integer_session=integer_session,
    )
    report_options.check_fixes(try_fixes, float_model, calibration)
    preprocessing = options.chosen_preprocessing(
        preset, mean, std, resize, fit, crop, size, layout, channel_order
    )
    names = () if class_names is None else read_class_names(class_names)
    with sections() as advance:
        found = run(
            float_model,
            quantized_model,
            data,
            labels=labels,
            metric=metric,
            class_names=names,
            preprocessing=preprocessing,
            num_samples=num_samples,
            strict=strict,
            batch_size=batch_size,
            with_integer_session=integer_session,
            fold_batch_norm=fold_batch_norm,
            command=report_options.command_line(),
            progress=advance,
        )
    for path in files:
        write_report(found, path, limits)
    if try_fixes and float_model is not None:
        with sections() as advance:
            found = _with_fixes(
                found,
                float_model,
                quantized_model,
                data,
                calibration=calibration,
                preprocessing=preprocessing,
                num_samples=num_samples,
                strict=strict,
                progress=advance,
            )
        for path in files:
            write_report(found, path, limits)
    if as_json:
        print(found.model_dump_json(indent=2))
    else:
        _print(found, files)
    missed = misses(found, limits)
    if missed:
        raise AccuracyError("; ".join(missed))


def _with_fixes(
    found: Report,
    float_model: Path,
    quantized_model: Path,
    data: Path,
    *,
    calibration: Path | None,
    preprocessing: Preprocessing | None,
    num_samples: int | None,
    strict: bool,
    progress: Callable[[str, int, int], None],
) -> Report:
    """The report with what its remedies bring; as it is where none can be tried."""
    from quantkit.errors import QuantkitError
    from quantkit.pipeline.fixes import try_fixes

    try:
        tried = try_fixes(
            found,
            float_model,
            quantized_model,
            data,
            calibration=calibration,
            preprocessing=preprocessing,
            num_samples=num_samples,
            strict=strict,
            progress=progress,
        )
    except QuantkitError as error:
        logger.warning("no fix was tried: %s", error)
        return found
    if not tried:
        logger.warning("no fix was tried: no cause has a remedy that can be applied")
    return found.model_copy(update={"fixes": tried})


def _print(found: Report, files: tuple[Path, ...]) -> None:
    from quantkit.reporting.numbers import size
    from quantkit.reporting.render_terminal import print_report

    print_report(found)
    if files:
        print()
    for path in files:
        print(f"wrote {path}: {size(path.stat().st_size)}")
