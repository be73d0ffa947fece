"""``quantkit quantize``: from a float model and data to an integer model in one go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from quantkit_cli import data_options, quantization_options
from quantkit_cli.console import Quiet, Verbose, progress


def quantize(
    model: Annotated[Path, typer.Argument(help="A float ONNX model.")],
    data: Annotated[Path, typer.Argument(help="A folder of pictures, an .npz or an .npy.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: MODEL.int8.onnx here.")
    ] = None,
    save_calibration: Annotated[
        Path | None, typer.Option("--save-calibration", help="Keep the calibration file as well.")
    ] = None,
    preset: data_options.Preset = None,
    mean: data_options.Mean = None,
    std: data_options.Std = None,
    crop: data_options.Crop = None,
    size: data_options.Size = None,
    layout: data_options.Layout = None,
    channel_order: data_options.ChannelOrder = None,
    num_samples: data_options.NumSamples = None,
    batch_size: data_options.BatchSize = 1,
    strict: data_options.Strict = False,
    recipe: quantization_options.Recipe = None,
    method: quantization_options.Method = None,
    per_channel: quantization_options.PerChannel = None,
    reduce_range: quantization_options.ReduceRange = None,
    bias_correction: quantization_options.BiasCorrection = None,
    nodes_to_exclude: quantization_options.NodesToExclude = None,
    op_types_to_quantize: quantization_options.OpTypesToQuantize = None,
    format: quantization_options.Format = "qdq",
    as_json: data_options.AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Calibrate MODEL on DATA, quantize it and write it: `calibrate` and `export` in one."""
    from quantkit.errors import ConfigError
    from quantkit.exporters.contract import EXPORTERS
    from quantkit.passes.prepare import prepare
    from quantkit.pipeline import quantize as run
    from quantkit.plan import candidate_refusals

    write = EXPORTERS[format]
    preprocessing = data_options.chosen_preprocessing(
        preset, mean, std, crop, size, layout, channel_order
    )
    config = quantization_options.chosen_config(
        recipe,
        method,
        per_channel,
        reduce_range,
        bias_correction,
        nodes_to_exclude,
        op_types_to_quantize,
    )
    path = output or Path(f"{model.stem}.int8.onnx")
    if path.resolve() == model.resolve():
        raise ConfigError(f"--output {str(path)!r} is the model itself; give another name")
    prepared = prepare(model)
    # Names that match nothing are told before the data are read.
    candidate_refusals(prepared, config)
    with progress("calibrate") as advance:
        result = run(
            prepared,
            data,
            config=config,
            preprocessing=preprocessing,
            num_samples=num_samples,
            batch_size=batch_size,
            strict=strict,
            progress=advance,
        )
    if save_calibration is not None:
        result.table.save(save_calibration)
    write(result.model, path)
    facts = quantization_options.summary(result.model, model, path)
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        quantization_options.print_summary(facts)
