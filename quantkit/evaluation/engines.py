"""Anything that can run a batch, under one signature."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from quantkit.evaluation.file_boundaries import file_inputs, real_outputs
from quantkit.graph.ort_session import open_session
from quantkit.graph.program import Array
from quantkit.integer_session import open_integer_session
from quantkit.quantized_model.model import QuantizedModel

Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]
"""Arrays by input name in, real-valued arrays by output name out."""


@dataclass(frozen=True, slots=True, eq=False)
class Engine:
    """A labelled way to run a network.

    Attributes:
        label: What reports call it.
        run: Runs one batch.
    """

    label: str
    run: Run


def onnxruntime_engine(
    label: str, path: Path, *, threads: int = 0, model: QuantizedModel | None = None
) -> Engine:
    """A float or quantized ONNX file in onnxruntime.

    Args:
        label: What reports call it.
        path: The file.
        threads: Threads within one operation; 0: all cores.
        model: The quantized file, as read: needed where its inputs or outputs are codes.

    Raises:
        ModelError: onnxruntime cannot load it.
    """
    session = open_session(path, threads=threads)
    if model is None:
        return Engine(label, lambda feeds: session.run(feeds))
    read = model
    return Engine(label, lambda feeds: real_outputs(read, session.run(file_inputs(read, feeds))))


def integer_engine(label: str, model: QuantizedModel, *, arithmetic: str = "onnxruntime") -> Engine:
    """The integer session."""
    session = open_integer_session(model, arithmetic=arithmetic)
    return Engine(label, session.run)
