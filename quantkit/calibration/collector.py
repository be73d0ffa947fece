"""One pass over the data: run the float network, keep statistics, forget the activations.

The table's bytes depend on the samples only, not on batch size, order or threads: onnxruntime runs
with one thread per batch (its results are then the same for any batch size), every statistic is
computed per sample, and samples are joined by operations without rounding.
"""

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from quantkit.calibration.batches import Batch, batches
from quantkit.calibration.dataset import Dataset
from quantkit.calibration.statistics import RunningStatistics, statistics_of_sample
from quantkit.calibration.table import CalibrationTable, format_digest, tool_version
from quantkit.errors import CalibrationError, ConfigError, NonFiniteRangeError
from quantkit.graph.ort_session import OrtSession
from quantkit.graph.program import Array

Progress = Callable[[int, int], None]
"""Called with the samples done and the samples in all."""


def collect(
    session: OrtSession,
    tensors: Sequence[str],
    dataset: Dataset,
    *,
    model_digest: str,
    model_name: str = "",
    batch_size: int = 1,
    threads: int = 2,
    progress: Progress | None = None,
) -> CalibrationTable:
    """Statistics of the named tensors, and of the graph's inputs, over a dataset.

    Memory holds at most ``threads`` batches of activations and ``2 * threads`` batches of inputs.
    Batch size 1 is the fastest but for very small networks: activations stay in the cache.

    Args:
        session: Opened with ``threads=1``; every tensor is one of its outputs or inputs.
        tensors: Floating tensors; a graph input may be among them.
        dataset: What to feed.
        model_digest: Of the source model, for the table.
        model_name: The model's name for people, for the table.
        batch_size: Samples per run; the network's fixed batch overrides it.
        threads: Batches in the works at a time.
        progress: Told after every batch.

    Raises:
        ConfigError: A tensor is not at hand or not floating; ``threads`` or ``batch_size`` below 1.
        NonFiniteRangeError: A tensor holds NaN or infinity; tensor and sample are named.
        CalibrationError: See :mod:`quantkit.calibration.dataset`; or a tensor cannot be divided
            among the samples of a network with a fixed batch.
    """
    if threads < 1:
        raise ConfigError(f"the number of threads must be at least 1, got {threads}")
    run = _Pass(session, tensors)
    if not run.can_batch:
        batch_size = min(batch_size, 1)
    samples, done, digest = 0, 0, 0
    with ThreadPoolExecutor(threads, thread_name_prefix="quantkit-collect") as pool:
        pending: deque[tuple[Batch, Future[int]]] = deque()

        def finish_oldest() -> None:
            nonlocal samples, done, digest
            batch, future = pending.popleft()
            digest += future.result()
            samples += len(batch.names)
            done = batch.indices[-1] + 1
            if progress is not None:
                progress(done, len(dataset))

        try:
            for batch in batches(dataset, batch_size):
                pending.append((batch, pool.submit(run.add, batch)))
                if len(pending) > threads:
                    finish_oldest()
            while pending:
                finish_oldest()
        finally:
            pool.shutdown(cancel_futures=True)
    if progress is not None and done < len(dataset):  # the last samples were skipped
        progress(len(dataset), len(dataset))
    return CalibrationTable(
        statistics={n: r.result() for n, r in run.statistics.items() if not r.is_empty},
        model_digest=model_digest,
        model_name=model_name,
        data_digest=format_digest(digest),
        sample_count=samples,
        preprocessing=dataset.preprocessing,
        tool_version=tool_version(),
    )


def sample_digest(arrays: Mapping[str, Array]) -> int:
    """SHA-256 of one preprocessed sample: name, dtype, shape and little-endian bytes per input."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        stored = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        digest.update(f"{name}\0{stored.dtype.str}\0{array.shape}\0".encode())
        digest.update(stored.tobytes())
    return int.from_bytes(digest.digest(), "big")


class _Pass:
    """The statistics of one pass, joined under one lock by several threads.

    Attributes:
        statistics: By tensor name, graph inputs first.
        can_batch: Whether every tensor's first axis may be the batch.
    """

    def __init__(self, session: OrtSession, tensors: Sequence[str]) -> None:
        inputs = {spec.name: spec for spec in session.inputs}
        outputs = {spec.name: spec for spec in session.outputs}
        for name in tensors:
            spec = outputs.get(name) or inputs.get(name)
            if spec is None:
                raise ConfigError(
                    f"tensor {name!r} is no output of the session; add it to the model"
                )
            if spec.dtype.kind != "f":
                raise ConfigError(
                    f"tensor {name!r} is {spec.dtype}; ranges are of floating tensors"
                )
        self._session = session
        self._lock = threading.Lock()
        self._inputs = [name for name, spec in inputs.items() if spec.dtype.kind == "f"]
        self._fetches = [name for name in dict.fromkeys(tensors) if name not in inputs]
        self.statistics = {name: RunningStatistics() for name in [*self._inputs, *self._fetches]}
        shapes = [outputs[name].shape for name in self._fetches]
        self.can_batch = not any(shape and isinstance(shape[0], int) for shape in shapes)

    def add(self, batch: Batch) -> int:
        """Run one batch and join its statistics.

        Returns:
            The sum of the samples' digests.
        """
        rows = len(next(iter(batch.arrays.values())))
        outputs = self._session.run(batch.arrays, self._fetches) if self._fetches else {}
        if rows > 1 and any(not a.ndim or len(a) != rows for a in outputs.values()):
            self._add_one_by_one(batch, rows)
        else:
            for name in self._fetches:
                self._add_tensor(name, outputs.pop(name), batch.names, whole=rows == 1)
        for name in self._inputs:
            self._add_tensor(name, batch.arrays[name], batch.names, whole=False)
        return sum(
            sample_digest({name: array[row] for name, array in batch.arrays.items()})
            for row in range(len(batch.names))
        )

    def _add_one_by_one(self, batch: Batch, rows: int) -> None:
        """For tensors whose first axis is not the batch."""
        if isinstance((self._session.inputs[0].shape or (None,))[0], int):
            raise CalibrationError(
                f"some tensors have no batch axis, and the model insists on batches of {rows}; "
                "export it with a dynamic batch or a batch of 1"
            )
        for row, sample in enumerate(batch.names):
            feeds = {name: array[row : row + 1] for name, array in batch.arrays.items()}
            for name, array in self._session.run(feeds, self._fetches).items():
                self._add_tensor(name, array, (sample,), whole=True)

    def _add_tensor(self, name: str, array: Array, samples: Sequence[str], *, whole: bool) -> None:
        """Join the statistics of each sample; ``whole``: the array is all of one sample's."""
        for row, sample in enumerate(samples):
            part = array if whole else array[row : row + 1]
            if not part.size:
                continue
            try:
                found = statistics_of_sample(part)
            except NonFiniteRangeError as error:
                raise NonFiniteRangeError(
                    f"tensor {name!r} cannot be calibrated on sample {sample!r}: {error}; "
                    "check the preprocessing and the float model"
                ) from error
            with self._lock:
                self.statistics[name].add(found)
