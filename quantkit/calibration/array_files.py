"""Array files: the rows of ``.npy`` and ``.npz`` files and of ONNX tensors, read one at a time.

Nothing is mapped: mapped pages would count as memory of the process and grow with the data. What is
stored as it is, is read in place; a compressed member is unpacked once, in pieces, into an
anonymous temporary file; Fortran order, where a row is scattered over the whole array, and ONNX
tensors are read whole.
"""

import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from tokenize import TokenError
from typing import IO, Any

import numpy as np

from quantkit.calibration.arrays import (
    LABEL_NAME,
    ArraySource,
    Rows,
    check_labels,
    count_of,
    matched,
    names_of,
    refuse_empty,
)
from quantkit.calibration.spool import (
    ByteStore,
    FileBytes,
    chunks_of,
    one_line,
    spooled,
    stamp_of,
)
from quantkit.calibration.zip_members import (
    ZIP_DAMAGE,
    check_members,
    data_offset,
    file_members,
    member_of,
)
from quantkit.errors import CalibrationError
from quantkit.graph.program import Array, TensorSpec
from quantkit.graph.tensor_file import read_tensor

_SUFFIXES = (".npy", ".npz")
_TABLE_SUFFIX = ".calib.npz"
_TABLE_MEMBER = "metadata.json"
# NumPy reads the header as Python text; this is what it passes on of damaged ones.
HEADER_DAMAGE = (TokenError, SyntaxError, TypeError, RecursionError, MemoryError, Warning)
# Python's parser, which NumPy reads headers with, fails at times when two threads are in it.
_PARSING = Lock()
_OBJECTS = "it holds Python objects, which quantkit never unpickles; save numbers"


