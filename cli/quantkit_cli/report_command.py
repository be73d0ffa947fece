"""``quantkit report``: what quantization cost, in which layer, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quantkit_cli import data_options as options
from quantkit_cli.console import Quiet, Verbose, sections
from quantkit_cli.quantization_options import FoldBatchNorm


def report(
    float_model: Annotated[Path, typer.Argument(metavar="FLOAT", help="The float ONNX model.")],
    quantized_model: Annotated[
        Path, typer.Argument(metavar="QUANTIZED", help="The quantized ONNX model, of any tool.")
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

    Names the layers that lose most and the option to try. The preprocessing of pictures is the one
    stored in QUANTIZED unless given here.
    """
    from quantkit.pipeline import report as run

    preprocessing = options.chosen_preprocessing(
        preset, mean, std, resize, fit, crop, size, layout, channel_order
    )
    with sections() as advance:
        found = run(
            float_model,
            quantized_model,
            data,
            labels=labels,
            preprocessing=preprocessing,
            num_samples=num_samples,
            strict=strict,
            batch_size=batch_size,
            with_integer_session=integer_session,
            fold_batch_norm=fold_batch_norm,
            progress=advance,
        )
    if as_json:
        print(found.model_dump_json(indent=2))
    else:
        from quantkit.reporting.render_terminal import print_report

        print_report(found)
