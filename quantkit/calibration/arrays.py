"""Arrays as samples: rows of arrays matched with the network's inputs.

Arrays hold what the network is fed: they are cast to its dtype and otherwise left alone. The first
axis runs over samples.
"""

import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from quantkit.calibration.data_functions import users_code
from quantkit.calibration.spool import one_line, stamp_of
from quantkit.errors import CalibrationError, EmptyDatasetError, UnreadableSampleError
from quantkit.graph.program import Array, TensorSpec

LABEL_NAME = "label"
_DAMAGE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


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
        stamp: See :class:`quantkit.calibration.dataset.Source`.
        splittable: See there.
        labels: int64, one per sample, where the data hold them.
    """

    names: tuple[str, ...]
    columns: Mapping[str, Rows]
    stamp: str
    splittable: bool = False
    labels: npt.NDArray[np.int64] | None = None

    def read(self, index: int) -> dict[str, Array]:
        """One sample: an array per input, as stored, without batch axis.

        Raises:
            UnreadableSampleError: Its file is damaged.
            CalibrationError: Its file was removed or cut since the data were opened.
        """
        try:
            return {name: np.asarray(rows[index]) for name, rows in self.columns.items()}
        except _DAMAGE as error:
            raise UnreadableSampleError(
                f"sample {self.names[index]!r} cannot be read: {one_line(error)}"
            ) from error


def source_of(arrays: Mapping[str, Any], inputs: Sequence[TensorSpec], where: str) -> ArraySource:
    """Arrays in memory as samples.

    Args:
        arrays: By input name, or one of any name for one input; ``label`` is taken as class labels
            unless it is an input.
        inputs: What the network wants.
        where: What the arrays came from, for names and messages.

    Raises:
        CalibrationError: An input has no array, lengths differ, labels are no integers, or the
            mapping fails.
        EmptyDatasetError: There is no sample.
    """
    with users_code(f"the arrays of {where} cannot be had"):
        given = {name_of(key): arrays[key] for key in arrays}
    found = {name: array_of(value, name, where) for name, value in given.items()}
    chosen = matched(found, inputs, where)
    columns = {name: found[array] for name, array in chosen.items()}
    count = count_of({name: rows.shape for name, rows in columns.items()}, where)
    refuse_empty(count, where)
    labels = None
    if LABEL_NAME in found and LABEL_NAME not in chosen.values():
        labels = found[LABEL_NAME]
        check_labels(labels.dtype, labels.shape, count, where)
        labels = labels.astype(np.int64)
    facts = (f"{name} {array.dtype} {array.shape}" for name, array in columns.items())
    return ArraySource(names_of(where, count), columns, stamp_of((where, *facts)), labels=labels)


def array_of(value: Any, name: str, where: str) -> Array:
    """A value as an array.

    Raises:
        CalibrationError: It is none (lists of different lengths), fails to become one, or holds
            Python objects.
    """
    with users_code(f"{name or 'the array'} of {where} is no array"):
        array = np.asarray(value)
    if array.dtype.hasobject:
        raise CalibrationError(
            f"{name or 'the array'} of {where} holds Python objects ({type(value).__name__}); "
            "give arrays of numbers"
        )
    return array


def matched(names: Collection[str], inputs: Sequence[TensorSpec], where: str) -> dict[str, str]:
    """Which array feeds which input: the one of its name, or a single array the single input.

    Raises:
        CalibrationError: An input has no array.
    """
    wanted = [spec.name for spec in inputs]
    others = [name for name in names if name != LABEL_NAME]
    if all(name in names for name in wanted):
        return {name: name for name in wanted}
    if len(wanted) == 1 and len(others) == 1:
        return {wanted[0]: others[0]}
    got = ", ".join(name or "one unnamed array" for name in names) or "nothing"
    raise CalibrationError(
        f"{where} holds {got}; the model wants {', '.join(wanted)}: "
        "save one array per input with np.savez under these names"
    )


def count_of(shapes: Mapping[str, tuple[int, ...]], where: str) -> int:
    """How many samples arrays of these shapes hold, which must be the same number for all.

    Raises:
        CalibrationError: A scalar, or the numbers differ.
    """
    scalars = [name for name, shape in shapes.items() if not shape]
    if scalars:
        raise CalibrationError(
            f"{scalars[0]} of {where} is a scalar; the first axis runs over samples"
        )
    counts = {name: shape[0] for name, shape in shapes.items()}
    if len(set(counts.values())) > 1:
        text = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise CalibrationError(f"the arrays of {where} differ in their number of samples ({text})")
    return next(iter(counts.values()))


def refuse_empty(count: int, where: str) -> None:
    """Raise where there is no sample.

    Raises:
        EmptyDatasetError: The count is 0.
    """
    if count == 0:
        raise EmptyDatasetError(f"{where} holds no sample: the first axis has length 0")


def check_labels(dtype: np.dtype[Any], shape: tuple[int, ...], count: int, where: str) -> None:
    """Whether an array of labels has a class per sample.

    Raises:
        CalibrationError: It has not.
    """
    if dtype.kind not in "iu" or shape != (count,):
        raise CalibrationError(
            f"{LABEL_NAME} of {where} is {dtype} of shape {shape}, expected "
            f"integers of shape ({count},): one class per sample"
        )


def name_of(key: object) -> str:
    """A key of the user's mapping as a name; any other key than a string by its text."""
    return key if isinstance(key, str) else one_line(key)


def names_of(where: str, count: int) -> tuple[str, ...]:
    """Names of the rows of one array."""
    return tuple(f"{where}[{index}]" for index in range(count))


def lacks_batch_axis(shape: tuple[int, ...], spec: TensorSpec) -> bool:
    """Whether an array of this shape is one sample, by its rank."""
    return spec.shape is not None and len(shape) + 1 == len(spec.shape)
