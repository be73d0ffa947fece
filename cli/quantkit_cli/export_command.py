"""``quantkit export``: integers as a file, from a calibration file or from a quantized model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantkit_cli import data_options
from quantkit_cli import quantization_options as options
from quantkit_cli.console import Quiet, Verbose, sections
from quantkit_cli.outputs import check_export, files_of_model
from quantkit_cli.quantization_summary import print_summary, summary

if TYPE_CHECKING:
    from quantkit.config import QuantConfig

DEFAULT_RECIPE = "fast"


@options.takes_choices
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
    choices: options.Choices = options.NOTHING,
    fold_batch_norm: options.FoldBatchNorm = False,
    format: options.Format = "qdq",
    data: data_options.OptionalData = None,
    num_samples: Annotated[
        int | None,
        typer.Option(
            "--num-samples",
            min=1,
            help="How many samples; default: 1 for vectors, all for a recipe.",
        ),
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
    calibration; without --data, pseudo-random codes. With --recipe balanced or accurate, --data is
    the calibration data, which steps of the recipe run the model on.
    """
    from quantkit.calibration.table import CalibrationTable
    from quantkit.errors import ConfigError, UnsupportedModelError
    from quantkit.exporters.contract import SAMPLE_FORMATS
    from quantkit.pipeline import export as write
    from quantkit.pipeline import load_quantized, quantize_calibrated

    preprocessing = data_options.chosen_preprocessing(
        preset, mean, std, resize, fit, crop, size, layout, channel_order
    )
    config = choices.config(DEFAULT_RECIPE)
    inputs = (*files_of_model(model), calibration, choices.recipe_file())
    check_export(output, format, inputs=inputs)
    samples: dict[str, Any] = {
        "data": data,
        "preprocessing": preprocessing,
        "num_samples": num_samples,
        "strict": strict,
    }
    has_steps = False
    if calibration is not None:
        if fold_batch_norm:
            raise ConfigError(
                "--fold-batch-norm is for a MODEL that is quantized already; of a float model "
                "every BatchNormalization is folded anyway: leave it out"
            )
        has_steps = _needs_data(config, data, format)
        table = CalibrationTable.load(calibration)
        if has_steps:
            with sections() as advance:
                given = {**samples, "progress": advance}
                quantized = quantize_calibrated(model, table, config, **given).model
        else:
            quantized = quantize_calibrated(model, table, config).model
    else:
        # Before the model is read: a forgotten --calibration is the likelier mistake.
        if choices.given():
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
    is_for_steps = has_steps and format not in SAMPLE_FORMATS
    write(quantized, output, format, **({} if is_for_steps else samples))
    base = choices.base(DEFAULT_RECIPE)
    facts = summary(quantized, model, output, None if calibration is None else config, base)
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        print_summary(facts)


def _needs_data(config: QuantConfig, data: Path | None, format: str) -> bool:
    """Whether steps of the recipe run the model on data, which then are given.

    Raises:
        ConfigError: They are not given; or they are, and nothing reads them.
    """
    from quantkit.errors import ConfigError
    from quantkit.exporters.contract import SAMPLE_FORMATS
    from quantkit.recipes import recipe_name

    steps = config.steps_with_data()
    if steps and data is None:
        switches = " ".join(f"--no-{step.replace('_', '-')}" for step in steps)
        raise ConfigError(
            f"the recipe {recipe_name(config)} runs the model on data, and none are given: give "
            f"--data (the calibration data), or leave these steps out: {switches}"
        )
    if data is not None and not steps and format not in SAMPLE_FORMATS:
        raise ConfigError(
            f"nothing reads --data: the recipe {recipe_name(config)} needs the calibration file "
            f"alone, and {format} holds no samples; leave it out, or choose --recipe balanced"
        )
    return bool(steps)
