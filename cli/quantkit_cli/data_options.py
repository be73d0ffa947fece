"""The options that say how pictures become inputs; the same for every command with data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from quantkit.calibration.preprocessing import Preprocessing

_DATA_HELP = (
    "A folder of pictures (recursive), a tar or zip of them, an .npz or .npy, a folder of such "
    "files, an ONNX test_data_set folder, or module:function giving feeds."
)


def _named(text: str) -> Path:
    """A path; an empty text (an unset variable of the shell) would mean the current folder."""
    if not text:
        raise typer.BadParameter("it is empty; give a folder, a file or module:function")
    return Path(text)


DataArgument = Annotated[Path, typer.Argument(metavar="DATA", help=_DATA_HELP, parser=_named)]
DataOption = Annotated[
    Path, typer.Option("--data", "-d", metavar="DATA", help=_DATA_HELP, parser=_named)
]
OptionalData = Annotated[
    Path | None,
    typer.Option(
        "--data", "-d", metavar="DATA", help=f"For vectors and recipes: {_DATA_HELP}", parser=_named
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help="How pictures become inputs: imagenet, tf, unit or raw; arrays need none.",
    ),
]
Mean = Annotated[
    str | None,
    typer.Option("--mean", help="Mean in 0..255, one or one per channel, as 123.7,116.3,103.5."),
]
Std = Annotated[
    str | None,
    typer.Option("--std", help="Standard deviation in 0..255, one or one per channel."),
]
Resize = Annotated[
    str | None,
    typer.Option(
        "--resize",
        help="Filter: nearest, box, bilinear, hamming, bicubic or lanczos; default bilinear.",
    ),
]
Fit = Annotated[
    str | None,
    typer.Option(
        "--fit",
        help="crop (the centre square, default), stretch (the whole picture) or pad (letterbox).",
    ),
]
Crop = Annotated[
    float | None,
    typer.Option(
        "--crop",
        help="Share kept: of the shorter side (default 0.875); with stretch or pad of each side "
        "(default 1).",
    ),
]
Size = Annotated[
    str | None, typer.Option("--size", help="Height x width, as 224x224; default: the model's.")
]
Layout = Annotated[
    str | None, typer.Option("--layout", help="NCHW or NHWC; default: what the model's input says.")
]
ChannelOrder = Annotated[
    str | None,
    typer.Option("--channel-order", help="RGB or BGR; default: what the model says, or RGB."),
]
NumSamples = Annotated[
    int | None,
    typer.Option("--num-samples", min=1, help="How many samples, evenly spaced; default: all."),
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Samples per run.")]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse unreadable pictures instead of skipping them.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def chosen_preprocessing(
    preset: str | None,
    mean: str | None,
    std: str | None,
    resize: str | None,
    fit: str | None,
    crop: float | None,
    size: str | None,
    layout: str | None,
    channel_order: str | None,
) -> Preprocessing | None:
    """The preprocessing the options ask for, or None where none was given.

    Raises:
        ConfigError: An option has no meaning, or options without a preset leave something open.
        UnknownNameError: No such preset.
    """
    from dataclasses import replace
    from typing import Any

    from quantkit.calibration.preprocessing import Preprocessing, named
    from quantkit.errors import ConfigError

    changes: dict[str, Any] = {}
    if mean is not None:
        changes["mean"] = _numbers("--mean", mean)
    if std is not None:
        changes["std"] = _numbers("--std", std)
    if resize is not None:
        changes["resize"] = resize.lower()
    if fit is not None:
        changes["fit"] = fit.lower()
    if crop is not None:
        changes["crop"] = crop
    if size is not None:
        changes["size"] = _size(size)
    if layout is not None:
        changes["layout"] = layout.upper()
    if channel_order is not None:
        changes["channel_order"] = channel_order.upper()
    chosen = named(preset)
    if chosen is not None:
        return replace(chosen, **changes)
    if not changes:
        return None
    if "mean" not in changes or "std" not in changes:
        raise ConfigError("without --preset, both --mean and --std are needed")
    return Preprocessing(**changes)


def _numbers(option: str, text: str) -> tuple[float, ...]:
    from quantkit.errors import ConfigError

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"{option}: numbers with commas are expected, got {text!r}") from error


def _size(text: str) -> tuple[int, int]:
    from quantkit.errors import ConfigError

    height, _, width = text.lower().partition("x")
    try:
        return int(height), int(width or height)
    except ValueError as error:
        raise ConfigError(f"--size: give height x width, as 224x224, got {text!r}") from error
