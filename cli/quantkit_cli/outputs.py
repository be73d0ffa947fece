"""Where a command may write: asked before the work, so that no hour is spent for nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def check_output(
    path: Path, *, inputs: Iterable[Path | None] = (), option: str = "--output"
) -> None:
    """Refuse a place that cannot be written to, or that holds what the command reads.

    Args:
        path: The file that will be written.
        inputs: What the command reads; None is passed over.
        option: What the user calls ``path``, for messages.

    Raises:
        ConfigError: The reason.
    """
    from quantkit.errors import ConfigError

    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise ConfigError(f"{option} {str(path)!r} cannot be written: {error.strerror}") from error
    if path.is_dir():
        raise ConfigError(f"{option} {str(path)!r} is a folder; give a file name in it")
    if path.exists() and not path.is_file():
        raise ConfigError(f"{option} {str(path)!r} is no regular file; give another name")
    _check_parent(path, option)
    for source in inputs:
        if source is not None and path.exists() and source.exists() and path.samefile(source):
            raise ConfigError(
                f"{option} {str(path)!r} would overwrite {str(source)!r}, which is read here; "
                "give another name"
            )
        if source is not None and source.is_dir() and path.exists() and _is_data(path, source):
            raise ConfigError(
                f"{option} {str(path)!r} would overwrite a file of the data in {str(source)!r}; "
                "give another name"
            )


def check_export(path: Path, format: str, *, inputs: Iterable[Path | None] = ()) -> None:
    """:func:`check_output` for a format of the registry; some are a new folder, not a file.

    Raises:
        UnknownNameError: No such format.
        ConfigError: The reason.
    """
    from quantkit.errors import ConfigError
    from quantkit.exporters.contract import EXPORTERS, SAMPLE_FORMATS

    EXPORTERS[format]
    if format not in SAMPLE_FORMATS:
        check_output(path, inputs=inputs)
        return
    if os.path.lexists(path):
        raise ConfigError(
            f"--output {str(path)!r} exists already; {format} need a new folder: give another name"
        )
    _check_parent(path, "--output")


def written_bytes(path: Path) -> int:
    """Size of what a command wrote: a model, or a folder with all its files."""
    from quantkit.reporting.network_cost import model_bytes

    if path.is_dir():
        return sum(file.stat().st_size for file in path.iterdir())
    return model_bytes(path)


def _check_parent(path: Path, option: str) -> None:
    from quantkit.errors import ConfigError

    folder = path.parent
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist; make it first"
        raise ConfigError(f"{option} {str(path)!r}: the folder {str(folder)!r} {what}")
    if not os.access(folder, os.W_OK):
        raise ConfigError(
            f"{option} {str(path)!r}: the folder {str(folder)!r} is read-only; give another one"
        )


def _is_data(path: Path, folder: Path) -> bool:
    """Whether a file may be one of the samples in a folder: anything that quantkit never writes."""
    ours = path.name.endswith((".onnx", ".calib.npz", ".calib.npz.unfinished", ".toml", ".jsonl"))
    return not ours and path.resolve().is_relative_to(folder.resolve())


def files_of_model(model: Path) -> tuple[Path, Path]:
    """A model's file and where its weights usually lie beside it."""
    return model, model.with_name(f"{model.name}.data")
