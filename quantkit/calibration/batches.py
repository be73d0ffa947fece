"""Samples of a dataset, read ahead in threads and stacked into batches."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from quantkit.calibration.dataset import Dataset
from quantkit.errors import ConfigError, UnreadableSampleError
from quantkit.graph.program import Array, TensorSpec

_READERS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Consecutive samples, stacked.

    Attributes:
        indices: Of the samples in the dataset.
        names: Of the samples.
        arrays: By input name, with batch axis. A network with a fixed batch gets it filled: rows
            beyond ``len(names)`` repeat the last sample and mean nothing.
    """

    indices: tuple[int, ...]
    names: tuple[str, ...]
    arrays: Mapping[str, Array]


def batches(dataset: Dataset, batch_size: int) -> Iterator[Batch]:
    """As :func:`readable_batches`, but at least one.

    Raises:
        UnreadableSampleError: Not one sample could be read; or see :meth:`Dataset.read`.
    """
    any_read = False
    for batch in readable_batches(dataset, batch_size):
        any_read = True
        yield batch
    if not any_read:
        raise none_readable(dataset)


def none_readable(dataset: Dataset) -> UnreadableSampleError:
    """What to raise where no sample of the dataset could be read."""
    first = next(iter(dataset.skipped.values()), "the dataset is empty")
    return UnreadableSampleError(f"none of the {len(dataset)} samples can be read; {first}")


def readable_batches(dataset: Dataset, batch_size: int) -> Iterator[Batch]:
    """The dataset's samples in order, stacked; the next ones are read in threads meanwhile.

    A fixed batch dimension of the network overrides ``batch_size``. A batch ends early where the
    shape of the samples changes.

    Raises:
        ConfigError: ``batch_size`` is below 1.
        UnreadableSampleError, NonFiniteRangeError: See :meth:`Dataset.read`.
    """
    if batch_size < 1:
        raise ConfigError(f"the batch size must be at least 1, got {batch_size}")
    fixed = fixed_batch(dataset.inputs)
    size = fixed or batch_size
    indices: list[int] = []
    rows: list[dict[str, Array]] = []

    def stacked() -> Batch:
        padding = fixed - len(rows) if fixed else 0
        filled = [*rows, *rows[-1:] * padding]
        arrays = {name: np.stack([row[name] for row in filled]) for name in dataset.input_names}
        return Batch(tuple(indices), tuple(dataset.sample_names[i] for i in indices), arrays)

    for index, row in _prefetched(dataset, ahead=size + _READERS):
        if row is None:
            continue
        if rows and (len(rows) == size or _shapes(row) != _shapes(rows[0])):
            yield stacked()
            indices, rows = [], []
        indices.append(index)
        rows.append(row)
    if rows:
        yield stacked()


def fixed_batch(inputs: Sequence[TensorSpec]) -> int | None:
    """The batch dimension the network insists on, or None."""
    sizes = [spec.shape[0] for spec in inputs if spec.shape]
    return next((size for size in sizes if isinstance(size, int)), None)


def _prefetched(dataset: Dataset, ahead: int) -> Iterator[tuple[int, dict[str, Array] | None]]:
    with ThreadPoolExecutor(_READERS, thread_name_prefix="quantkit-read") as pool:
        pending: deque[tuple[int, Future[dict[str, Array] | None]]] = deque()
        try:
            for index in range(len(dataset)):
                pending.append((index, pool.submit(dataset.read, index)))
                if len(pending) > ahead:
                    done, future = pending.popleft()
                    yield done, future.result()
            while pending:
                done, future = pending.popleft()
                yield done, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _shapes(row: Mapping[str, Array]) -> tuple[tuple[int, ...], ...]:
    return tuple(array.shape for array in row.values())
