"""``quantkit verify``: do the integers equal onnxruntime's, layer by layer?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantkit_cli import data_options as options
from quantkit_cli.console import Quiet, Verbose, print_table, progress

if TYPE_CHECKING:
    from quantkit.evaluation.verification import CodeDifference, Verification


def verify(
    model: Annotated[Path, typer.Argument(help="A quantized ONNX model, of any tool.")],
    data: Annotated[
        Path, typer.Option("--data", "-d", help="A folder of pictures, an .npz or an .npy.")
    ],
    arithmetic: Annotated[
        str, typer.Option("--arithmetic", help="onnxruntime, or fixed_point (multiplier, shift).")
    ] = "onnxruntime",
    strict_integer: Annotated[
        bool, typer.Option("--strict-integer", help="Use kernels that hold no float array.")
    ] = False,
    preset: options.Preset = None,
    mean: options.Mean = None,
    std: options.Std = None,
    crop: options.Crop = None,
    size: options.Size = None,
    layout: options.Layout = None,
    channel_order: options.ChannelOrder = None,
    num_samples: options.NumSamples = 16,
    as_json: options.AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Compare the integer session with onnxruntime and the float reference, layer by layer."""
    from quantkit.errors import AccuracyError
    from quantkit.pipeline import verify as run

    preprocessing = options.chosen_preprocessing(
        preset, mean, std, crop, size, layout, channel_order
    )
    with progress("verify") as advance:
        found = run(
            model,
            data,
            preprocessing=preprocessing,
            num_samples=num_samples,
            arithmetic=arithmetic,
            strict_integer=strict_integer,
            progress=advance,
        )
    if as_json:
        print(json.dumps(_facts(found), indent=2))
    else:
        _print(model, found)
    failure = found.first_failure
    if failure is not None:
        raise AccuracyError(
            f"{failure.node!r} ({failure.op_type}) is the first layer that differs: "
            f"{failure.isolated.mismatches} of {failure.isolated.total} codes, by up to "
            f"{failure.isolated.largest}, where at most {found.tolerance} is allowed"
        )


def _facts(found: Verification) -> dict[str, Any]:
    return {
        "passed": found.passed,
        "arithmetic": found.arithmetic,
        "samples": found.samples,
        "same_class": found.same_class,
        "largest_output_difference": found.largest_output_difference,
        "float_islands": dict(found.float_islands),
        "layers": [
            {
                "node": layer.node,
                "op": layer.op_type,
                "isolated": _counts(layer.isolated),
                "accumulated": _counts(layer.accumulated),
                "float_reference": _counts(layer.float_reference),
                "accumulator_bound": layer.accumulator_bound,
            }
            for layer in found.layers
        ],
    }


def _counts(difference: CodeDifference) -> dict[str, int]:
    return {
        "codes": difference.total,
        "mismatches": difference.mismatches,
        "largest": difference.largest,
        "saturated": difference.saturated,
        "saturated_mismatches": difference.saturated_mismatches,
        "unsaturated": difference.unsaturated,
        "unsaturated_mismatches": difference.unsaturated_mismatches,
    }


def _print(model: Path, found: Verification) -> None:
    print(
        f"{model}: integer session ({found.arithmetic} arithmetic) against onnxruntime, "
        f"{found.samples} samples\n"
    )
    print_table(
        ("layer", "op", "codes", "saturated", "alone", "so far", "float", "accumulator"),
        [
            (
                layer.node,
                layer.op_type,
                f"{layer.isolated.total:,}",
                f"{layer.isolated.saturated:,}",
                _mismatches(layer.isolated),
                _mismatches(layer.accumulated),
                _mismatches(layer.float_reference),
                "-" if layer.accumulator_bound is None else f"{layer.accumulator_bound:,}",
            )
            for layer in found.layers
        ],
        right=("codes", "saturated", "alone", "so far", "float", "accumulator"),
        title="Differing codes (largest difference): alone = equal inputs, so far = from the "
        "network's input, float = the op in floats; accumulator = largest proved sum",
    )
    for name, reason in found.float_islands.items():
        print(f"float island: {name}: {reason}")
    if found.same_class is not None:
        print(f"same class as onnxruntime: {found.same_class} of {found.samples}")
    print(f"largest difference of a real output: {found.largest_output_difference:.6g}")
    total = sum(layer.isolated.total for layer in found.layers)
    wrong = sum(layer.isolated.mismatches for layer in found.layers)
    verdict = "PASS" if found.passed else "FAIL"
    print(
        f"{verdict}: {wrong:,} of {total:,} codes differ given equal inputs "
        f"({100 * wrong / max(total, 1):.4f} %; allowed: {found.tolerance} code)"
    )


def _mismatches(difference: CodeDifference) -> str:
    if not difference.mismatches:
        return "0"
    return f"{difference.mismatches:,} ({difference.largest})"
