"""From data to a calibration table, in one process or many."""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from math import inf
from pathlib import Path
from threading import Lock

from quantkit.calibration.batches import none_readable
from quantkit.calibration.checkpoint import Checkpoint, join_parts
from quantkit.calibration.collector import Collector, Progress, collect_parts
from quantkit.calibration.dataset import Dataset, DataSource
from quantkit.calibration.image_metadata import follow_metadata, range_hint
from quantkit.calibration.parts import Interval, Part, missing, parts_of_workers, shards
from quantkit.calibration.preprocessing import Preprocessing, named
from quantkit.calibration.table import CalibrationTable, tool_version
from quantkit.errors import CalibrationError, ConfigError
from quantkit.evaluation.input_check import input_warnings
from quantkit.evaluation.samples import open_samples
from quantkit.graph.channel_outputs import with_channel_outputs
from quantkit.graph.ort_session import open_session
from quantkit.graph.partial_file import remove_partial_files
from quantkit.passes.prepare import Prepared, prepare
from quantkit.plan import tensors_to_calibrate

logger = logging.getLogger(__name__)

# A shard costs a table to send and to join (some MB and some 10 ms), and is lost with its worker.
_SHARDS = 32
_LARGEST_SHARD = 1024
_SECONDS_PER_PART = 2.0
_OPENING = Lock()


@dataclass(frozen=True, slots=True)
class _Task:
    """What a worker must know; equal tasks share one open session."""

    model: str
    data: str
    preprocessing: Preprocessing | None
    num_samples: int | None
    batch_size: int
    threads: int
    exact: bool
    strict: bool
    data_stamp: str


