"""One pass over the data: run the float network, keep statistics, forget the activations.

The table's bytes depend on the samples only, not on batch size, order or threads: onnxruntime runs
with one thread per batch (its results are then the same for any batch size), every statistic is
computed per sample, and samples are joined by operations without rounding.
"""

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from math import inf

import numpy as np

from quantkit.calibration.batches import Batch, fixed_batch, none_readable, readable_batches
from quantkit.calibration.dataset import Dataset
from quantkit.calibration.parts import Interval, Part
from quantkit.calibration.statistics import RunningStatistics, observe
from quantkit.calibration.table import CalibrationTable, format_digest, tool_version
from quantkit.errors import CalibrationError, ConfigError, NonFiniteRangeError
from quantkit.graph.channel_outputs import ChannelOutputs, output_names
from quantkit.graph.ort_session import OrtSession
from quantkit.graph.program import Array

Progress = Callable[[int, int], None]
"""Called with the samples done and the samples in all."""

# A pause takes what the last batches need to finish; this share of the time may go to pauses.
_PAUSE_SHARE = 1 / 20


@dataclass(frozen=True, slots=True, eq=False)
class Collector:
    """What is collected, and of which network; the same for every part of a pass.

    Attributes:
        session: Opened with ``threads=1``; every tensor is one of its outputs or inputs.
        tensors: Floating tensors; a graph input may be among them.
        channels: Outputs of the session with tensors' minima, maxima and means per channel, where
            it has such.
        model_digest: Of the source model, for the table.
        model_name: The model's name for people, for the table.
        exact: Count every value, not only the far tails and a sample of the rest.
        batch_size: Samples per run; the network's fixed batch overrides it. 1 is the fastest but
            for very small networks: activations stay in the cache.
        threads: Batches in the works at a time.
    """

    session: OrtSession
    tensors: Sequence[str]
    model_digest: str
    model_name: str = ""
    channels: Mapping[str, ChannelOutputs] = field(default_factory=dict)
    exact: bool = False
    batch_size: int = 1
    threads: int = 2

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ConfigError(f"the number of threads must be at least 1, got {self.threads}")


def collect(
    collector: Collector, dataset: Dataset, progress: Progress | None = None
) -> CalibrationTable:
    """Statistics of a network's tensors, and of its inputs, over a dataset in one go.

    Raises:
        UnreadableSampleError: Not one sample could be read.
        QuantkitError: See :func:`collect_parts`.
    """
    (part,) = collect_parts(collector, dataset, (0, len(dataset)), progress=progress)
    if not part.table.sample_count:
        raise none_readable(dataset)
    return part.table


def collect_parts(
    collector: Collector,
    dataset: Dataset,
    interval: Interval,
    *,
    seconds: float = inf,
    progress: Progress | None = None,
) -> Iterator[Part]:
    """The statistics of some samples of a dataset, part by part.

    Memory holds at most ``threads`` batches of activations and ``2 * threads`` batches of inputs.

    Args:
        collector: What is collected.
        dataset: What to feed.
        interval: Which samples of it.
        seconds: After how long a part ends; it is longer where pauses would cost much.
        progress: Told after every batch: samples done since ``interval[0]``, samples in all.

    Raises:
        ConfigError: A tensor is not at hand or not floating; ``batch_size`` below 1.
        NonFiniteRangeError: A tensor holds NaN or infinity; tensor and sample are named.
        CalibrationError: See :mod:`quantkit.calibration.dataset`; or a tensor cannot be divided
            among the samples of a network with a fixed batch.
    """
    first, stop = interval
    chosen = dataset.take(range(first, stop))
    reached, part_began = 0, time.monotonic()
    run = _Pass(collector)
    with ThreadPoolExecutor(collector.threads, thread_name_prefix="quantkit-collect") as pool:
        pending: deque[tuple[Batch, Future[None]]] = deque()
        part_first = first

        def finish_oldest() -> None:
            nonlocal reached
            batch, future = pending.popleft()
            future.result()
            reached = batch.indices[-1] + 1
            if progress is not None:
                progress(reached, stop - first)

        try:
            for batch in readable_batches(chosen, collector.batch_size):
                pending.append((batch, pool.submit(run.add, batch)))
                if len(pending) > collector.threads:
                    finish_oldest()
                if (now := time.monotonic()) - part_began < seconds:
                    continue
                while pending:
                    finish_oldest()
                yield Part((part_first, first + reached), run.table(dataset))
                part_first, part_began = first + reached, time.monotonic()
                seconds = max(seconds, (part_began - now) / _PAUSE_SHARE)
                run = _Pass(collector)
            while pending:
                finish_oldest()
        finally:
            pool.shutdown(cancel_futures=True)
    if progress is not None and reached < stop - first:  # the last samples were skipped
        progress(stop - first, stop - first)
    yield Part((part_first, stop), run.table(dataset))


