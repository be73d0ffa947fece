"""``quantkit demo``: the main job on the bundled network and data, and a damaged case."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from quantkit_cli.console import Quiet, Verbose


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write to.")] = Path(
        "quantkit_demo"
    ),
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Quantize the bundled MobileNet (handwritten digits), verify it, report; then damage it."""
    from quantkit import bundled
    from quantkit.config import QuantConfig
    from quantkit.errors import ModelError
    from quantkit.pipeline import calibrate, quantize_calibrated
    from quantkit.pipeline import report as make_report
    from quantkit.pipeline import verify as check
    from quantkit.reporting.render_terminal import print_report

    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"cannot make the folder {str(output)!r}: {error.strerror}") from error
    for name in ("digits_mobilenet.onnx", "digits_calibration.npz", "digits_evaluation.npz"):
        shutil.copyfile(str(bundled.files() / name), output / name)
    model, data = output / "digits_mobilenet.onnx", output / "digits_calibration.npz"
    evaluation = output / "digits_evaluation.npz"

    table_path = output / "digits.calib.npz"
    _say(f"quantkit calibrate {model} {data} -o {table_path}")
    table = calibrate(model, data)
    table.save(table_path)
    print(f"wrote {table_path}: {len(table.statistics)} tensors over {table.sample_count} samples")

    quantized = output / "digits.int8.onnx"
    _say(f"quantkit export {model} --calibration {table_path} -o {quantized}")
    quantize_calibrated(model, table).save(quantized)
    print(f"wrote {quantized}: {quantized.stat().st_size:,} bytes, float {model.stat().st_size:,}")

    _say(f"quantkit verify {quantized} --data {evaluation}")
    found = check(quantized, evaluation, num_samples=100)
    total = sum(layer.isolated.total for layer in found.layers)
    wrong = sum(layer.isolated.mismatches for layer in found.layers)
    print(
        f"{'PASS' if found.passed else 'FAIL'}: {wrong} of {total:,} codes of {len(found.layers)} "
        f"layers differ from onnxruntime's; same class on {found.same_class} of {found.samples}"
    )

    _say(f"quantkit report {model} {quantized} --data {evaluation}")
    print_report(make_report(model, quantized, evaluation))

    damaged = output / "digits.per_tensor.onnx"
    print("\nNow the same with one weight scale per layer, as some hardware wants it:")
    _say(
        f"quantkit export {model} --calibration {table_path} --per-tensor "
        f"--no-bias-correction -o {damaged}"
    )
    config = QuantConfig(per_channel=False, bias_correction=False)
    quantize_calibrated(model, table, config).save(damaged)
    _say(f"quantkit report {model} {damaged} --data {evaluation}")
    print_report(make_report(model, damaged, evaluation))
    print(f"\nAll files are in {output}/")


def _say(command: str) -> None:
    print(f"\n$ {command}")
