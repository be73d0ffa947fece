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
from dataclasses import dataclass
from math import inf

import numpy as np

from quantkit.calibration.batches import Batch, none_readable, readable_batches
from quantkit.calibration.dataset import Dataset
from quantkit.calibration.parts import Interval, Part
from quantkit.calibration.statistics import RunningStatistics, observe
from quantkit.calibration.table import CalibrationTable, format_digest, tool_version
from quantkit.errors import CalibrationError, ConfigError, NonFiniteRangeError
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
    batch_size = collector.batch_size if run.can_batch else min(collector.batch_size, 1)
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
            for batch in readable_batches(chosen, batch_size):
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
    """The statistics of one part, joined by several threads.

    Attributes:
        can_batch: Whether every tensor's first axis may be the batch.
    """

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
        self._lock = threading.Lock()
        self._inputs = [name for name, spec in inputs.items() if spec.dtype.kind == "f"]
        self._fetches = [name for name in dict.fromkeys(collector.tensors) if name not in inputs]
        self._statistics = {name: RunningStatistics() for name in [*self._inputs, *self._fetches]}
        self._samples, self._digest = 0, 0
        shapes = [outputs[name].shape for name in self._fetches]
        self.can_batch = not any(shape and isinstance(shape[0], int) for shape in shapes)

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
        run = self._collector.session.run
        outputs = run(batch.arrays, self._fetches) if self._fetches else {}
        if rows > 1 and any(not a.ndim or len(a) != rows for a in outputs.values()):
            self._add_one_by_one(batch, rows)
        else:
            for name in self._fetches:
                self._add_tensor(name, outputs.pop(name), batch.names, whole=rows == 1)
        for name in self._inputs:
            self._add_tensor(name, batch.arrays[name], batch.names, whole=False)
        digest = sum(
            sample_digest({name: array[row] for name, array in batch.arrays.items()})
            for row in range(len(batch.names))
        )
        with self._lock:
            self._samples += len(batch.names)
            self._digest += digest

    def _add_one_by_one(self, batch: Batch, rows: int) -> None:
        """For tensors whose first axis is not the batch."""
        session = self._collector.session
        if isinstance((session.inputs[0].shape or (None,))[0], int):
            raise CalibrationError(
                f"some tensors have no batch axis, and the model insists on batches of {rows}; "
                "export it with a dynamic batch or a batch of 1"
            )
        for row, sample in enumerate(batch.names):
            feeds = {name: array[row : row + 1] for name, array in batch.arrays.items()}
            for name, array in session.run(feeds, self._fetches).items():
                self._add_tensor(name, array, (sample,), whole=True)

    def _add_tensor(self, name: str, array: Array, samples: Sequence[str], *, whole: bool) -> None:
        """Join the statistics of each sample; ``whole``: the array is all of one sample's."""
        for row, sample in enumerate(samples):
            part = array if whole else array[row : row + 1]
            if not part.size:
                continue
            try:
                found = observe(part, exact=self._collector.exact)
            except NonFiniteRangeError as error:
                raise NonFiniteRangeError(
                    f"tensor {name!r} cannot be calibrated on sample {sample!r}: {error}; "
                    "check the preprocessing and the float model"
                ) from error
            with self._lock:
                self._statistics[name].add(found)