def sample_digest(arrays: Mapping[str, Array]) -> int:
    """SHA-256 of one preprocessed sample: name, dtype, shape and little-endian bytes per input."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        stored = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        digest.update(f"{name}\0{stored.dtype.str}\0{array.shape}\0".encode())
        digest.update(stored.tobytes())
    return int.from_bytes(digest.digest(), "big")


class _Pass:
    """The statistics of one part, joined by several threads."""

    def __init__(self, collector: Collector) -> None:
        session = collector.session
        inputs = {spec.name: spec for spec in session.inputs}
        outputs = {spec.name: spec for spec in session.outputs}
        for name in collector.tensors:
            spec = outputs.get(name) or inputs.get(name)
            if spec is None:
                raise ConfigError(
                    f"tensor {name!r} is no output of the session; add it to the model"
                )
            if spec.dtype.kind != "f":
                raise ConfigError(
                    f"tensor {name!r} is {spec.dtype}; ranges are of floating tensors"
                )
        self._collector = collector
        self._lock, self._totals = threading.Lock(), threading.Lock()
        self._inputs = [name for name, spec in inputs.items() if spec.dtype.kind == "f"]
        fetched = [name for name in dict.fromkeys(collector.tensors) if name not in inputs]
        self._statistics = {name: RunningStatistics() for name in [*self._inputs, *fetched]}
        self._fetches = [*fetched, *output_names(collector.channels)]
        self._samples, self._digest = 0, 0
        self._fixed = fixed_batch(session.inputs)
        self._divides: bool | None = None

    def table(self, dataset: Dataset) -> CalibrationTable:
        """What was added so far."""
        return CalibrationTable(
            statistics={n: r.result() for n, r in self._statistics.items() if not r.is_empty},
            model_digest=self._collector.model_digest,
            model_name=self._collector.model_name,
            data_digest=format_digest(self._digest),
            sample_count=self._samples,
            exact=self._collector.exact,
            preprocessing=dataset.preprocessing,
            tool_version=tool_version(),
        )

    def add(self, batch: Batch) -> None:
        """Run one batch and join its statistics."""
        rows = len(next(iter(batch.arrays.values())))
        if self._fetches and rows > 1 and not self._divides_by_samples(batch):
            self._refuse_fixed_batch()
            for row, sample in enumerate(batch.names):
                feeds = {name: array[row : row + 1] for name, array in batch.arrays.items()}
                self._observe(self._values(feeds), (sample,), whole=True)
        else:
            self._observe(self._values(batch.arrays), batch.names, whole=rows == 1)
        digest = sum(
            sample_digest({name: array[row] for name, array in batch.arrays.items()})
            for row in range(len(batch.names))
        )
        with self._totals:
            self._samples += len(batch.names)
            self._digest += digest

    def _values(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All tensors to observe, by name."""
        values = self._collector.session.run(feeds, self._fetches) if self._fetches else {}
        return values | {name: feeds[name] for name in self._inputs}

    def _divides_by_samples(self, batch: Batch) -> bool:
        """Whether the first axis of every tensor is the batch, found out by trying.

        One sample and two are run: no other axis has length 1 and then 2. Where the batch is fixed
        its length must do.
        """
        with self._lock:
            if self._divides is None:
                run = self._collector.session.run
                self._divides = all(
                    array.ndim > 0 and len(array) == rows
                    for rows in ((self._fixed,) if self._fixed else (1, 2))
                    for array in run(
                        {name: array[:rows] for name, array in batch.arrays.items()}, self._fetches
                    ).values()
                )
            return self._divides

    def _refuse_fixed_batch(self) -> None:
        if self._fixed:
            raise CalibrationError(
                f"some tensors have no batch axis, and the model insists on batches of "
                f"{self._fixed}; export it with a dynamic batch or a batch of 1"
            )

    def _observe(self, arrays: dict[str, Array], samples: Sequence[str], *, whole: bool) -> None:
        """Join the statistics of each sample and let go of the arrays, one after the other.

        One thread at a time: counting is Python's work, which threads only hinder each other in,
        while onnxruntime goes on beside it.

        Args:
            arrays: By tensor name; the tensors are taken out.
            samples: Their names, in the order of the first axis.
            whole: Whether each array is all of one sample's.
        """
        with self._lock:
            for name, running in self._statistics.items():
                array = np.atleast_1d(arrays.pop(name))  # a value without axes has one number
                own = self._collector.channels.get(name)
                for row, sample in enumerate(samples):
                    part = slice(None) if whole else slice(row, row + 1)
                    if not array[part].size:
                        continue
                    known = None
                    if own is not None:
                        numbers = arrays[own.minimum], arrays[own.maximum], arrays[own.mean]
                        known = (numbers[0][part], numbers[1][part], numbers[2][part])
                    try:
                        found = observe(array[part], exact=self._collector.exact, channels=known)
                    except NonFiniteRangeError as error:
                        raise NonFiniteRangeError(
                            f"tensor {name!r} cannot be calibrated on sample {sample!r}: {error}; "
                            "check the preprocessing and the float model"
                        ) from error
                    running.add(found)
