"""What goes into a block and what comes out: of the float network and of the integer one."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from quantkit.calibration.batches import none_readable, readable_batches
from quantkit.calibration.dataset import Dataset
from quantkit.graph.ort_session import between, open_session
from quantkit.graph.program import Array
from quantkit.integer_session import open_integer_session
from quantkit.numerics.affine import dequantize, quantize
from quantkit.quantized_model.model import QuantizedModel
from quantkit.recovery.blocks import Block
from quantkit.reference.arrays import FloatArray

# What inputs and targets of a block may take.
_CACHE_BYTES = 400 * 1024 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """What the blocks so far give, for every sample.

    Attributes:
        real: The float network's values, by name.
        codes: The quantized network's: codes where it has parameters, else floats.
    """

    real: Mapping[str, FloatArray]
    codes: Mapping[str, Array]


def alive(
    values: Mapping[str, Array], last_use: Mapping[str, int], position: int
) -> dict[str, Array]:
    """The values that a block behind this position reads."""
    return {name: value for name, value in values.items() if last_use.get(name, -1) > position}


def most_samples(model: QuantizedModel, blocks: Sequence[Block], count: int) -> int:
    """How many samples' inputs and targets of any block fit in memory."""
    specs = model.prepared.program.specs
    known = {spec.name: spec for spec in model.prepared.program.inputs} | dict(specs)

    def size(name: str) -> int:
        shape = known[name].shape if name in known else None
        return 5 * math.prod(d for d in (shape or ())[1:] if isinstance(d, int))

    largest = max(sum(map(size, (*block.inputs, *block.outputs))) for block in blocks)
    return max(1, min(count, _CACHE_BYTES // max(largest, 1)))


def first_values(model: QuantizedModel, dataset: Dataset, most: int) -> Values:
    """The graph's inputs: of samples that all have one shape."""
    chosen = dataset.take([index * len(dataset) // most for index in range(most)])
    rows: dict[str, list[Array]] = {name: [] for name in dataset.input_names}
    for batch in readable_batches(chosen, 16):
        for name, array in batch.arrays.items():
            if not rows[name] or rows[name][0].shape[1:] == array.shape[1:]:
                rows[name].append(array[: len(batch.names)])
    if not all(rows.values()):
        raise none_readable(chosen)
    real = {name: np.concatenate(arrays) for name, arrays in rows.items()}
    params = model.plan.params
    codes = {
        name: quantize(array, params[name]) if name in params else array
        for name, array in real.items()
    }
    return Values(real, codes)


def float_values(
    model: QuantizedModel, block: Block, real: Mapping[str, FloatArray], chunk_size: int
) -> dict[str, FloatArray]:
    """What the float block gives on the float network's values."""
    inputs = {name: real[name].dtype for name in block.inputs}
    part = between(model.prepared.model, inputs, block.outputs)
    session = open_session(part, threads=1)
    return _in_chunks(session.run, {name: real[name] for name in block.inputs}, chunk_size)


def integer_values(
    model: QuantizedModel, block: Block, codes: Mapping[str, Array], chunk_size: int
) -> dict[str, Array]:
    """What the integer block gives on codes."""
    session = open_integer_session(model)

    def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
        values = dict(feeds)
        for step in session.steps[block.start : block.stop]:
            values |= session.run_step(step, values)
        return {name: values[name] for name in block.outputs}

    return _in_chunks(run, {name: codes[name] for name in block.inputs}, chunk_size)


def _in_chunks(
    run: Callable[[Mapping[str, Array]], dict[str, Array]],
    feeds: Mapping[str, Array],
    chunk_size: int,
) -> dict[str, Array]:
    count = min(len(array) for array in feeds.values())
    parts: list[dict[str, Array]] = []
    for start in range(0, count, chunk_size):
        rows = [min(row, count - 1) for row in range(start, start + chunk_size)]
        results = run({name: array[rows] for name, array in feeds.items()})
        parts.append({name: array[: count - start] for name, array in results.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def squared_error(
    codes: Mapping[str, Array],
    targets: Mapping[str, FloatArray],
    model: QuantizedModel,
    rows: Sequence[int],
) -> float:
    """How far the integer model's codes of some samples are from the float values."""
    total = 0.0
    for name, target in targets.items():
        params = model.plan.params.get(name)
        value = codes[name][rows]
        real = value if params is None else dequantize(value, params)
        total += float(np.sum(np.square(real - target[rows]), dtype=np.float64))
    return total
