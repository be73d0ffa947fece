"""Feeds: dicts of arrays as onnxruntime is fed, from a list, a stream or a calibration reader."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import numpy as np

from quantkit.calibration.arrays import (
    ArraySource,
    Rows,
    array_of,
    count_of,
    lacks_batch_axis,
    matched,
    names_of,
    refuse_empty,
)
from quantkit.calibration.spool import ByteStore, one_line, spooled, stamp_of
from quantkit.errors import CalibrationError, QuantkitError
from quantkit.graph.program import Array, TensorSpec

_Place = tuple[int, tuple[int, ...], np.dtype[Any]]


@runtime_checkable
class FeedReader(Protocol):
    """What onnxruntime calls a ``CalibrationDataReader``."""

    def get_next(self) -> Mapping[str, Any] | None:
        """The next feed, or None at the end."""


@dataclass(frozen=True, slots=True, eq=False)
class SpooledRows:
    """Rows of any shape, one after the other in an anonymous temporary file.

    Attributes:
        store: Their bytes.
        places: Offset, shape and dtype of each.
    """

    store: ByteStore
    places: tuple[_Place, ...]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Array:
        offset, shape, dtype = self.places[index]
        data = self.store.read_at(offset, dtype.itemsize * int(np.prod(shape, dtype=np.int64)))
        return np.frombuffer(data, dtype).reshape(shape)


def open_feeds(
    feeds: FeedReader | Iterable[Mapping[str, Any]],
    inputs: Sequence[TensorSpec],
    where: str,
    most: int | None,
) -> ArraySource:
    """Samples from dicts of arrays by input name, with batch axis.

    A dict whose arrays lack the batch axis by rank is one sample. A list or tuple is in memory and
    stays there; from anything else the rows go to an anonymous temporary file as they arrive.

    Args:
        feeds: The dicts.
        inputs: What the network wants.
        where: Where they come from, for names.
        most: After how many samples a stream is left; a list is taken whole.

    Raises:
        CalibrationError: A dict lacks an input, its arrays differ in length, or the stream fails.
        EmptyDatasetError: There is no sample.
    """
    layout: dict[str, list[_Place]] = {spec.name: [] for spec in inputs}
    columns: dict[str, Rows]
    if isinstance(feeds, list | tuple):
        kept: dict[str, list[Array]] = {spec.name: [] for spec in inputs}
        for sample in _samples(feeds, inputs, where):
            for name, row in sample.items():
                kept[name].append(row)
                layout[name].append((0, row.shape, row.dtype))
        columns = dict(kept)
    else:
        chunks = _chunks(islice(_samples(feeds, inputs, where), most), layout)
        store = spooled(chunks, "the data of " + where)
        columns = {name: SpooledRows(store, tuple(places)) for name, places in layout.items()}
    count = len(next(iter(columns.values())))
    refuse_empty(count, "the data of " + where)
    facts = (
        f"{name} {dtype} {shape}" for name, places in layout.items() for _, shape, dtype in places
    )
    return ArraySource(names_of(where, count), columns, stamp_of((where, *facts)))


def _samples(
    feeds: FeedReader | Iterable[Mapping[str, Any]], inputs: Sequence[TensorSpec], where: str
) -> Iterator[dict[str, Array]]:
    specs = {spec.name: spec for spec in inputs}
    for number, feed in enumerate(_items(feeds, where)):
        if not isinstance(feed, Mapping):
            raise CalibrationError(
                f"item {number} of the data is a {type(feed).__name__}, "
                "expected a dict of arrays by input name"
            )
        item = f"item {number}"
        arrays: dict[str, Array] = {}
        for name, key in matched(feed, inputs, item).items():
            array = array_of(feed[key], name, item)
            arrays[name] = (
                array[np.newaxis] if lacks_batch_axis(array.shape, specs[name]) else array
            )
        for index in range(count_of({name: array.shape for name, array in arrays.items()}, item)):
            yield {name: array[index] for name, array in arrays.items()}


def _items(
    feeds: FeedReader | Iterable[Mapping[str, Any]], where: str
) -> Iterator[Mapping[str, Any]]:
    number = 0
    try:
        following = (
            feeds.get_next if isinstance(feeds, FeedReader) else partial(next, iter(feeds), None)
        )
        while (item := following()) is not None:
            yield item
            number += 1
    except QuantkitError:
        raise
    except Exception as error:  # the user's own code may raise anything
        raise CalibrationError(
            f"item {number} of {where} cannot be had: {type(error).__name__}: {one_line(error)}"
        ) from error


def _chunks(
    samples: Iterable[Mapping[str, Array]],
    layout: Mapping[str, list[_Place]],
) -> Iterator[bytes]:
    """The samples' bytes, while ``layout`` is filled with where they go."""
    offset = 0
    for sample in samples:
        for name, row in sample.items():
            layout[name].append((offset, row.shape, row.dtype))
            offset += row.nbytes
            yield row.tobytes()
