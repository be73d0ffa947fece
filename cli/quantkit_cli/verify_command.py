"""``quantkit verify``: do the integers equal onnxruntime's, layer by layer?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from quantkit_cli import data_options as options
from quantkit_cli.console import Quiet, Verbose, progress
from quantkit_cli.hardware_output import print_hardware
from quantkit_cli.quantization_options import FoldBatchNorm
from quantkit_cli.verification_facts import verification_facts
from quantkit_cli.verification_output import allowed, print_verification


def verify(
    model: Annotated[
        Path, typer.Argument(metavar="QUANTIZED", help="A quantized ONNX model, of any tool.")
    ],
    data: options.DataOption,
    arithmetic: Annotated[
        str,
        typer.Option("--arithmetic", help="onnxruntime, or fixed_point (multiplier and shift)."),
    ] = "onnxruntime",
    strict_integer: Annotated[
        bool, typer.Option("--strict-integer", help="Use kernels that hold no float array.")
    ] = False,
    fold_batch_norm: FoldBatchNorm = False,
    hardware: Annotated[
        bool,
        typer.Option(
            "--hardware",
            help="Also: accumulator bits, saturation on x86 without VNNI, shifts, memory.",
        ),
    ] = False,
    preset: options.Preset = None,
    mean: options.Mean = None,
    std: options.Std = None,
    resize: options.Resize = None,
    fit: options.Fit = None,
    crop: options.Crop = None,
    size: options.Size = None,
    layout: options.Layout = None,
    channel_order: options.ChannelOrder = None,
    num_samples: Annotated[
        int | None,
        typer.Option("--num-samples", min=1, help="How many samples, evenly spaced; default: 16."),
    ] = None,
    strict: options.Strict = False,
    as_json: options.AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Compare the integers of every layer with onnxruntime's.

    Exit code 1, and the first layer that differs, where the integer session and onnxruntime
    disagree given equal inputs. The float reference is shown beside them, and how many codes lie
    exactly on a half before rounding, where arithmetics may differ. Where onnxruntime computes a
    layer in floats, 1 code is allowed where rounding explains it: the exact value is the judge.
    """
    from quantkit.errors import AccuracyError
    from quantkit.pipeline import verify as run

    preprocessing = options.chosen_preprocessing(
        preset, mean, std, resize, fit, crop, size, layout, channel_order
    )
    with progress("verify") as advance:
        found = run(
            model,
            data,
            preprocessing=preprocessing,
            num_samples=num_samples,
            strict=strict,
            arithmetic=arithmetic,
            strict_integer=strict_integer,
            fold_batch_norm=fold_batch_norm,
            hardware=hardware,
            progress=advance,
        )
    if as_json:
        print(json.dumps(verification_facts(found), indent=2))
    else:
        print_verification(model, found)
        if found.hardware:
            print_hardware(found)
    if found.oracle_difference:
        raise AccuracyError(
            "onnxruntime computes something else when it shows its codes: an output differs by "
            f"{found.oracle_difference:.6g} from that of the file as it is, so the codes compared "
            "are not those it computes"
        )
    failure = found.first_failure
    if failure is not None:
        limit = allowed(failure.tolerance)
        if failure.must_be_exact and failure.isolated.unexplained:
            limit = (
                f"what rounding explains, but {failure.isolated.unexplained:,} of these codes are "
                "neither the exact value nor near a half"
            )
        raise AccuracyError(
            f"{failure.node!r} ({failure.op_type}) is the first layer that differs: "
            f"{failure.isolated.mismatches:,} of {failure.isolated.total:,} codes given equal "
            f"inputs, by up to {failure.isolated.largest}; allowed: {limit}"
        )
