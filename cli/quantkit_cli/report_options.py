"""What ``quantkit report`` can refuse before it measures anything."""

from __future__ import annotations

import shlex
import sys
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantkit_cli.outputs import check_output

if TYPE_CHECKING:
    from quantkit.reporting.gate import Limits

_ARRAYS = (".npz", ".npy", ".pb")

Outputs = Annotated[
    list[Path] | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Also write the report: .html, .md, .json, .csv (the layers) or .xml (JUnit); several "
        "times for several files.",
    ),
]
MaxDrop = Annotated[
    float | None,
    typer.Option(
        "--max-drop",
        help="Fail where int8 loses more: percentage points of top-1, or units of --metric.",
    ),
]
MinSqnr = Annotated[
    float | None,
    typer.Option("--min-sqnr", help="Fail where the SQNR of an output is lower, in dB."),
]
MinAgreement = Annotated[
    float | None,
    typer.Option(
        "--min-agreement",
        help="Fail where fewer samples, in per cent, get the float model's class.",
    ),
]


def two_models(models: Sequence[Path]) -> tuple[Path | None, Path]:
    """The float model, if there is one, and the quantized one.

    Raises:
        ConfigError: More than two are given.
    """
    from quantkit.errors import ConfigError

    if len(models) > 2:
        raise ConfigError(
            f"one or two models are expected, [FLOAT] QUANTIZED, got {len(models)}: "
            f"{', '.join(map(str, models))}"
        )
    return (models[0] if len(models) == 2 else None), models[-1]


def check_outputs(paths: Sequence[Path], inputs: Iterable[Path | None]) -> None:
    """Refuse files that cannot be written, or whose suffix names no form.

    Raises:
        ConfigError: The reason.
    """
    from quantkit.errors import ConfigError
    from quantkit.reporting.report_files import form_of

    read = tuple(inputs)
    for path in paths:
        form_of(path)
        check_output(path, inputs=read)
    places = [path.resolve() for path in paths]
    for path, place in zip(paths, places, strict=True):
        if places.count(place) > 1:
            raise ConfigError(f"--output {str(path)!r} is given twice")


def check_limits(
    limits: Limits,
    float_model: Path | None,
    *,
    data: Path,
    labels: Path | None,
    metric: str | None,
    integer_session: bool,
) -> None:
    """Refuse limits that nothing will be measured for.

    Raises:
        ConfigError: The limit, and what to give.
    """
    from quantkit.errors import ConfigError
    from quantkit.reporting.gate import NO_DROP, NO_REFERENCE

    without_labels = metric is None and labels is None and not _may_hold_labels(data)
    if limits.max_drop is not None and (float_model is None or without_labels):
        raise ConfigError(f"--max-drop cannot be judged: {NO_DROP}")
    if float_model is None and not integer_session:
        for option in limits.given():
            raise ConfigError(f"{option} cannot be judged: {NO_REFERENCE}")


def check_fixes(wanted: bool, float_model: Path | None, calibration: Path | None) -> None:
    """Refuse fixes that cannot be tried.

    Raises:
        ConfigError: The reason.
        CalibrationError: The calibration file cannot be used.
    """
    from quantkit.calibration.data_functions import is_data_function
    from quantkit.calibration.table import CalibrationTable
    from quantkit.errors import ConfigError

    if calibration is not None and not wanted:
        raise ConfigError("--calibration is for --try-fixes; give that too, or leave it out")
    if wanted and float_model is None:
        raise ConfigError("--try-fixes needs the float model, which is what is quantized anew")
    if calibration is None or is_data_function(str(calibration)):
        return
    if not calibration.exists():
        raise ConfigError(f"--calibration {str(calibration)!r} does not exist")
    if calibration.name.endswith(".calib.npz"):
        CalibrationTable.load(calibration)


def command_line() -> str:
    """What was typed; the user's folder is nobody's business."""
    home = str(Path.home())
    words = (
        f"~{word[len(home) :]}" if word.startswith(f"{home}/") else word for word in sys.argv[1:]
    )
    return shlex.join(["quantkit", *words])


def _may_hold_labels(data: Path) -> bool:
    """Whether classes may lie with the samples: arrays may have them, pictures never do."""
    if data.suffix == ".npz" and zipfile.is_zipfile(data):
        from quantkit.calibration.arrays import LABEL_NAME

        with zipfile.ZipFile(data) as archive:
            return f"{LABEL_NAME}.npy" in archive.namelist()
    if data.is_dir():
        return any(path.suffix in _ARRAYS for path in data.rglob("*"))
    return not data.exists() or data.suffix in _ARRAYS
