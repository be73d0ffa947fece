"""Many files of arrays as one source: folders of ``.npy`` and ``.npz``, and ONNX's test data.

Only the files' headers are read at first; a file is opened when one of its rows is wanted.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from quantkit.calibration.array_files import array_headers, open_rows, read_whole, with_batch_axis
from quantkit.calibration.arrays import (
    LABEL_NAME,
    ArraySource,
    Rows,
    check_labels,
    count_of,
    lacks_batch_axis,
    matched,
    names_of,
    refuse_empty,
)
from quantkit.calibration.spool import FileBytes, one_line, stamp_of
from quantkit.errors import CalibrationError, UnreadableSampleError
from quantkit.graph.program import Array, TensorSpec
from quantkit.graph.tensor_file import read_tensor

_TEST_SET = re.compile(r"test_data_set_(\d+)")
_TEST_INPUT = re.compile(r"input_(\d+)\.pb")
# An unpacked .npz may hold a large temporary file: only the last few stay.
_OPEN_FILES = 4
_Opened = Callable[[Path, str], Rows]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One array of one file.

    Attributes:
        file: The file, as it was when the data were opened.
        array: The array's name in it.
        shape: With batch axis.
        is_single: Whether the file's array lacks that axis: it is one sample.
    """

    file: FileBytes
    array: str
    shape: tuple[int, ...]
    is_single: bool


@dataclass(frozen=True, slots=True, eq=False)
class PartRows:
    """The rows of many files, one after the other.

    Attributes:
        parts: The files' arrays.
        starts: int64, (parts + 1,): the first row of each part, and the number of all rows.
        opened: What opens a part's file.
    """

    parts: tuple[Part, ...]
    starts: npt.NDArray[np.int64]
    opened: _Opened

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, index: int) -> Array:
        number = int(np.searchsorted(self.starts, index, side="right")) - 1
        part = self.parts[number]
        try:
            rows = self.opened(part.file.path, part.array)
            if part.is_single:
                rows = with_batch_axis(rows)
            return np.asarray(rows[index - int(self.starts[number])])
        except (CalibrationError, OSError, EOFError, ValueError, IndexError) as error:
            part.file.check()
            is_told = isinstance(error, CalibrationError)
            reason = f"{str(part.file.path)!r} cannot be read: {one_line(error)}"
            raise UnreadableSampleError(str(error) if is_told else reason) from error


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """Arrays that belong together: one per input, with the same number of samples."""

    name: str
    parts: Mapping[str, Part]
    label: Part | None = None


def open_array_folder(
    folder: Path, names: Sequence[str], inputs: Sequence[TensorSpec]
) -> ArraySource:
    """Samples from the ``.npy`` and ``.npz`` files of a folder.

    A file holds samples along the first axis, or one sample where it lacks that axis by rank. For
    several inputs: ``.npz`` with an array per input, or a sub-folder per input, named as it, whose
    files are matched in sorted order.

    Args:
        folder: The root.
        names: The files' paths below it, with ``/``, in the order of the samples.
        inputs: What the network wants.

    Raises:
        CalibrationError: A file cannot be read or does not fit, or sub-folders differ.
        EmptyDatasetError: The files hold no sample.
    """
    by_input = {
        spec.name: [name for name in names if name.startswith(f"{spec.name}/")] for spec in inputs
    }
    if len(inputs) > 1 and all(by_input.values()):
        groups = _groups_of_folders(folder, by_input, inputs)
    else:
        groups = [_group_of_file(folder, name, inputs) for name in names]
    return _source_of_groups(groups, inputs)


def onnx_test_sets(folder: Path) -> list[Path]:
    """ONNX's test data: the folder itself, or its ``test_data_set_N`` in order of N; or none."""
    if (folder / "input_0.pb").is_file():
        return [folder]
    with os.scandir(folder) as entries:
        found = [
            (int(match[1]), folder / entry.name)
            for entry in entries
            if (match := _TEST_SET.fullmatch(entry.name)) and entry.is_dir()
        ]
    sets = [entry for _, entry in sorted(found)]
    return sets if any((entry / "input_0.pb").is_file() for entry in sets) else []


def open_test_sets(sets: Sequence[Path], inputs: Sequence[TensorSpec]) -> ArraySource:
    """Samples from ``input_0.pb``, ``input_1.pb`` ... of ONNX's test data.

    Tensors are matched with inputs by name where all names are there, else by number.

    Raises:
        CalibrationError: A file holds no tensor, or there are other inputs than the model's.
        EmptyDatasetError: A tensor holds no sample.
    """
    return _source_of_groups([_group_of_test_set(folder, inputs) for folder in sets], inputs)


