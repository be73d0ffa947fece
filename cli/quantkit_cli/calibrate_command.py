"""``quantkit calibrate``: one pass over the data, into a file that any quantization can use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from quantkit_cli import data_options as options
from quantkit_cli.console import Quiet, Verbose, progress
from quantkit_cli.outputs import check_output, files_of_model


def calibrate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A float ONNX model.")],
    data: options.DataArgument,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file; default: MODEL.calib.npz here."),
    ] = None,
    preset: options.Preset = None,
    mean: options.Mean = None,
    std: options.Std = None,
    crop: options.Crop = None,
    size: options.Size = None,
    layout: options.Layout = None,
    channel_order: options.ChannelOrder = None,
    num_samples: options.NumSamples = None,
    batch_size: options.BatchSize = 1,
    threads: Annotated[
        int, typer.Option("--threads", min=1, help="Batches in the works at a time.")
    ] = 2,
    strict: options.Strict = False,
    as_json: options.AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Run MODEL over DATA once and write the ranges of its tensors.

    The file serves any number of `quantkit export` with any options.
    """
    from quantkit.pipeline import calibrate as run

    preprocessing = options.chosen_preprocessing(
        preset, mean, std, crop, size, layout, channel_order
    )
    path = output or Path(f"{model.stem}.calib.npz")
    check_output(path, inputs=(*files_of_model(model), data))
    with progress("calibrate") as advance:
        table = run(
            model,
            data,
            preprocessing=preprocessing,
            num_samples=num_samples,
            batch_size=batch_size,
            threads=threads,
            strict=strict,
            progress=advance,
        )
    table.save(path)
    if as_json:
        facts = {
            "output": str(path),
            "samples": table.sample_count,
            "tensors": len(table.statistics),
            "model_digest": table.model_digest,
            "data_digest": table.data_digest,
        }
        print(json.dumps(facts, indent=2))
    else:
        print(f"wrote {path}: {len(table.statistics)} tensors over {table.sample_count} samples")
