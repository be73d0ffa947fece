"""Arrays: ``.npy`` and ``.npz`` files, arrays in memory, iterables of feeds.

Arrays hold what the network is fed: they are cast to its dtype and otherwise left alone. The first
axis runs over samples. An ``.npy`` is read sample by sample; everything else is in memory.
"""

import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from quantkit.errors import CalibrationError, EmptyDatasetError
from quantkit.graph.program import Array, TensorSpec

LABEL_NAME = "label"
_OBJECTS = "it holds Python objects, which quantkit never unpickles; save numbers"
_DAMAGE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


class Rows(Protocol):
    """Samples of one input: an array, a list of arrays, or a file read row by row."""

    def __len__(self) -> int:
        """Number of samples."""

    def __getitem__(self, index: int, /) -> Any:
        """One sample, without batch axis."""


@dataclass(frozen=True, slots=True, eq=False)
class ArraySource:
    """Samples as rows of arrays, one array per input.

    Attributes:
        names: One per sample: what it came from and its number.
        columns: The rows by input name.
        labels: int64, one per sample, where the data hold them.
    """

    names: tuple[str, ...]
    columns: Mapping[str, Rows]
    labels: npt.NDArray[np.int64] | None = None

    def read(self, index: int) -> dict[str, Array]:
        """One sample: an array per input, as stored, without batch axis."""
        return {name: np.asarray(rows[index]) for name, rows in self.columns.items()}


