"""Samples for a network: what every source of data promises, and how one is opened."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Protocol

import numpy as np
import numpy.typing as npt

from quantkit.calibration.arrays import ArraySource
from quantkit.calibration.pictures import PictureSource
from quantkit.calibration.preprocessing import Preprocessing
from quantkit.calibration.sources import DataSource, open_source
from quantkit.calibration.spool import stamp_of
from quantkit.errors import (
    ConfigError,
    NonFiniteRangeError,
    UnreadableSampleError,
)
from quantkit.graph.program import Array, TensorSpec

logger = logging.getLogger(__name__)

# Of so many skipped samples one learns what is wrong.
_TOLD = 5
_SKIPPING = Lock()

__all__ = ["DataSource", "Dataset", "Source", "open_dataset"]


class Source(Protocol):
    """Samples that can be read in any order, from several threads."""

    @property
    def names(self) -> tuple[str, ...]:
        """A name per sample, unique, in the order of the data."""

    @property
    def stamp(self) -> str:
        """What tells these data from others without reading them: a SHA-256 as hex digits.

        Over the names; for files also their sizes and modification times, for arrays in memory
        their shapes and dtypes.
        """

    @property
    def splittable(self) -> bool:
        """Whether another process that opens the same data finds the same samples."""

    def read(self, index: int) -> dict[str, Array]:
        """Sample ``index``: an array per input, without batch axis.

        Raises:
            UnreadableSampleError: This sample is damaged; others may be sound.
            CalibrationError: The data changed since they were opened: they are no longer the same.
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

    @property
    def stamp(self) -> str:
        """What tells this choice of samples and how they are read from others: a SHA-256, hex.

        See :attr:`Source.stamp`; the samples themselves are not read.
        """
        how = None if self.preprocessing is None else self.preprocessing.to_json()
        positions = ",".join(map(str, self.positions))
        return stamp_of((self.source.stamp, positions, json.dumps(how, sort_keys=True)))

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
            CalibrationError: Its file was removed or cut since the data were opened.
        """
        name = self.sample_names[index]
        try:
            arrays = self.source.read(self.positions[index])
        except UnreadableSampleError as error:
            if self.strict:
                raise
            self.skip(name, str(error))
            return None
        return {spec.name: _fitted(arrays[spec.name], spec, name) for spec in self.inputs}

    def skip(self, name: str, reason: str) -> None:
        """Record that a sample cannot be read, and warn of it: once, and of the first 5 only."""
        with _SKIPPING:
            if name in self.skipped:
                return
            self.skipped[name] = reason
            is_told = len(self.skipped) <= _TOLD
        if is_told:
            logger.warning("skipped: %s", reason)

    def tell_skipped(self) -> None:
        """Warn of how many more samples were skipped than :meth:`skip` warned of: at the end."""
        more = len(self.skipped) - _TOLD
        if more > 0:
            kind = "samples" if self.preprocessing is None else "pictures"
            logger.warning("... and %d more of %d %s skipped", more, len(self), kind)


def open_dataset(
    source: DataSource,
    inputs: Sequence[TensorSpec],
    *,
    preprocessing: Preprocessing | None,
    num_samples: int | None = None,
    default_samples: int | None = None,
    strict: bool = False,
) -> Dataset:
    """Find out what ``source`` is and describe its samples; nothing is decoded yet.

    Args:
        source: A folder of pictures (recursive) or one picture; a tar (also compressed) or zip of
            pictures; an ``.npy`` or ``.npz``, or a folder of such; an ONNX ``test_data_set_N``
            folder or a folder of these; ``package.module:function`` or ``file.py:function``; an
            array, a mapping of arrays by input name, an iterable of dicts as onnxruntime is fed, or
            an onnxruntime ``CalibrationDataReader``.
        inputs: The network's inputs.
        preprocessing: For pictures; arrays are taken as they are.
        num_samples: How many samples, evenly spaced through the data; of a stream (a reader, an
            iterable that is no list) the first ones, and no more are asked of it. None: all.
        default_samples: At most how many where ``num_samples`` is None. None: all.
        strict: Whether an unreadable picture is an error instead of being skipped; also an
            unreadable sub-folder, and an entry that is no regular file.

    Raises:
        CalibrationError: No such file, an unknown kind of data, damaged or unsafe, or it does not
            fit the inputs.
        EmptyDatasetError: No sample.
        ConfigError: ``num_samples`` below 1, or the preprocessing leaves something open.
    """
    if num_samples is not None and num_samples < 1:
        raise ConfigError(f"the number of samples must be at least 1, got {num_samples}")
    most = default_samples if num_samples is None else num_samples
    opened = open_source(source, inputs, preprocessing, most=most, strict=strict)
    count = len(opened.names)
    if num_samples is not None and num_samples > count:
        logger.warning("%d samples asked for, the data hold %d: all are used", num_samples, count)
    # The same pictures as `files[i * len(files) // count]`, the usual evenly spaced choice.
    wanted = count if most is None else min(most, count)
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
