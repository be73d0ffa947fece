"""``quantkit quantize``: from a float model and data to an integer model in one go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from quantkit_cli import data_options, quantization_options
from quantkit_cli.console import Quiet, Verbose, sections
from quantkit_cli.outputs import check_export, check_output, files_of_model
from quantkit_cli.quantization_summary import print_summary, summary

DEFAULT_RECIPE = "balanced"


@quantization_options.takes_choices
def quantize(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A float ONNX model.")],
    data: data_options.DataArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The file; default: MODEL.int8.onnx here; vectors: MODEL.vectors.",
        ),
    ] = None,
    save_calibration: Annotated[
        Path | None, typer.Option("--save-calibration", help="Keep the calibration file as well.")
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
    num_samples: data_options.NumSamples = None,
    batch_size: data_options.BatchSize = 1,
    strict: data_options.Strict = False,
    choices: quantization_options.Choices = quantization_options.NOTHING,
    format: quantization_options.Format = "qdq",
    as_json: data_options.AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Calibrate MODEL on DATA and write it in integers, in one go.

    Without --recipe it is balanced.
    """
    from quantkit.errors import ConfigError
    from quantkit.exporters.contract import SAMPLE_FORMATS
    from quantkit.pipeline import export
    from quantkit.pipeline import quantize as run

    preprocessing = data_options.chosen_preprocessing(
        preset, mean, std, resize, fit, crop, size, layout, channel_order
    )
    config = choices.config(DEFAULT_RECIPE)
    has_samples = format in SAMPLE_FORMATS
    path = output or Path(f"{model.stem}.{format if has_samples else 'int8.onnx'}")
    inputs = (*files_of_model(model), data, choices.recipe_file())
    check_export(path, format, inputs=inputs)
    if save_calibration is not None:
        check_output(save_calibration, inputs=inputs, option="--save-calibration")
        if save_calibration.resolve() == path.resolve():
            raise ConfigError(f"--output and --save-calibration are both {str(path)!r}")
    with sections() as advance:
        result = run(
            model,
            data,
            config=config,
            preprocessing=preprocessing,
            num_samples=num_samples,
            batch_size=batch_size,
            strict=strict,
            progress=advance,
        )
    samples: dict[str, Any] = {"data": data, "preprocessing": preprocessing, "strict": strict}
    export(result.model, path, format, **(samples if has_samples else {}))
    if save_calibration is not None:
        result.table.save(save_calibration)
    facts = summary(result.model, model, path, config, choices.base(DEFAULT_RECIPE))
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        print_summary(facts)
