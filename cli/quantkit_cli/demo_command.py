"""``quantkit demo``: the main job on the bundled network and data, and a damaged case."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from quantkit_cli.console import Quiet, Verbose


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder to write to; made if needed.")
    ] = Path("quantkit_demo"),
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Run the whole job on the bundled network, then a damaged case.

    Calibrates, quantizes, verifies and reports a MobileNet that reads handwritten digits, and does
    it again with one weight scale per layer. Takes some seconds.
    """
    model, calibration, evaluation = _copy_bundled(output)
    table, quantized = output / "digits.calib.npz", output / "digits.int8.onnx"
    damaged = output / "digits.per_tensor.onnx"

    _run("calibrate", model, calibration, "--output", table)
    _run("export", model, "--calibration", table, "--output", quantized)
    _run("verify", quantized, "--data", evaluation)
    _run("report", model, quantized, "--data", evaluation)

    print("\nNow with one weight scale per layer, and without the steps that make up for it:")
    options = ("--per-tensor", "--no-bias-correction", "--no-cross-layer-equalization")
    _run("export", model, "--calibration", table, *options, "--output", damaged)
    _run("report", model, damaged, "--data", evaluation)

    print(f"\nThe files in {output}/:")
    for path, what in (
        (model, "the float network, as trained"),
        (calibration, "100 pictures to calibrate with"),
        (evaluation, "497 other pictures with labels"),
        (table, "the calibration: ranges and histograms of its tensors"),
        (quantized, "the int8 network: feed it as the float one"),
        (damaged, "the int8 network with one weight scale per layer, damaged"),
    ):
        print(f"  {path.name:<24} {what}")


def _copy_bundled(folder: Path) -> tuple[Path, Path, Path]:
    from quantkit import bundled
    from quantkit.errors import ConfigError

    names = ("digits_mobilenet.onnx", "digits_calibration.npz", "digits_evaluation.npz")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with bundled.folder() as source:
            for name in names:
                shutil.copyfile(source / name, folder / name)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"--output {str(folder)!r} cannot be used as a folder ({reason}); give another one"
        ) from error
    return folder / names[0], folder / names[1], folder / names[2]


def _run(*arguments: str | Path) -> None:
    """Show a command and run it: what is shown is what is done."""
    import shlex

    from quantkit_cli.app import app

    words = [str(argument) for argument in arguments]
    print(f"\n$ quantkit {shlex.join(words)}", flush=True)
    app(args=words, prog_name="quantkit", standalone_mode=False)