@dataclass(frozen=True, slots=True, eq=False)
class NpyRows:
    """The rows of a C-ordered ``.npy`` file, read one at a time and not mapped.

    Attributes:
        path: The file.
        offset: Where the data begin, in bytes.
        shape: Of the whole array.
        dtype: Of the array.
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> Array:
        row = np.empty(self.shape[1:], self.dtype)
        with self.path.open("rb") as file:
            file.seek(self.offset + index * row.nbytes)
            file.readinto(row.reshape(-1).view(np.uint8).data)
        return row


def open_npy(path: Path, inputs: Sequence[TensorSpec]) -> ArraySource:
    """Samples of a one-input network from an ``.npy`` file.

    Raises:
        CalibrationError: Not an ``.npy`` file, truncated, holds Python objects, or does not fit.
        EmptyDatasetError: It holds no sample.
    """
    return source_of({"": _npy_rows(path)}, inputs, path.name)


def open_npz(path: Path, inputs: Sequence[TensorSpec]) -> ArraySource:
    """Samples from an ``.npz`` file: an array per input, and perhaps ``label``.

    Raises:
        CalibrationError: Not an ``.npz`` file, damaged, holds Python objects, or does not fit.
        EmptyDatasetError: It holds no sample.
    """
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no zip archive")
        with np.load(path, allow_pickle=False) as members:
            arrays = {name: _member(members, name) for name in members.files}
    except _DAMAGE as error:
        raise CalibrationError(_unreadable(path, ".npz", error)) from error
    return source_of(arrays, inputs, path.name)


def source_of_feeds(
    feeds: Iterable[Mapping[str, Any]], inputs: Sequence[TensorSpec]
) -> ArraySource:
    """Samples from dicts as onnxruntime is fed: arrays by input name, with batch axis.

    A dict whose arrays lack the batch axis is one sample. All of them are kept in memory.

    Raises:
        CalibrationError: A dict lacks an input, or its arrays differ in length.
        EmptyDatasetError: There is no dict.
    """
    columns: dict[str, list[Array]] = {spec.name: [] for spec in inputs}
    for number, feed in enumerate(feeds):
        if not isinstance(feed, Mapping):
            raise CalibrationError(
                f"item {number} of the data is a {type(feed).__name__}, "
                "expected a dict of arrays by input name"
            )
        picked = _pick(
            {name: _batched(feed, name, inputs) for name in feed}, inputs, f"item {number}"
        )
        for name, rows in picked.items():
            columns[name].extend(rows[index] for index in range(len(rows)))
    return source_of(columns, inputs, "sample")


def source_of(arrays: Mapping[str, Rows], inputs: Sequence[TensorSpec], where: str) -> ArraySource:
    """Match arrays with inputs: by name, or a single array with a single input.

    Args:
        arrays: By name; ``label`` is taken as class labels unless it is an input.
        inputs: What the network wants.
        where: What the arrays came from, for names and messages.

    Raises:
        CalibrationError: An input has no array, lengths differ, or labels are no integers.
        EmptyDatasetError: There is no sample.
    """
    columns = _pick(arrays, inputs, where)
    count = len(next(iter(columns.values())))
    if count == 0:
        raise EmptyDatasetError(f"{where} holds no sample: its first axis has length 0")
    labels = None
    if LABEL_NAME in arrays and LABEL_NAME not in columns:
        labels = np.asarray(arrays[LABEL_NAME])
        if labels.dtype.kind not in "iu" or labels.shape != (count,):
            raise CalibrationError(
                f"{LABEL_NAME} of {where} is {labels.dtype} of shape {labels.shape}, expected "
                f"integers of shape ({count},): one class per sample"
            )
        labels = labels.astype(np.int64)
    return ArraySource(tuple(f"{where}[{index}]" for index in range(count)), columns, labels)


def _pick(arrays: Mapping[str, Rows], inputs: Sequence[TensorSpec], where: str) -> dict[str, Rows]:
    wanted = [spec.name for spec in inputs]
    others = [name for name in arrays if name != LABEL_NAME]
    if all(name in arrays for name in wanted):
        picked = {name: arrays[name] for name in wanted}
    elif len(wanted) == 1 and len(others) == 1:
        picked = {wanted[0]: arrays[others[0]]}
    else:
        got = ", ".join(name or "one unnamed array" for name in arrays) or "nothing"
        raise CalibrationError(
            f"{where} holds {got}; the model wants {', '.join(wanted)}: "
            "save one array per input with np.savez under these names"
        )
    scalars = [
        name for name, rows in picked.items() if isinstance(rows, np.ndarray) and not rows.ndim
    ]
    if scalars:
        raise CalibrationError(
            f"{scalars[0]} of {where} is a scalar; the first axis runs over samples"
        )
    lengths = {name: len(rows) for name, rows in picked.items()}
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise CalibrationError(f"the arrays of {where} differ in their number of samples ({text})")
    return picked


def _batched(feed: Mapping[str, Any], name: str, inputs: Sequence[TensorSpec]) -> Array:
    array = np.asarray(feed[name])
    ranks = [len(spec.shape) for spec in inputs if spec.name == name and spec.shape is not None]
    return array[np.newaxis] if [array.ndim + 1] == ranks else array


def _npy_rows(path: Path) -> Rows:
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, fortran_order, dtype = header(file)
            offset = file.tell()
        if dtype.hasobject:
            raise ValueError(_OBJECTS)
        if not shape:
            raise ValueError("it holds a scalar; the first axis runs over samples")
        expected = offset + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        if (size := path.stat().st_size) < expected:
            raise ValueError(f"it is truncated: {size} of {expected} bytes")
        if fortran_order:  # a sample is scattered over the whole file
            rows: Array = np.load(path, allow_pickle=False)
            return rows
    except _DAMAGE as error:
        raise CalibrationError(_unreadable(path, ".npy", error)) from error
    return NpyRows(path, offset, shape, dtype)


def _member(members: Mapping[str, Any], name: str) -> Array:
    try:
        return np.asarray(members[name])
    except ValueError as error:
        reason = _OBJECTS if "allow_pickle" in str(error) else error
        raise ValueError(f"array {name!r}: {reason}") from error


def _unreadable(path: Path, kind: str, error: Exception) -> str:
    reason = " ".join(str(error).split())
    return f"{str(path)!r} cannot be read as {kind}: {reason or type(error).__name__}"
