"""``quantkit export``: integers as a file, from a calibration file or from a quantized model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from quantkit_cli import data_options
from quantkit_cli import quantization_options as options
from quantkit_cli.console import Quiet, Verbose
from quantkit_cli.outputs import check_export, files_of_model


def export(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="A float model (with --calibration) or a quantized one."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write, or (vectors) a new folder.")
    ],
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", "-c", help="The float model's *.calib.npz file."),
    ] = None,
    recipe: options.Recipe = None,
    method: options.Method = None,
    percentile: options.Percentile = None,
    per_channel: options.PerChannel = None,
    reduce_range: options.ReduceRange = None,
    reduce_range_node: options.ReduceRangeNode = None,
    bias_correction: options.BiasCorrection = None,
    nodes_to_exclude: options.NodesToExclude = None,
    op_types_to_quantize: options.OpTypesToQuantize = None,
    fold_batch_norm: options.FoldBatchNorm = False,
    format: options.Format = "qdq",
    data: data_options.OptionalData = None,
    num_samples: Annotated[
        int | None,
        typer.Option("--num-samples", min=1, help="For vectors: how many samples; default: 1."),
    ] = None,
    preset: data_options.Preset = None,
    mean: data_options.Mean = None,
    std: data_options.Std = None,
    resize: data_options.Resize = None,
    fit: data_options.Fit = None,
    crop: data_options.Crop = None,
    size: data_options.Size = None,
    layout: data_options.Layout = None,
    channel_order: data_options.ChannelOrder = None,
    strict: data_options.Strict = False,
    as_json: data_options.AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Write an integer model from a calibration file.

    Without --calibration, MODEL is quantized already and is converted to --format as it is.
    With --format vectors, layers get the codes that the samples of --data make, prepared as for
    calibration; without --data, pseudo-random codes.
    """
    from quantkit.calibration.table import CalibrationTable
    from quantkit.config import QuantConfig
    from quantkit.errors import ConfigError, UnsupportedModelError
    from quantkit.pipeline import export as write
    from quantkit.pipeline import load_quantized, quantize_calibrated

    preprocessing = data_options.chosen_preprocessing(
        preset, mean, std, resize, fit, crop, size, layout, channel_order
    )
    config = options.chosen_config(
        recipe,
        method,
        per_channel,
        reduce_range,
        bias_correction,
        nodes_to_exclude,
        op_types_to_quantize,
        percentile,
        reduce_range_node,
    )
    check_export(output, format, inputs=(*files_of_model(model), calibration, recipe))
    if calibration is not None:
        if fold_batch_norm:
            raise ConfigError(
                "--fold-batch-norm is for a MODEL that is quantized already; of a float model "
                "every BatchNormalization is folded anyway: leave it out"
            )
        table = CalibrationTable.load(calibration)
        quantized = quantize_calibrated(model, table, config).model
    else:
        # Before the model is read: a forgotten --calibration is the likelier mistake.
        if config != QuantConfig():
            raise ConfigError(
                "without --calibration a quantized MODEL is converted as it is: options that "
                "choose how to quantize have no effect; give --calibration, or leave them out"
            )
        try:
            quantized = load_quantized(model, fold_batch_norm=fold_batch_norm)
        except UnsupportedModelError as error:
            raise UnsupportedModelError(
                f"{error}; to export a float model, give its --calibration"
            ) from error
    write(
        quantized,
        output,
        format,
        data=data,
        preprocessing=preprocessing,
        num_samples=num_samples,
        strict=strict,
    )
    facts = options.summary(quantized, model, output)
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        options.print_summary(facts)
