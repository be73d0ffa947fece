"""Finding out what kind of data one was given."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quantkit.calibration.archives import is_archive, open_archive
from quantkit.calibration.array_files import is_array_file, open_array_file
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
_OBJECTS = "an array, a dict of arrays, an iterable of dicts or a CalibrationDataReader"


def open_source(
    source: DataSource,
    inputs: Sequence[TensorSpec],
    preprocessing: Preprocessing | None,
    most: int | None = None,
) -> PictureSource | ArraySource:
    """Find out what ``source`` is and index its samples.

    Args:
        source: See :func:`quantkit.calibration.dataset.open_dataset`.
        inputs: The network's inputs.
        preprocessing: For pictures.
        most: After how many samples a stream is left.

    Raises:
        CalibrationError: No such file, an unknown kind of data, or it does not fit the inputs.
        EmptyDatasetError: No sample.
        ConfigError: Pictures, and the preprocessing leaves something open.
    """
    if not isinstance(source, str | Path):
        is_array = isinstance(source, np.ndarray | Mapping)
        return _open_object(source, inputs, "array" if is_array else "sample", most)
    path = Path(source)
    try:
        if os.path.lexists(path) or not is_data_function(str(source)):
            return _open_path(path, inputs, preprocessing)
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
    path: Path, inputs: Sequence[TensorSpec], preprocessing: Preprocessing | None
) -> PictureSource | ArraySource:
    if not path.exists():
        raise CalibrationError(f"data {str(path)!r} does not exist; {_KINDS}")
    if path.is_dir():
        return _open_folder(path, inputs, preprocessing)
    if path.is_file():
        if is_picture(path.name):
            how = resolved_for(str(path), inputs, preprocessing)
            return PictureSource(FolderFiles(path.parent, (path.name,)), inputs[0].name, how)
        if is_archive(path):
            how = resolved_for(str(path), inputs, preprocessing)
            files = open_archive(path)
            if not files.names:
                raise EmptyDatasetError(f"no pictures in the archive {str(path)!r}; {_KINDS}")
            return PictureSource(files, inputs[0].name, how)
        if is_array_file(path.name):
            return open_array_file(path, inputs)
    raise CalibrationError(f"data {str(path)!r} is no kind of data quantkit knows; {_KINDS}")


def _open_folder(
    folder: Path, inputs: Sequence[TensorSpec], preprocessing: Preprocessing | None
) -> PictureSource | ArraySource:
    sets = onnx_test_sets(folder)
    if sets:
        return open_test_sets(sets, inputs)
    names = sorted(_files_below(folder), key=in_order)
    pictures = tuple(name for name in names if is_picture(name))
    arrays = tuple(name for name in names if is_array_file(name))
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
    return PictureSource(FolderFiles(folder, pictures), inputs[0].name, how)


def _files_below(folder: Path) -> Iterator[str]:
    """Every file's path below ``folder``; linked folders are followed, each real folder once."""
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        below = Path(parent).relative_to(folder).as_posix()
        yield from names if below == "." else (f"{below}/{name}" for name in names)
