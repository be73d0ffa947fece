"""Feeds: dicts of arrays as onnxruntime is fed, from a list, a stream or a calibration reader."""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count as numbers
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
    name_of,
    names_of,
    refuse_empty,
)
from quantkit.calibration.data_functions import users_code
from quantkit.calibration.spool import ByteStore, spooled, stamp_of
from quantkit.errors import CalibrationError
from quantkit.graph.program import Array, TensorSpec

_END = object()

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
    with closing(_samples(feeds, inputs, where)) as samples:
        if isinstance(feeds, list | tuple):
            kept: dict[str, list[Array]] = {spec.name: [] for spec in inputs}
            for sample in samples:
                for name, row in sample.items():
                    kept[name].append(row)
                    layout[name].append((0, row.shape, row.dtype))
            columns = dict(kept)
        else:
            store = spooled(_chunks(islice(samples, most), layout), "the data of " + where)
            columns = {name: SpooledRows(store, tuple(places)) for name, places in layout.items()}
    count = len(next(iter(columns.values())))
    refuse_empty(count, "the data of " + where)
    facts = (
        f"{name} {dtype} {shape}" for name, places in layout.items() for _, shape, dtype in places
    )
    return ArraySource(names_of(where, count), columns, stamp_of((where, *facts)))


def _samples(
    feeds: FeedReader | Iterable[Mapping[str, Any]], inputs: Sequence[TensorSpec], where: str
) -> Generator[dict[str, Array], None, None]:
    specs = {spec.name: spec for spec in inputs}
    with closing(_items(feeds, where)) as items:
        for number, feed in enumerate(items):
            item = f"item {number}"
            if not isinstance(feed, Mapping):
                raise CalibrationError(
                    f"{item} of the data is a {type(feed).__name__}, "
                    "expected a dict of arrays by input name"
                )
            with users_code(f"the names of {item} cannot be had"):
                keys = {name_of(key): key for key in feed}
            arrays: dict[str, Array] = {}
            for name, found in matched(keys, inputs, item).items():
                with users_code(f"{found} of {item} cannot be had"):
                    value = feed[keys[found]]
                array = array_of(value, name, item)
                arrays[name] = (
                    array[np.newaxis] if lacks_batch_axis(array.shape, specs[name]) else array
                )
            shapes = {name: array.shape for name, array in arrays.items()}
            for index in range(count_of(shapes, item)):
                yield {name: array[index] for name, array in arrays.items()}


def _items(
    feeds: FeedReader | Iterable[Mapping[str, Any]], where: str
) -> Generator[object, None, None]:
    """What the user gives, one after the other; None ends it only where a reader returns it."""
    with users_code(f"item 0 of {where} cannot be had"):
        rest = feeds if isinstance(feeds, FeedReader) else iter(feeds)
    try:
        for number in numbers():
            with users_code(f"item {number} of {where} cannot be had"):
                item: object
                if isinstance(rest, FeedReader):
                    item = rest.get_next()
                    item = _END if item is None else item
                else:
                    item = next(rest, _END)
            if item is _END:
                return
            yield item
    finally:
        # Left to Python, it would end later, and its errors be printed as a traceback.
        if isinstance(rest, Generator):
            with users_code(f"{where} failed when it was closed"):
                rest.close()


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
