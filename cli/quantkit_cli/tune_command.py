"""``quantkit tune``: which layers to keep out of the integers, so that accuracy stays."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated, Literal

import typer

from quantkit_cli import data_options, quantization_options
from quantkit_cli.console import Quiet, Verbose, sections
from quantkit_cli.outputs import check_output, files_of_model

DEFAULT_RECIPE = "fast"

logger = logging.getLogger("quantkit.tune")


@quantization_options.takes_choices
def tune(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A float ONNX model.")],
    data: data_options.DataArgument,
    max_drop: Annotated[
        float | None,
        typer.Option(
            "--max-drop",
            help="How far the metric may drop below the float model's: percentage points, or the "
            "units of module:function.",
        ),
    ] = None,
    min_sqnr: Annotated[
        float | None,
        typer.Option("--min-sqnr", help="Instead: the least SQNR of the outputs, in dB."),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            help="top1 (default with labels), agreement with the float model (default without), "
            "sqnr, or module:function: called with the outputs (arrays over all samples, by name) "
            "and the labels or None, it returns a number; greater is better.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            "-l",
            help="Of the samples measured on: a CSV with the header file,label; an .npy; or the "
            "folder of class folders.",
        ),
    ] = None,
    search_data: Annotated[
        Path | None,
        typer.Option("--search-data", metavar="DATA", help="Measure on these; default: DATA."),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", help="A calibration file; default: calibrate on DATA."),
    ] = None,
    keep: Annotated[
        str,
        typer.Option(
            "--keep",
            metavar="float|16bit",
            help="What becomes of the layers that are kept: float (default), or 16-bit "
            "activations, for other runtimes: onnxruntime computes these in floats, too.",
        ),
    ] = "float",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The recipe; default: MODEL.recipe.toml here."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Take the measurements in OUTPUT.tune.jsonl instead of making them again; the "
            "limit may be another.",
        ),
    ] = False,
    preset: data_options.Preset = None,
    mean: data_options.Mean = None,
    std: data_options.Std = None,
    resize: data_options.Resize = None,
    fit: data_options.Fit = None,
    crop: data_options.Crop = None,
    size: data_options.Size = None,
    layout: data_options.Layout = None,
    channel_order: data_options.ChannelOrder = None,
    num_samples: Annotated[
        int | None,
        typer.Option(
            "--num-samples",
            min=1,
            help="How many samples to calibrate and to measure on, evenly spaced; default: 128.",
        ),
    ] = None,
    strict: data_options.Strict = False,
    choices: quantization_options.Choices = quantization_options.NOTHING,
    as_json: data_options.AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Find which layers to keep out of the integers for accuracy.

    Ranks the layers of MODEL, then finds the cheapest set whose keeping meets the limit on these
    samples, and writes the recipe, which `quantkit quantize --recipe` takes. Exit code 1 where no
    set meets the limit.
    """
    from quantkit.calibration.table import CalibrationTable
    from quantkit.errors import AccuracyError, ConfigError
    from quantkit.pipeline import tune as run
    from quantkit.recipes import write_recipe
    from quantkit_cli.tune_output import limit_text, print_tuning, recipe_comments, tuning_facts

    if keep not in ("float", "16bit"):
        raise ConfigError(f"--keep: float or 16bit, got {keep!r}")
    kept: Literal["float", "16bit"] = "16bit" if keep == "16bit" else "float"
    preprocessing = data_options.chosen_preprocessing(
        preset, mean, std, resize, fit, crop, size, layout, channel_order
    )
    config = choices.config(DEFAULT_RECIPE)
    path = output or Path(f"{model.stem}.recipe.toml")
    state = path.with_name(f"{path.name}.tune.jsonl")
    inputs = (*files_of_model(model), data, search_data, labels, calibration)
    check_output(path, inputs=(*inputs, choices.recipe_file()))
    check_output(state, inputs=(*inputs, choices.recipe_file()))
    table = None if calibration is None else CalibrationTable.load(calibration)
    if state.exists() and not resume:
        logger.warning("measuring anew: --resume would take the measurements in %s", state)
    with sections() as advance:
        try:
            found = run(
                model,
                data,
                max_drop=max_drop,
                min_sqnr=min_sqnr,
                metric=metric,
                labels=labels,
                search_data=search_data,
                config=config,
                table=table,
                keep=kept,
                preprocessing=preprocessing,
                num_samples=num_samples,
                strict=strict,
                state=state,
                resume=resume,
                progress=advance,
            )
        except KeyboardInterrupt:
            if state.exists():
                logger.warning("what is measured is kept in %s: go on with --resume", state)
            raise
    write_recipe(found.config, path, recipe_comments(found, model))
    if as_json:
        print(json.dumps(tuning_facts(found, path, state), indent=2))
    else:
        print_tuning(found, model, path, state)
    if found.only_float_meets:
        raise AccuracyError(
            f"only the float network meets {limit_text(found)}: the recipe in {path} keeps every "
            "layer in floats"
        )
    if not found.is_met:
        raise AccuracyError(
            f"no set of layers found meets {limit_text(found)}; the best one misses it by "
            f"{found.limit - found.chosen.value:.4g}, its recipe is in {path}"
        )