@dataclass(frozen=True, slots=True, eq=False)
class ArrayHeader:
    """What the beginning of an ``.npy`` says.

    Attributes:
        shape: Of the whole array.
        dtype: Of the array.
        is_fortran: Whether the first axis varies fastest.
        size: Of the header itself, in bytes.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool
    size: int

    @property
    def file_bytes(self) -> int:
        """Size of the whole ``.npy``."""
        return self.size + self.dtype.itemsize * math.prod(self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class StoredRows:
    """The rows of a C-ordered array, read one at a time.

    Attributes:
        store: Where its bytes are.
        offset: Where they begin.
        shape: Of the whole array.
        dtype: Of the array.
    """

    store: ByteStore
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> Array:
        row = self.shape[1:]
        size = self.dtype.itemsize * math.prod(row)
        data = self.store.read_at(self.offset + index * size, size)
        return np.frombuffer(data, self.dtype).reshape(row)


def is_array_file(name: str) -> bool:
    """Whether a path (with ``/``) is a visible ``.npy`` or ``.npz``, and no calibration table."""
    file = name.rpartition("/")[2].lower()
    return file.endswith(_SUFFIXES) and not (file.startswith(".") or file.endswith(_TABLE_SUFFIX))


def is_calibration_file(path: Path) -> bool:
    """Whether a file is an ``.npz`` that quantkit wrote ranges to, whatever its name."""
    if path.suffix.lower() != ".npz":
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return _TABLE_MEMBER in archive.namelist()
    except ZIP_DAMAGE:
        return False


def array_headers(path: Path) -> dict[str, ArrayHeader]:
    """Name, shape and dtype of every array in a file; an ``.npy`` has one, "".

    Raises:
        CalibrationError: It cannot be read, is truncated, holds Python objects or anything else
            than arrays, or unpacks out of proportion.
    """
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                return {"": _header(file, path.stat().st_size)}
        return _npz_headers(path)
    except ZIP_DAMAGE as error:
        raise _unreadable(path, error) from error


def open_rows(path: Path, name: str) -> Rows:
    """The rows of the array ``name`` of a file.

    An ``.npz`` is checked whole (CRC) here; later reads touch one row.

    Raises:
        CalibrationError: It is damaged, or there is no room to unpack it.
    """
    try:
        match path.suffix.lower():
            case ".pb":
                return read_tensor(path).array
            case ".npz":
                return _npz_rows(path, name)
        header = array_headers(path)[name]
        if header.is_fortran:
            return _columns_first(path.read_bytes(), header)
        return StoredRows(FileBytes.of(path), header.size, header.shape, header.dtype)
    except ZIP_DAMAGE as error:
        raise _unreadable(path, error) from error


def open_array_file(path: Path, inputs: Sequence[TensorSpec]) -> ArraySource:
    """Samples from one ``.npy`` (one input) or ``.npz``: an array per input, perhaps ``label``.

    Raises:
        CalibrationError: It cannot be read (see :func:`array_headers`, :func:`open_rows`), or does
            not fit.
        EmptyDatasetError: It holds no sample.
    """
    headers = array_headers(path)
    chosen = matched(headers, inputs, path.name)
    count = count_of({name: headers[array].shape for name, array in chosen.items()}, path.name)
    refuse_empty(count, path.name)
    labels = None
    if LABEL_NAME in headers and LABEL_NAME not in chosen.values():
        header = headers[LABEL_NAME]
        check_labels(header.dtype, header.shape, count, path.name)
        labels = read_whole(path, LABEL_NAME).astype(np.int64)
    columns = {name: open_rows(path, array) for name, array in chosen.items()}
    names = names_of(path.name, count)
    return ArraySource(names, columns, stamp_of((), [path]), splittable=True, labels=labels)


def read_whole(path: Path, name: str) -> Array:
    """A whole array of a file.

    Raises:
        CalibrationError: See :func:`open_rows`.
    """
    try:
        return np.asarray(with_batch_axis(open_rows(path, name))[0])
    except ZIP_DAMAGE as error:
        raise _unreadable(path, error) from error


def with_batch_axis(rows: Rows) -> Rows:
    """An array that is one sample, as rows."""
    if isinstance(rows, StoredRows):
        return replace(rows, shape=(1, *rows.shape))
    return np.asarray(rows)[np.newaxis]


def _header(file: IO[bytes], size: int) -> ArrayHeader:
    version = np.lib.format.read_magic(file)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    try:
        with _PARSING:
            shape, is_fortran, dtype = read(file)
    except HEADER_DAMAGE as error:
        raise ValueError(f"its header is damaged ({one_line(error)})") from error
    if dtype.hasobject:
        raise ValueError(_OBJECTS)
    header = ArrayHeader(shape, dtype, is_fortran and len(shape) > 1, file.tell())
    if any(length < 0 for length in shape) or (0 in shape[1:] or not dtype.itemsize):
        raise ValueError(f"its shape {shape} of {dtype} holds no values")
    if size < header.file_bytes:
        raise ValueError(f"it is truncated: {size} of {header.file_bytes} bytes")
    return header


def _columns_first(data: bytes, header: ArrayHeader) -> Array:
    """The array of a file in Fortran order."""
    count = int(np.prod(header.shape, dtype=np.int64))
    flat = np.frombuffer(data, header.dtype, count, offset=header.size)
    return flat.reshape(header.shape, order="F")


def _npz_headers(path: Path) -> dict[str, ArrayHeader]:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no zip archive")
    headers: dict[str, ArrayHeader] = {}
    with zipfile.ZipFile(path) as archive:
        members = _by_name(archive)
        check_members(path, list(members.values()))
        for name, info in members.items():
            with archive.open(info) as file:
                try:
                    headers[name] = _header(file, info.file_size)
                except ValueError as error:
                    raise ValueError(f"array {name!r}: {error}") from error
    return headers


def _npz_rows(path: Path, name: str) -> Rows:
    with zipfile.ZipFile(path) as archive:
        info = _by_name(archive)[name]
        with archive.open(info) as file:
            header = _header(file, info.file_size)
        with archive.open(info) as file:  # read to its end, which checks the CRC
            if header.is_fortran:
                return _columns_first(file.read(), header)
            if info.compress_type == zipfile.ZIP_STORED:
                for _ in chunks_of(file):
                    pass
                store = FileBytes.of(path)
                offset = data_offset(store, member_of(info)) + header.size
                return StoredRows(store, offset, header.shape, header.dtype)
            what = f"array {name!r} of {str(path)!r}"
            spool = spooled(chunks_of(file), what, path.stat().st_size)
    if spool.size < header.file_bytes:
        raise ValueError(f"array {name!r} is truncated: {spool.size} of {header.file_bytes} bytes")
    return StoredRows(spool, header.size, header.shape, header.dtype)


def _by_name(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    return {info.filename.removesuffix(".npy"): info for info in file_members(archive)}


def _unreadable(path: Path, error: Exception) -> CalibrationError:
    return CalibrationError(
        f"{str(path)!r} cannot be read as {path.suffix.lower()}: {one_line(error)}"
    )
