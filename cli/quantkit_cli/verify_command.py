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
    disagree given equal inputs. The float reference is shown beside them.
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
            progress=advance,
        )
    if as_json:
        print(json.dumps(_facts(found), indent=2))
    else:
        _print(model, found)
    if found.oracle_difference:
        raise AccuracyError(
            "onnxruntime computes something else when it shows its codes: an output differs by "
            f"{found.oracle_difference:.6g} from that of the file as it is, so the codes compared "
            "are not those it computes"
        )
    failure = found.first_failure
    if failure is not None:
        raise AccuracyError(
            f"{failure.node!r} ({failure.op_type}) is the first layer that differs: "
            f"{failure.isolated.mismatches:,} of {failure.isolated.total:,} codes given equal "
            f"inputs, by up to {failure.isolated.largest}; allowed: {_allowed(found)}"
        )


def _facts(found: Verification) -> dict[str, Any]:
    return {
        "passed": found.passed,
        "arithmetic": found.arithmetic,
        "samples": found.samples,
        "same_class": found.same_class,
        "largest_output_difference": found.largest_output_difference,
        "oracle_difference": found.oracle_difference,
        "tolerance": found.tolerance,
        "first_failure": None if found.first_failure is None else found.first_failure.node,
        "float_islands": dict(found.float_islands),
        "not_compared": list(found.not_compared),
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
    from quantkit.reporting.terminal_table import kept_float_lines

    print(
        f"{model}: integer session ({found.arithmetic} arithmetic) against onnxruntime, "
        f"{_count(found.samples, 'sample')}\n"
        "\nDiffering codes (largest difference): alone = equal inputs; so far = from the\n"
        "network's input; float = the op in floats. Largest sum = proved bound of the int32\n"
        "accumulator.\n"
    )
    numbers = ("codes", "alone", "so far", "float", "largest sum")
    print_table(
        ("layer", "op", *numbers),
        [
            (
                layer.node,
                layer.op_type,
                f"{layer.isolated.total:,}",
                _mismatches(layer.isolated),
                _mismatches(layer.accumulated),
                _mismatches(layer.float_reference),
                "-" if layer.accumulator_bound is None else f"{layer.accumulator_bound:,}",
            )
            for layer in found.layers
        ],
        right=numbers,
        name="layer",
    )
    for line in kept_float_lines(found.float_islands):
        print(line)
    for name in found.not_compared:
        print(f"not compared: {name}: onnxruntime does not show the codes it reads")
    if found.same_class is not None:
        samples = _count(found.samples, "sample")
        print(f"same class as onnxruntime: {found.same_class} of {samples}")
    print(f"largest difference of an output: {found.largest_output_difference:.6g}")
    total = sum(layer.isolated.total for layer in found.layers)
    wrong = sum(layer.isolated.mismatches for layer in found.layers)
    largest = max(layer.isolated.largest for layer in found.layers)
    by = f", by up to {largest}" if wrong else ""
    print(
        f"{'PASS' if found.passed else 'FAIL'}: {wrong:,} of {total:,} codes of "
        f"{_count(len(found.layers), 'layer')} differ given equal inputs "
        f"({100 * wrong / total:.4f} %{by}; allowed: {_allowed(found)})"
    )


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _allowed(found: Verification) -> str:
    return "none" if found.tolerance == 0 else f"a difference of {found.tolerance}"


def _mismatches(difference: CodeDifference) -> str:
    if not difference.mismatches:
        return "0"
    return f"{difference.mismatches:,} ({difference.largest})"