def _groups_of_folders(
    folder: Path, by_input: Mapping[str, Sequence[str]], inputs: Sequence[TensorSpec]
) -> list[_Group]:
    counts = {name: len(files) for name, files in by_input.items()}
    if len(set(counts.values())) > 1:
        text = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise CalibrationError(
            f"the sub-folders of {str(folder)!r} differ in their number of files ({text}); "
            "save one file per sample or batch in each"
        )
    groups: list[_Group] = []
    for files in zip(*by_input.values(), strict=True):
        parts: dict[str, Part] = {}
        for spec, file in zip(inputs, files, strict=True):
            parts |= _group_of_file(folder, file, [spec]).parts
        groups.append(_Group(files[0].removeprefix(f"{inputs[0].name}/"), parts))
    return groups


def _group_of_file(folder: Path, name: str, inputs: Sequence[TensorSpec]) -> _Group:
    path = folder / name
    headers = array_headers(path)
    chosen = matched(headers, inputs, repr(str(path)))
    parts = {
        spec.name: _part(path, chosen[spec.name], headers[chosen[spec.name]].shape, spec)
        for spec in inputs
    }
    label = None
    if LABEL_NAME in headers and LABEL_NAME not in chosen.values():
        header = headers[LABEL_NAME]
        single = not header.shape
        shape = header.shape or (1,)
        count = count_of({name: part.shape for name, part in parts.items()}, repr(str(path)))
        check_labels(header.dtype, shape, count, repr(str(path)))
        label = Part(FileBytes.of(path), LABEL_NAME, shape, single)
    return _Group(name, parts, label)


def _group_of_test_set(folder: Path, inputs: Sequence[TensorSpec]) -> _Group:
    files = _test_inputs(folder)
    tensors = [read_tensor(file) for file in files]
    names = [tensor.name for tensor in tensors]
    wanted = [spec.name for spec in inputs]
    if len(files) != len(inputs):
        raise CalibrationError(
            f"{str(folder)!r} holds {len(files)} inputs ({', '.join(f.name for f in files)}); "
            f"the model wants {len(wanted)}: {', '.join(wanted)}"
        )
    order = (
        [names.index(name) for name in wanted] if set(names) == set(wanted) else range(len(wanted))
    )
    parts = {
        spec.name: _part(files[number], "", tensors[number].array.shape, spec)
        for spec, number in zip(inputs, order, strict=True)
    }
    return _Group(folder.name, parts)


def _test_inputs(folder: Path) -> list[Path]:
    found = [
        (int(match[1]), file)
        for file in folder.iterdir()
        if (match := _TEST_INPUT.fullmatch(file.name)) and file.is_file()
    ]
    return [file for _, file in sorted(found)]


def _part(path: Path, array: str, shape: tuple[int, ...], spec: TensorSpec) -> Part:
    single = lacks_batch_axis(shape, spec)
    if spec.shape is not None and not single and len(shape) != len(spec.shape):
        raise CalibrationError(
            f"the array of {str(path)!r} for input {spec.name!r} has shape {shape}; "
            f"expected {len(spec.shape)} axes, or one less for a single sample"
        )
    return Part(FileBytes.of(path), array, (1, *shape) if single else shape, single)


def _source_of_groups(groups: Sequence[_Group], inputs: Sequence[TensorSpec]) -> ArraySource:
    counts = [
        count_of({name: part.shape for name, part in group.parts.items()}, repr(group.name))
        for group in groups
    ]
    refuse_empty(sum(counts), "the folder")
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
    opened = _remembered(_OPEN_FILES * len(inputs))
    columns = {
        spec.name: PartRows(tuple(group.parts[spec.name] for group in groups), starts, opened)
        for spec in inputs
    }
    names = tuple(
        name
        for group, count in zip(groups, counts, strict=True)
        for name in ([group.name] if count == 1 else names_of(group.name, count))
    )
    files = dict.fromkeys(part.file.path for group in groups for part in group.parts.values())
    return ArraySource(names, columns, stamp_of(names, files), True, _labels(groups))


def _labels(groups: Sequence[_Group]) -> npt.NDArray[np.int64] | None:
    """The labels, where every file holds them."""
    parts = [group.label for group in groups if group.label is not None]
    if len(parts) < len(groups):
        return None
    return np.concatenate(
        [np.atleast_1d(read_whole(part.file.path, part.array)).astype(np.int64) for part in parts]
    )


def _remembered(size: int) -> _Opened:
    """``open_rows``, where the last files stay open; one thread at a time unpacks."""
    remember, lock = lru_cache(size)(open_rows), Lock()

    def opened(path: Path, array: str) -> Rows:
        with lock:
            return remember(path, array)

    return opened
