"""Finding out what kind of data one was given."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quantkit.calibration.archives import is_archive, open_archive
from quantkit.calibration.array_files import (
    is_array_file,
    is_calibration_file,
    open_array_file,
)
from quantkit.calibration.array_folders import (
    onnx_test_sets,
    open_array_folder,
    open_test_sets,
)
from quantkit.calibration.arrays import ArraySource, source_of
from quantkit.calibration.data_functions import called, is_data_function
from quantkit.calibration.feeds import FeedReader, open_feeds
from quantkit.calibration.pictures import (
    FolderFiles,
    PictureSource,
    in_order,
    is_picture,
    resolved_for,
)
from quantkit.calibration.preprocessing import Preprocessing
from quantkit.errors import CalibrationError, EmptyDatasetError
from quantkit.graph.program import TensorSpec

logger = logging.getLogger(__name__)

DataSource = (
    str | Path | npt.NDArray[Any] | Mapping[str, Any] | FeedReader | Iterable[Mapping[str, Any]]
)
_KINDS = (
    "give a folder of pictures, a tar or zip of them, an .npy or .npz or a folder of such, an ONNX "
    "test_data_set folder, or module:function"
)
_SHOWN = 3
_OBJECTS = "an array, a dict of arrays, an iterable of dicts or a CalibrationDataReader"


def open_source(
    source: DataSource,
    inputs: Sequence[TensorSpec],
    preprocessing: Preprocessing | None,
    most: int | None = None,
    *,
    strict: bool = False,
) -> PictureSource | ArraySource:
    """Find out what ``source`` is and index its samples.

    Args:
        source: See :func:`quantkit.calibration.dataset.open_dataset`.
        inputs: The network's inputs.
        preprocessing: For pictures.
        most: After how many samples a stream is left.
        strict: Whether what is left out of a folder is an error instead of a warning.

    Raises:
        CalibrationError: No such file, an unknown kind of data, or it does not fit the inputs.
        EmptyDatasetError: No sample.
        ConfigError: Pictures, and the preprocessing leaves something open.
    """
    if not isinstance(source, str | Path):
        is_array = isinstance(source, np.ndarray | Mapping)
        return _open_object(source, inputs, "array" if is_array else "sample", most)
    if source == "":
        raise CalibrationError(f"data '' is the name of nothing; {_KINDS}")
    path = Path(source)
    try:
        if os.path.lexists(path) or not is_data_function(str(source)):
            return _open_path(path, inputs, preprocessing, strict=strict)
    except OSError as error:
        raise CalibrationError(f"data {str(path)!r} cannot be read: {error.strerror}") from error
    with called(str(source)) as value:
        return _open_object(value, inputs, str(source), most)


def _open_object(
    value: object, inputs: Sequence[TensorSpec], where: str, most: int | None
) -> ArraySource:
    match value:
        case np.ndarray():
            return source_of({"": value}, inputs, where)
        case Mapping():
            return source_of(value, inputs, where)
        case str() | bytes() | Path():
            pass
        case FeedReader() | Iterable():
            return open_feeds(value, inputs, where, most)
    if where == "sample":
        kind = f"data of type {type(value).__name__} is not supported; {_KINDS}, or {_OBJECTS}"
    else:
        kind = f"data {where!r} returned {type(value).__name__}; return {_OBJECTS}"
    raise CalibrationError(kind)


def _open_path(
    path: Path, inputs: Sequence[TensorSpec], preprocessing: Preprocessing | None, *, strict: bool
) -> PictureSource | ArraySource:
    if not path.exists():
        raise CalibrationError(f"data {str(path)!r} does not exist; {_KINDS}")
    if path.is_dir():
        return _open_folder(path, inputs, preprocessing, strict=strict)
    if path.is_file():
        if is_picture(path.name):
            how = resolved_for(str(path), inputs, preprocessing)
            return PictureSource(FolderFiles.of(path.parent, [path.name]), inputs[0].name, how)
        if is_archive(path):
            how = resolved_for(str(path), inputs, preprocessing)
            files = open_archive(path)
            if not files.names:
                raise EmptyDatasetError(f"no pictures in the archive {str(path)!r}; {_KINDS}")
            return PictureSource(files, inputs[0].name, how)
        if is_calibration_file(path):
            raise CalibrationError(
                f"data {str(path)!r} is a calibration file: it holds ranges, no samples; {_KINDS}"
            )
        if is_array_file(path.name):
            return open_array_file(path, inputs)
    raise CalibrationError(f"data {str(path)!r} is no kind of data quantkit knows; {_KINDS}")


def _open_folder(
    folder: Path, inputs: Sequence[TensorSpec], preprocessing: Preprocessing | None, *, strict: bool
) -> PictureSource | ArraySource:
    sets = onnx_test_sets(folder)
    if sets:
        return open_test_sets(sets, inputs)
    names = sorted(_files_below(folder, strict=strict), key=in_order)
    pictures = tuple(name for name in names if is_picture(name))
    arrays = tuple(name for name in names if is_array_file(name))
    tables = [name for name in arrays if is_calibration_file(folder / name)]
    if tables:
        logger.warning(
            "%r: %s left out: calibration files, which hold ranges and no samples",
            str(folder),
            _some(tables),
        )
        arrays = tuple(name for name in arrays if name not in set(tables))
    if not pictures and not arrays:
        raise EmptyDatasetError(
            f"no pictures in {str(folder)!r} and no arrays (searched recursively for the suffixes "
            f"Pillow reads, .jpg, .png ..., and for .npy and .npz); {_KINDS}"
        )
    counts = (len(pictures), len(arrays))
    if len(arrays) > len(pictures):
        if pictures:
            logger.warning("%r: %d pictures left out beside %d array files", str(folder), *counts)
        return open_array_folder(folder, arrays, inputs)
    if arrays:
        logger.warning(
            "%r: %d array files left out beside %d pictures", str(folder), *reversed(counts)
        )
    how = resolved_for(str(folder), inputs, preprocessing)
    return PictureSource(FolderFiles.of(folder, pictures), inputs[0].name, how)


def _files_below(folder: Path, *, strict: bool) -> Iterator[str]:
    """The paths of the regular files below ``folder``.

    Links are followed, each real folder once. What cannot be read, or would never end (a pipe, a
    device) and has the name of data, is left out with a warning.

    Raises:
        OSError: The folder itself cannot be read.
        CalibrationError: Something is left out, and ``strict``.
    """
    seen: set[str] = set()
    unread: list[str] = []
    others: list[str] = []
    todo = [""]
    while todo:
        below = todo.pop()
        real = os.path.realpath(folder / below)
        if real in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(folder / below) as found:
                entries = sorted(found, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            if not below:
                raise
            unread.append(f"{below} ({error.strerror})")
            continue
        for entry in entries:
            name = f"{below}/{entry.name}" if below else entry.name
            match _kind(entry):
                case "folder":
                    todo.append(name)
                case "file":
                    yield name
                case _ if is_picture(name) or is_array_file(name):
                    others.append(name)
    for names, kind in ((unread, "sub-folders that cannot be read"), (others, "no regular files")):
        if names and strict:
            raise CalibrationError(f"{str(folder)!r} holds {kind}: {_some(sorted(names))}")
        if names:
            logger.warning("%r: left out, %s: %s", str(folder), kind, _some(sorted(names)))


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else "other"
    except OSError:  # a link in a circle
        return "other"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
