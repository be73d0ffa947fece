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
from onnx_ir.convenience import extract

from quantkit.errors import ModelError, UnreadableSampleError
from quantkit.graph.model_io import program_of, save_model, serialize
from quantkit.graph.program import Array, Program, TensorSpec

Model = ir.Model
"""A model in memory, by a name for those who only hand it on."""

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
    optimized: bool = True,
    int8_kernels: bool = False,
    optimized_to: Path | None = None,
) -> OrtSession:
    """Open a CPU session, fully optimized unless asked otherwise.

    Args:
        model: A model in memory, its bytes, or its file.
        threads: Threads within one operation; 0: all cores.
        many_outputs: Whether most of what is computed is fetched: memory planned ahead in one block
            then is one that cannot be used again, and runs take a quarter longer.
        optimized: Whether onnxruntime may fuse nodes; otherwise it runs the file node by node.
        int8_kernels: Whether int8 activations may be run by int8 kernels. On x86 onnxruntime by
            default turns their codes into uint8 where a code has a single reader, and computes the
            other nodes in floats (``qdq_s8_to_u8.cc``); it has the same kernels for int8.
        optimized_to: Where onnxruntime writes the graph it really runs.

    Raises:
        ModelError: onnxruntime cannot load the model; the message has its reason.
    """
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = not many_outputs
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = (
        levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
    )
    if int8_kernels:
        options.add_session_config_entry("session.qdqisint8allowed", "1")
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


def between(
    model: ir.Model, inputs: Mapping[str, np.dtype[np.generic]], outputs: Sequence[str]
) -> ir.Model:
    """The part of a model that computes some values from others.

    Args:
        model: The whole model, its shapes inferred as far as possible.
        inputs: Names of the values that become inputs, and their dtypes.
        outputs: Names of the values that become outputs.

    Raises:
        ModelError: A name is no value of the graph, or the outputs need other values too.
    """
    try:
        graph = extract(model.graph, list(inputs), list(outputs))
    except ValueError as error:
        raise ModelError(f"cannot be cut out of the model: {' '.join(str(error).split())}") from (
            error
        )
    for value in graph.inputs:
        value.dtype = ir.DataType.from_numpy(inputs[str(value.name)])
    graph.opset_imports.update(model.graph.opset_imports)
    return ir.Model(graph, ir_version=model.ir_version)


def optimized_program(model: ir.Model | bytes | Path, *, int8_kernels: bool = False) -> Program:
    """The graph that onnxruntime really runs after all its optimizations.

    Args:
        model: A model in memory, its bytes, or its file.
        int8_kernels: As for :func:`open_session`.

    Raises:
        ModelError: onnxruntime cannot load the model.
    """
    return open_with_program(model, int8_kernels=int8_kernels)[1]


def open_with_program(
    model: ir.Model | bytes | Path, *, many_outputs: bool = False, int8_kernels: bool = False
) -> tuple[OrtSession, Program]:
    """A fully optimized session, and the graph that it really runs.

    Args:
        model: A model in memory, its bytes, or its file.
        many_outputs: As for :func:`open_session`.
        int8_kernels: As for :func:`open_session`.

    Raises:
        ModelError: onnxruntime cannot load the model.
    """
    with tempfile.TemporaryDirectory(prefix="quantkit-") as folder:
        path = Path(folder) / "optimized.onnx"
        session = open_session(
            model, many_outputs=many_outputs, int8_kernels=int8_kernels, optimized_to=path
        )
        return session, program_of(ir.load(path))


def median_latencies_ms(
    models: Mapping[str, Path],
    feeds: Mapping[str, Mapping[str, Array]],
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
        feeds: One batch by label: the same for each, in the types its inputs have.
        rounds: How often each model has its turn.
        runs_per_round: Consecutive runs of one turn, after a quarter as many to warm up.
        threads: Threads within one operation; 0: all cores.
    """
    times: dict[str, list[float]] = {label: [] for label in models}
    for _ in range(rounds):
        for label, path in models.items():
            session = open_session(path, threads=threads)
            for _ in range(runs_per_round // 4):
                session.run(feeds[label])
            for _ in range(runs_per_round):
                start = time.perf_counter()
                session.run(feeds[label])
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
