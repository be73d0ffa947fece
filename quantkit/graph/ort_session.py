"""onnxruntime: sessions, intermediate tensors, the optimized graph, latency."""

import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from quantkit.errors import ModelError, UnreadableSampleError
from quantkit.graph.model_io import program_of, save_model, serialize
from quantkit.graph.program import Array, Program, TensorSpec

# onnxruntime writes its own errors to stderr before it raises them; ours say them in one line.
_FATAL_ONLY = 4


@dataclass(frozen=True, slots=True, eq=False)
class OrtSession:
    """An onnxruntime CPU session with typed inputs and outputs.

    Attributes:
        inputs: What the model wants to be fed.
        outputs: What it gives back, in order.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    _session: Any

    def run(
        self, feeds: Mapping[str, Array], fetches: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Run one batch.

        Args:
            feeds: Arrays by input name.
            fetches: Names of the outputs wanted; None: all.

        Raises:
            UnreadableSampleError: onnxruntime refuses the inputs (shape, dtype, name).
        """
        names = list(fetches) if fetches is not None else [spec.name for spec in self.outputs]
        try:
            values = self._session.run(names, dict(feeds))
        except Exception as error:  # onnxruntime's exceptions share no public base class
            shapes = ", ".join(f"{name} {array.shape}" for name, array in feeds.items())
            raise UnreadableSampleError(
                f"onnxruntime cannot run the model on {shapes}: {_reason(error)}"
            ) from error
        return dict(zip(names, values, strict=True))


def open_session(
    model: ir.Model | bytes | Path,
    *,
    threads: int = 0,
    many_outputs: bool = False,
    optimized_to: Path | None = None,
) -> OrtSession:
    """Open a fully optimized CPU session.

    Args:
        model: A model in memory, its bytes, or its file.
        threads: Threads within one operation; 0: all cores.
        many_outputs: Whether most of what is computed is fetched: memory planned ahead in one block
            then is one that cannot be used again, and runs take a quarter longer.
        optimized_to: Where onnxruntime writes the graph it really runs.

    Raises:
        ModelError: onnxruntime cannot load the model; the message has its reason.
    """
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = not many_outputs
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    if optimized_to is not None:
        options.optimized_model_filepath = str(optimized_to)
    where = f"{str(model)!r}" if isinstance(model, Path) else "the model"
    with _loadable(model) as source:
        try:
            session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no public base class
            raise ModelError(f"onnxruntime cannot load {where}: {_reason(error)}") from error
    return OrtSession(
        inputs=tuple(_spec(argument) for argument in session.get_inputs()),
        outputs=tuple(_spec(argument) for argument in session.get_outputs()),
        _session=session,
    )


def with_outputs(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """A copy of the model whose outputs are its own and then the named values.

    Raises:
        ModelError: A name is no value of the graph.
    """
    copy = model.clone()
    values = {output.name: output for node in copy.graph for output in node.outputs if output.name}
    present = {value.name for value in copy.graph.outputs}
    for name in names:
        if name in present:
            continue
        if name not in values:
            raise ModelError(f"{name!r} is not computed by any node of the model")
        copy.graph.outputs.append(values[name])
    return copy


def optimized_program(model: ir.Model | bytes | Path) -> Program:
    """The graph that onnxruntime really runs after all its optimizations.

    Raises:
        ModelError: onnxruntime cannot load the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        open_session(model, optimized_to=path)
        return program_of(ir.load(path))


def median_latencies_ms(
    models: Mapping[str, Path],
    feeds: Mapping[str, Array],
    *,
    rounds: int = 5,
    runs_per_round: int = 20,
    threads: int = 0,
) -> dict[str, float]:
    """Median latency per model in milliseconds, measured in turn so that drift hits all alike.

    A session is open only while it has its turn: the threads of an idle one keep spinning for a
    while and would slow the others down.

    Args:
        models: Model files by label.
        feeds: One batch, fed to each.
        rounds: How often each model has its turn.
        runs_per_round: Consecutive runs of one turn, after a quarter as many to warm up.
        threads: Threads within one operation; 0: all cores.
    """
    times: dict[str, list[float]] = {label: [] for label in models}
    for _ in range(rounds):
        for label, path in models.items():
            session = open_session(path, threads=threads)
            for _ in range(runs_per_round // 4):
                session.run(feeds)
            for _ in range(runs_per_round):
                start = time.perf_counter()
                session.run(feeds)
                times[label].append((time.perf_counter() - start) * 1e3)
            del session
    return {label: statistics.median(values) for label, values in times.items()}


def onnxruntime_version() -> str:
    """The version of the installed onnxruntime."""
    return str(ort.__version__)


@contextmanager
def _loadable(model: ir.Model | bytes | Path) -> Iterator[bytes | str]:
    """What onnxruntime can load; a temporary file is there until the session is open."""
    if isinstance(model, bytes | Path):
        yield model if isinstance(model, bytes) else str(model)
        return
    try:
        data = serialize(model)
    except ModelError:
        # Above 2 GiB only a file with external data can be loaded.
        with tempfile.TemporaryDirectory(prefix="quantkit-") as folder:
            path = Path(folder) / "model.onnx"
            save_model(model, path)
            yield str(path)
    else:
        yield data


def _spec(argument: Any) -> TensorSpec:
    names = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}
    kind = str(argument.type)
    name = names.get(kind, kind.removeprefix("tensor(").removesuffix(")"))
    try:
        dtype = np.dtype(name)
    except TypeError:
        dtype = np.dtype(np.object_)
    return TensorSpec(argument.name, dtype, tuple(argument.shape))


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]} ..."
