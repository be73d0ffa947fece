"""What quantizing one tensor does to the outputs of an otherwise float network.

The network is cut behind the tensor. What it computes up to there is had once; every choice of
parameters then runs only what follows. The cut is exact: whatever else the rest reads (residual
paths, other inputs) is fed with the float network's values. Every session has one thread, so errors
do not depend on how many there are; several sessions may run at a time.
"""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantkit.calibration.batches import none_readable, readable_batches
from quantkit.calibration.dataset import Dataset
from quantkit.errors import UnreadableSampleError
from quantkit.graph.ort_session import Model, OrtSession, between, open_session, with_outputs
from quantkit.graph.program import Array, Program
from quantkit.numerics.affine import QuantParams

_SATURATING = ("Softmax", "LogSoftmax", "Sigmoid", "ArgMax")
_MOVING = ("Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """Where a network is cut, so that only what a tensor influences is left.

    Attributes:
        tensors: The tensor: several values where its codes are moved or clamped and read at each
            stage.
        others: What the rest reads besides, and the tensor does not influence.
        outputs: The wanted values that the tensor influences; empty: there is nothing to run.
    """

    tensors: tuple[str, ...]
    others: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        """All that the rest reads."""
        return (*self.tensors, *self.others)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What the float network computes for one sample.

    Attributes:
        values: The inputs of a cut, by name, with batch axis.
        outputs: The wanted values, by name.
    """

    values: Mapping[str, Array]
    outputs: Mapping[str, Array]


def cut_behind(program: Program, tensors: Sequence[str], outputs: Sequence[str]) -> Cut:
    """The cut behind a tensor.

    Args:
        program: The graph; no node holds a graph of its own.
        tensors: The values that are one tensor; one may be computed from another.
        outputs: The values that are wanted.
    """
    given = set(tensors)
    influenced: dict[str, None] = {}
    read: dict[str, None] = {}
    for node in program.nodes:
        names = [name for name in node.inputs if name]
        if not any(name in given or name in influenced for name in names):
            continue
        made = [name for name in node.outputs if name and name not in given]
        if made:
            influenced |= dict.fromkeys(made)
            read |= dict.fromkeys(names)
    kept = _leading_to(program, [name for name in outputs if name in influenced], given)
    others = (
        name
        for name in read
        if name in kept
        and name not in given
        and name not in influenced
        and name not in program.constants
    )
    return Cut(
        tuple(name for name in tensors if name in kept),
        tuple(others),
        tuple(name for name in outputs if name in influenced),
    )


def _leading_to(program: Program, outputs: Sequence[str], given: set[str]) -> set[str]:
    """The values that the outputs are computed from, back to the given ones."""
    kept = set(outputs)
    for node in reversed(program.nodes):
        if any(name in kept and name not in given for name in node.outputs):
            kept.update(name for name in node.inputs if name)
    return kept


def measured_values(program: Program) -> tuple[str, ...]:
    """The values whose error is measured: the outputs, or what saturating functions make them of.

    Behind a Softmax nearly all of the error is that of the few samples that the network is not
    sure of, so that a range would be chosen by chance; the same holds for Sigmoid and ArgMax.

    Args:
        program: The graph.
    """
    producers = program.producers()
    found: dict[str, None] = {}
    for spec in program.outputs:
        name = source = spec.name
        while (node := producers.get(source)) is not None and node.domain == "":
            source = node.inputs[0]
            if node.op_type in _SATURATING:
                name = source
                break
            if node.op_type not in _MOVING:
                break
        if name in producers:
            found[name] = None
    return tuple(found)


def run_samples(
    model: Model, dataset: Dataset, outputs: Sequence[str], pool: Executor
) -> list[Sample]:
    """Run the float network on every sample; those that it refuses are skipped.

    Args:
        model: The whole float graph.
        dataset: The samples.
        outputs: Names of the wanted values; those that are no floats are left out.
        pool: Its threads run them.

    Returns:
        With the inputs as values, in the order of the data.

    Raises:
        UnreadableSampleError: Not one sample can be read and run.
    """
    session = open_session(with_outputs(model, outputs), threads=1)
    names = [spec.name for spec in session.outputs if spec.name in outputs]
    batches = list(readable_batches(dataset, 1))
    samples: list[Sample] = []
    for batch, future in [
        (batch, pool.submit(session.run, batch.arrays, names)) for batch in batches
    ]:
        try:
            found = future.result()
            floats = {name: array for name, array in found.items() if array.dtype.kind == "f"}
            samples.append(Sample(batch.arrays, floats))
        except UnreadableSampleError as error:
            dataset.skip(batch.names[0], str(error))
    if not samples:
        raise none_readable(dataset)
    return samples


def with_values(
    model: Model, samples: Sequence[Sample], names: Sequence[str], pool: Executor
) -> list[Sample]:
    """The samples with the float network's values of these names, and its inputs.

    Args:
        model: The whole float graph.
        samples: From :func:`run_samples`.
        names: Of values of the graph.
        pool: Its threads run them.

    Raises:
        ModelError, UnreadableSampleError: onnxruntime cannot compute the values.
    """
    inputs = {name: array.dtype for name, array in samples[0].values.items()}
    computed = [name for name in names if name not in inputs]
    if not computed:
        return list(samples)
    session = open_session(between(model, inputs, computed), threads=1, many_outputs=True)
    values = pool.map(lambda sample: session.run(sample.values, computed), samples)
    return [
        Sample({**sample.values, **found}, sample.outputs)
        for sample, found in zip(samples, values, strict=True)
    ]


def open_rest(model: Model, cut: Cut, values: Mapping[str, Array]) -> OrtSession:
    """A session of what follows a cut.

    Args:
        model: The whole float graph.
        cut: Of it.
        values: Of one sample, for the dtypes of the cut's inputs.

    Raises:
        ModelError: The rest cannot be cut out or loaded.
    """
    dtypes = {name: values[name].dtype for name in cut.inputs}
    return open_session(between(model, dtypes, cut.outputs), threads=1)


def energies(outputs: Sequence[Mapping[str, Array]]) -> dict[str, float]:
    """Sum of squares of every output over all samples, float64."""
    return {
        name: sum(_sum_of_squares(sample[name].astype(np.float64)) for sample in outputs)
        for name in outputs[0]
    }


def output_error(
    rest: OrtSession,
    cut: Cut,
    samples: Sequence[Sample],
    params: QuantParams | None,
    energy: Mapping[str, float],
    bound: float = math.inf,
) -> float:
    """The squared error of the outputs that quantizing the tensor alone causes.

    ``sum over outputs o of sum((o(quantized) - o)**2) / energy[o]``, in float64.

    Args:
        rest: From :func:`open_rest`.
        cut: The same.
        samples: What the float network computes.
        params: Of the tensor, 8 or 16 bits, per tensor; None: it stays float.
        energy: Of every output, over the same samples; outputs that are all zero count nothing.
        bound: Samples are left out once the sum has reached it.

    Returns:
        The error, or what was summed up where that is not below ``bound``; inf where an output is
        not finite or has another shape.

    Raises:
        UnreadableSampleError: onnxruntime cannot run the rest.
    """
    total = 0.0
    for sample in samples:
        feeds = {name: sample.values[name] for name in cut.inputs}
        if params is not None:
            feeds |= {name: quantized(feeds[name], params) for name in cut.tensors}
        for name, output in rest.run(feeds, cut.outputs).items():
            expected = sample.outputs[name]
            if output.shape != expected.shape:
                return math.inf
            if energy[name] > 0:
                error = _sum_of_squares(output.astype(np.float64) - expected)
                total += error / energy[name]
        if not total < bound:
            return total if math.isfinite(total) else math.inf
    return total


def quantized(x: Array, params: QuantParams) -> npt.NDArray[np.float32]:
    """``dequantize(quantize(x))``, the same float32 numbers, without codes in between.

    Args:
        x: Real values, any shape.
        params: Per tensor, 8 or 16 bits.
    """
    zero_point = int(params.zero_point)
    y: npt.NDArray[np.float32] = np.asarray(np.asarray(x, np.float32) / params.scale)
    np.rint(y, out=y)
    np.clip(y, params.qmin - zero_point, params.qmax - zero_point, out=y)
    y *= params.scale
    return y


def _sum_of_squares(x: npt.NDArray[np.float64]) -> float:
    flat = x.reshape(-1)
    return float(np.dot(flat, flat))
