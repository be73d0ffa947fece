"""``quantkit export``: integers as a file, from a calibration file or from a quantized model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from quantkit_cli import quantization_options as options
from quantkit_cli.console import Quiet, Verbose
from quantkit_cli.data_options import AsJson
from quantkit_cli.outputs import check_output, files_of_model


def export(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="A float model (with --calibration) or a quantized one."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", "-c", help="The float model's *.calib.npz file."),
    ] = None,
    recipe: options.Recipe = None,
    method: options.Method = None,
    percentile: options.Percentile = None,
    per_channel: options.PerChannel = None,
    reduce_range: options.ReduceRange = None,
    bias_correction: options.BiasCorrection = None,
    nodes_to_exclude: options.NodesToExclude = None,
    op_types_to_quantize: options.OpTypesToQuantize = None,
    format: options.Format = "qdq",
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Write an integer model from a calibration file.

    Without --calibration, MODEL is quantized already and is converted to --format as it is.
    """
    from quantkit.calibration.table import CalibrationTable
    from quantkit.config import QuantConfig
    from quantkit.errors import ConfigError
    from quantkit.exporters.contract import EXPORTERS
    from quantkit.pipeline import load_quantized, quantize_calibrated

    write = EXPORTERS[format]
    config = options.chosen_config(
        recipe,
        method,
        per_channel,
        reduce_range,
        bias_correction,
        nodes_to_exclude,
        op_types_to_quantize,
        percentile,
    )
    check_output(output, inputs=(*files_of_model(model), calibration, recipe))
    if calibration is not None:
        table = CalibrationTable.load(calibration)
        quantized = quantize_calibrated(model, table, config).model
    else:
        # Before the model is read: a forgotten --calibration is the likelier mistake.
        if config != QuantConfig():
            raise ConfigError(
                "without --calibration a quantized MODEL is converted as it is: options that "
                "choose how to quantize have no effect; give --calibration, or leave them out"
            )
        quantized = load_quantized(model)
    write(quantized, output)
    facts = options.summary(quantized, model, output)
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        options.print_summary(facts)