def calibrate(
    model: str | Path | Prepared,
    data: DataSource | Dataset,
    *,
    preprocessing: Preprocessing | str | None = None,
    num_samples: int | None = None,
    batch_size: int = 1,
    threads: int = 2,
    exact: bool = False,
    strict: bool = False,
    executor: Executor | None = None,
    shard_size: int | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> CalibrationTable:
    """Run the float model over the data once and collect what every tensor's range needs.

    The table is the same, byte for byte, whatever the order of the samples, the batch size, the
    threads, the executor and its workers, and the interruptions.

    Args:
        model: A float ONNX file, or the result of ``prepare``.
        data: A folder of pictures, an archive of them, an ``.npy``, an ``.npz``, a folder of such,
            ONNX test data, ``"module:function"``, arrays, or an iterable of dicts.
        preprocessing: How pictures become inputs; not needed for arrays.
        num_samples: How many samples, evenly spaced; None: all.
        batch_size: Samples per run.
        threads: Batches in the works at a time (in every worker).
        exact: Count every value. Otherwise large tensors have their far tails counted and the rest
            sampled, see ``quantkit.calibration.counting``; minima and maxima are always exact.
        strict: Refuse unreadable pictures instead of skipping them.
        executor: Whose workers share the samples: of ``concurrent.futures``, or of Dask, Ray or
            MPI. They must see the model's file and the data under the same names. None: this
            process alone.
        shard_size: Samples per task of the executor; None: a choice by their number.
        checkpoint: Where to keep what is done, every few seconds; remove the file when the
            table is saved. None: nowhere.
        resume: Go on with what ``checkpoint`` holds, if it is there.
        progress: Told how far the pass is.

    Raises:
        CalibrationError: ``checkpoint`` holds a pass over something else.
        QuantkitError: Bad model or data; see ``errors``.
    """
    if shard_size is not None and shard_size < 1:
        raise ConfigError(f"a shard has at least 1 sample, got {shard_size}")
    prepared = prepared_model(model)
    dataset = open_samples(
        data,
        prepared.program.inputs,
        as_model_says(preprocessing, prepared),
        num_samples=num_samples,
        strict=strict,
    )
    name = "" if isinstance(model, Prepared) else Path(model).name
    collector = open_collector(prepared, name, batch_size, threads, exact)
    logger.info("calibrating %d tensors on %d samples", len(collector.tensors), len(dataset))
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None:
        remove_partial_files(path)
    work = _work_digest(collector, dataset)
    begun = Checkpoint.load(path, work) if resume and path is not None and path.exists() else None
    todo = missing(begun.done if begun else (), len(dataset))
    if progress is not None:
        progress(len(dataset) - _length(todo), len(dataset))
    if executor is None:
        seconds = inf if path is None else _SECONDS_PER_PART
        parts = _parts_here(collector, dataset, todo, seconds, progress)
    else:
        if isinstance(model, Prepared) or not isinstance(data, str | Path):
            raise ConfigError("workers need the model and the data as files")
        if not dataset.source.splittable:
            raise ConfigError(
                f"workers cannot share {str(data)!r}, whose samples come one after the other; "
                "give files, or leave out the workers"
            )
        task = _Task(
            str(Path(model).resolve()),
            str(Path(data).resolve()),
            dataset.preprocessing,
            num_samples,
            batch_size,
            threads,
            exact,
            strict,
            dataset.stamp,
        )
        size = shard_size or min(max(len(dataset) // _SHARDS, 1), _LARGEST_SHARD)
        pieces = shards(todo, size)
        finished = parts_of_workers(executor, partial(_work, task), pieces)
        parts = _told(finished, dataset, todo, progress)
    state = join_parts(parts, begun, path, work)
    dataset.tell_skipped()
    if state is None or not state.table.sample_count:
        raise none_readable(dataset)
    for warning in input_warnings(prepared, state.table):
        logger.warning("%s", warning)
    return state.table


def prepared_model(model: str | Path | Prepared) -> Prepared:
    """The prepared float graph of a file; what is prepared already is passed on."""
    if isinstance(model, Prepared):
        return model
    prepared = prepare(model)
    done = sum(note.applied for note in prepared.notes)
    for note in prepared.notes:
        logger.debug("%s: %s: %s", note.pass_name, note.node, note.message)
    logger.info("%s: %d nodes after %d edits", model, len(prepared.program.nodes), done)
    return prepared


def as_model_says(
    preprocessing: Preprocessing | str | None, prepared: Prepared
) -> Preprocessing | None:
    """What was asked for, completed by the model's image metadata, if it has any."""
    given = named(preprocessing)
    if given is None:
        return None
    metadata = prepared.model.metadata_props
    hint = range_hint(given, metadata)
    if hint is not None:
        logger.warning("%s", hint)
    return follow_metadata(given, metadata)


def open_collector(
    prepared: Prepared,
    name: str = "",
    batch_size: int = 1,
    threads: int = 2,
    exact: bool = False,
) -> Collector:
    """The session of a pass with all it collects; the arguments are those of :func:`calibrate`."""
    tensors = tensors_to_calibrate(prepared)
    model, channels = with_channel_outputs(prepared.model, tensors)
    session = open_session(model, threads=1, many_outputs=True)
    return Collector(session, tensors, prepared.digest, name, channels, exact, batch_size, threads)


def _parts_here(
    collector: Collector,
    dataset: Dataset,
    todo: tuple[Interval, ...],
    seconds: float,
    progress: Progress | None,
) -> Iterator[Part]:
    before = len(dataset) - _length(todo)

    def advance(done: int, _: int) -> None:
        if progress is not None:
            progress(before + done, len(dataset))

    for interval in todo:
        yield from collect_parts(collector, dataset, interval, seconds=seconds, progress=advance)
        before += _length([interval])


def _told(
    parts: Iterator[Part],
    dataset: Dataset,
    todo: tuple[Interval, ...],
    progress: Progress | None,
) -> Iterator[Part]:
    """The parts of workers; their progress and warnings are told here."""
    done = len(dataset) - _length(todo)
    for part in parts:
        for name, reason in part.skipped:
            dataset.skip(name, reason)
        done += _length([part.interval])
        if progress is not None:
            progress(done, len(dataset))
        yield part


def _work(task: _Task, interval: Interval) -> Part:
    """What one worker does with one shard."""
    with _OPENING:  # workers that are threads open one session for all of them
        collector, dataset = _opened(task)
    chosen = replace(dataset, skipped={})
    (part,) = collect_parts(collector, chosen, interval)
    return replace(part, skipped=tuple(chosen.skipped.items()))


@lru_cache(maxsize=1)
def _opened(task: _Task) -> tuple[Collector, Dataset]:
    prepared = prepare(task.model)
    dataset = open_samples(
        task.data,
        prepared.program.inputs,
        task.preprocessing,
        num_samples=task.num_samples,
        strict=task.strict,
    )
    if dataset.stamp != task.data_stamp:
        raise CalibrationError(
            f"a worker finds other data in {task.data!r} than the process that asked; "
            "give all of them the same files"
        )
    name = Path(task.model).name
    collector = open_collector(prepared, name, task.batch_size, task.threads, task.exact)
    return collector, dataset


def _work_digest(collector: Collector, dataset: Dataset) -> str:
    """Of all that decides what the table will hold."""
    facts = [
        tool_version(),
        collector.model_digest,
        collector.exact,
        list(collector.tensors),
        dataset.stamp,
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _length(intervals: Sequence[Interval]) -> int:
    return sum(stop - first for first, stop in intervals)
