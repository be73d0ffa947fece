"""A source that remembers what was read: recipes read the same samples several times."""

from dataclasses import dataclass, field, replace
from threading import Lock

from quantkit.calibration.dataset import Dataset, Source
from quantkit.graph.program import Array

_MOST_BYTES = 128 * 1024 * 1024
_KEEPING = Lock()


@dataclass(frozen=True, slots=True, eq=False)
class KeptSource:
    """The samples of another source; those read first stay in memory, up to 128 MiB.

    Attributes:
        source: Where samples come from.
        kept: Samples by position; filled as they are read.
        room: How many more bytes may be kept, in its only element.
    """

    source: Source
    kept: dict[int, dict[str, Array]] = field(default_factory=dict)
    room: list[int] = field(default_factory=lambda: [_MOST_BYTES])

    @property
    def names(self) -> tuple[str, ...]:
        """As of the source."""
        return self.source.names

    @property
    def stamp(self) -> str:
        """As of the source."""
        return self.source.stamp

    @property
    def splittable(self) -> bool:
        """As of the source."""
        return self.source.splittable

    def read(self, index: int) -> dict[str, Array]:
        """As of the source; the arrays are not to be written to."""
        found = self.kept.get(index)
        if found is None:
            found = self.source.read(index)
            size = sum(array.nbytes for array in found.values())
            with _KEEPING:
                if index not in self.kept and size <= self.room[0]:
                    self.room[0] -= size
                    self.kept[index] = found
        return found


def with_kept_samples(dataset: Dataset) -> Dataset:
    """The same samples, which are decoded once as far as memory allows."""
    if isinstance(dataset.source, KeptSource):
        return dataset
    return replace(dataset, source=KeptSource(dataset.source))
