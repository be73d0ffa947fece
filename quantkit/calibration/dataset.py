"""Samples for a network: what every source of data promises, and how one is opened."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from quantkit.calibration.arrays import ArraySource, open_npy, open_npz, source_of, source_of_feeds
from quantkit.calibration.pictures import PictureSource, is_picture, open_pictures
from quantkit.calibration.preprocessing import Preprocessing
from quantkit.errors import (
    CalibrationError,
    ConfigError,
    NonFiniteRangeError,
    UnreadableSampleError,
)
from quantkit.graph.program import Array, TensorSpec

logger = logging.getLogger(__name__)

DataSource = str | Path | npt.NDArray[Any] | Mapping[str, Any] | Iterable[Mapping[str, Any]]


class Source(Protocol):
    """Samples that can be read in any order, from several threads."""

    @property
    def names(self) -> tuple[str, ...]:
        """A name per sample, unique, in the order of the data."""

    def read(self, index: int) -> dict[str, Array]:
        """Sample ``index``: an array per input, without batch axis.

        Raises:
            UnreadableSampleError: This sample is damaged; others may be sound.
        """


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Which samples of a source a network is fed with.

    Attributes:
        source: Where the samples come from.
        inputs: What the network wants; the first axis is the batch.
        positions: The chosen samples' positions in the source.
        sample_names: Their names.
        preprocessing: What turns pictures into arrays; None where the data are arrays already.
        labels: int64, a class per chosen sample, where the data hold them.
        strict: Whether an unreadable sample is an error.
        skipped: Why a sample could not be read, by name; filled as samples are read.
    """

    source: Source
    inputs: tuple[TensorSpec, ...]
    positions: tuple[int, ...]
    sample_names: tuple[str, ...]
    preprocessing: Preprocessing | None = None
    labels: npt.NDArray[np.int64] | None = None
    strict: bool = False
    skipped: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the network's inputs."""
        return tuple(spec.name for spec in self.inputs)

    def take(self, indices: Sequence[int]) -> "Dataset":
        """The samples at ``indices`` (into this dataset), in that order."""
        return replace(
            self,
            positions=tuple(self.positions[index] for index in indices),
            sample_names=tuple(self.sample_names[index] for index in indices),
            labels=None if self.labels is None else self.labels[np.asarray(indices, np.intp)],
        )

    def read(self, index: int) -> dict[str, Array] | None:
        """Sample ``index`` in the network's dtypes, without batch axis.

        Returns:
            An array per input, or None: unreadable, warned of once and recorded in ``skipped``.

        Raises:
            UnreadableSampleError: Unreadable, and ``strict``; or of another shape than the input.
            NonFiniteRangeError: It holds NaN or infinity.
        """
        name = self.sample_names[index]
        try:
            arrays = self.source.read(self.positions[index])
        except UnreadableSampleError as error:
            if self.strict:
                raise
            if name not in self.skipped:
                logger.warning("skipped: %s", error)
            self.skipped[name] = str(error)
            return None
        return {spec.name: _fitted(arrays[spec.name], spec, name) for spec in self.inputs}


def open_dataset(
    source: DataSource,
    inputs: Sequence[TensorSpec],
    *,
    preprocessing: Preprocessing | None,
    num_samples: int | None = None,
    strict: bool = False,
) -> Dataset:
    """Find out what ``source`` is and describe its samples; nothing is decoded yet.

    Args:
        source: A folder of pictures (recursive), a picture, an ``.npy`` or ``.npz``, an array, a
            mapping of arrays by input name, or an iterable of dicts as onnxruntime is fed.
        inputs: The network's inputs.
        preprocessing: For pictures; arrays are taken as they are.
        num_samples: How many samples, evenly spaced through the data; None: all.
        strict: Whether an unreadable picture is an error instead of being skipped.

    Raises:
        CalibrationError: No such file, an unknown kind of file, or it does not fit the inputs.
        EmptyDatasetError: No sample.
        ConfigError: ``num_samples`` below 1, or the preprocessing leaves something open.
    """
    if num_samples is not None and num_samples < 1:
        raise ConfigError(f"the number of samples must be at least 1, got {num_samples}")
    opened = _open(source, inputs, preprocessing)
    count = len(opened.names)
    if num_samples is not None and num_samples > count:
        logger.warning("%d samples asked for, the data hold %d: all are used", num_samples, count)
        num_samples = None
    # The same pictures as `files[i * len(files) // count]`, the usual evenly spaced choice.
    wanted = count if num_samples is None else num_samples
    positions = tuple(index * count // wanted for index in range(wanted))
    whole = Dataset(
        source=opened,
        inputs=tuple(inputs),
        positions=tuple(range(count)),
        sample_names=opened.names,
        preprocessing=opened.preprocessing if isinstance(opened, PictureSource) else None,
        labels=opened.labels if isinstance(opened, ArraySource) else None,
        strict=strict,
    )
    return whole.take(positions)


def _open(
    source: DataSource, inputs: Sequence[TensorSpec], preprocessing: Preprocessing | None
) -> PictureSource | ArraySource:
    match source:
        case str() | Path():
            return _open_path(Path(source), inputs, preprocessing)
        case np.ndarray():
            return source_of({"": source}, inputs, "array")
        case Mapping():
            arrays = {name: np.asarray(array) for name, array in source.items()}
            return source_of(arrays, inputs, "array")
        case Iterable():
            return source_of_feeds(source, inputs)
    raise CalibrationError(
        f"data of type {type(source).__name__} is not supported; give a folder of pictures, "
        "an .npy, an .npz, an array, a dict of arrays or an iterable of dicts"
    )


def _open_path(
    path: Path, inputs: Sequence[TensorSpec], preprocessing: Preprocessing | None
) -> PictureSource | ArraySource:
    if not path.exists():
        raise CalibrationError(
            f"data {str(path)!r} does not exist; give a folder of pictures, an .npy or an .npz"
        )
    suffix = path.suffix.lower()
    if path.is_dir() or is_picture(path):
        return open_pictures(path, inputs, preprocessing)
    if suffix == ".npy":
        return open_npy(path, inputs)
    if suffix == ".npz":
        return open_npz(path, inputs)
    raise CalibrationError(
        f"data {str(path)!r} is no kind of data quantkit knows; give a folder of pictures, "
        "an .npy or an .npz"
    )


def _fitted(array: Array, spec: TensorSpec, sample: str) -> Array:
    expected = None if spec.shape is None else spec.shape[1:]
    fits = expected is None or (
        len(expected) == array.ndim
        and all(
            not isinstance(d, int) or d == n for d, n in zip(expected, array.shape, strict=True)
        )
    )
    if not fits:
        wanted = tuple("?" if d is None else d for d in expected or ())
        raise UnreadableSampleError(
            f"sample {sample!r} has shape {array.shape} for input {spec.name!r}, expected "
            f"{_text(wanted)} (both without the batch axis)"
        )
    if array.dtype.kind not in ("fiub" if spec.dtype.kind == "f" else "iub"):
        raise UnreadableSampleError(
            f"sample {sample!r} is {array.dtype} for input {spec.name!r}, expected {spec.dtype}"
        )
    with np.errstate(over="ignore"):  # an infinity is refused below
        cast = array.astype(spec.dtype)
    if cast.dtype.kind == "f" and not np.isfinite(cast).all():
        bad = "NaN" if np.isnan(cast).any() else "infinity"
        raise NonFiniteRangeError(
            f"sample {sample!r} holds {bad} for input {spec.name!r}; repair or remove it"
        )
    return cast


def _text(shape: Sequence[object]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
