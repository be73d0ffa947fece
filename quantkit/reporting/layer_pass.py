"""One pass over the samples: every layer alone, the network up to it, and the float values."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from quantkit.calibration.batches import batches
from quantkit.calibration.dataset import Dataset
from quantkit.calibration.statistics import RunningStatistics, observe
from quantkit.errors import NonFiniteRangeError, UnsupportedOpError
from quantkit.graph.ort_session import open_session, with_outputs
from quantkit.graph.program import Array
from quantkit.integer_session import IntegerSession, open_integer_session
from quantkit.numerics.affine import QuantParams, dequantize, quantize
from quantkit.quantized_model.model import QuantizedModel
from quantkit.reporting.layer_groups import LayerGroup
from quantkit.reporting.network_error import Pair
from quantkit.reporting.similarity import Similarity
from quantkit.reporting.tensor_ranges import count_outside, losing_lines


@dataclass(frozen=True, slots=True, eq=False)
class LayerPass:
    """What was summed up over all samples; filled as they pass.

    Attributes:
        isolated: Of a layer's output, by layer; integer layers only.
        accumulated: The same with the whole network in integers; all layers up to the first node
            that holds a graph of its own.
        at_ends: Output codes at an end of their range, and all, by integer layer.
        outside: Float values of a tensor that are lost beyond its clip lines.
        statistics: Of the float network's values, by name.
        sample_bytes: What each of its values takes in the last sample.
    """

    isolated: dict[str, Similarity] = field(default_factory=dict)
    accumulated: dict[str, Similarity] = field(default_factory=dict)
    at_ends: dict[str, tuple[int, int]] = field(default_factory=dict)
    outside: dict[str, int] = field(default_factory=dict)
    statistics: dict[str, RunningStatistics] = field(default_factory=dict)
    sample_bytes: dict[str, int] = field(default_factory=dict)


def run_layers(
    pair: Pair,
    model: QuantizedModel,
    layers: Sequence[LayerGroup],
    dataset: Dataset,
    progress: Callable[[int], None] | None = None,
) -> LayerPass:
    """Run every sample, one at a time.

    Args:
        pair: The networks.
        model: The quantized one.
        layers: Those whose tensors the float network has by name.
        dataset: The samples.
        progress: Told how many samples are done.

    Raises:
        NonFiniteRangeError: The float network makes NaN or infinity of a sample.
    """
    session = open_integer_session(model)
    known, inputs = pair.reference.program.producers(), set(dataset.input_names)
    computed = tuple(
        dict.fromkeys(
            name
            for step in session.steps
            for name in (*step.data, *step.node.outputs)
            if name in known and name not in inputs
        )
    )
    oracle = open_session(with_outputs(pair.reference.model, computed), many_outputs=True)
    lines = {
        name: losing_lines(name, model.prepared.program, params)
        for name, params in session.params.items()
        if not params.is_per_channel
    }
    seen = LayerPass()
    for batch in batches(dataset, 1):
        real = {**batch.arrays, **oracle.run(batch.arrays, computed)}
        seen.sample_bytes.update({name: array.nbytes for name, array in real.items()})
        real |= {name: pair.changed(name, real[name]) for name in pair.changes.keys() & real.keys()}
        for name, array in real.items():
            if name in lines or (name in inputs and array.dtype.kind == "f"):
                _observe(seen, name, array, batch.names[0])
            if name in lines:
                outside = count_outside(array, lines[name])
                seen.outside[name] = seen.outside.get(name, 0) + outside
        values = {layer.name: layer.value for layer in layers}
        for name, codes in _isolated_outputs(session, model, layers, real):
            value = values.get(name)  # None: a clamp whose producer stays float
            if value is not None and value in session.params:
                found = Similarity.of(real[value], dequantize(codes, session.params[value]))
                seen.isolated[name] = seen.isolated.get(name, Similarity()) + found
        whole = _codes_so_far(session, batch.arrays, set(values.values()))
        for name, value in values.items():
            if value not in whole:
                continue
            array = whole[value]
            if value in session.params:
                ends = saturated(array, session.params[value])
                old = seen.at_ends.get(name, (0, 0))
                seen.at_ends[name] = (old[0] + ends, old[1] + array.size)
                array = dequantize(array, session.params[value])
            found = Similarity.of(real[value], array)
            seen.accumulated[name] = seen.accumulated.get(name, Similarity()) + found
        if progress is not None:
            progress(batch.indices[-1] + 1)
    return seen


def saturated(codes: Array, params: QuantParams) -> int:
    """How many codes are at an end of their range that is not exactly real 0."""
    info = np.iinfo(codes.dtype)
    ends = [end for end in (info.min, info.max) if (params.zero_point != end).all()]
    return sum(int(np.count_nonzero(codes == end)) for end in ends)


def _observe(seen: LayerPass, name: str, array: Array, sample: str) -> None:
    if not array.size:
        return
    try:
        found = observe(np.atleast_1d(array), exact=True)
    except NonFiniteRangeError as error:
        raise NonFiniteRangeError(
            f"tensor {name!r} of the float network on sample {sample!r}: {error}; check the "
            "preprocessing and the float model"
        ) from error
    seen.statistics.setdefault(name, RunningStatistics()).add(found)


def _isolated_outputs(
    session: IntegerSession,
    model: QuantizedModel,
    layers: Sequence[LayerGroup],
    real: Mapping[str, Array],
) -> Iterator[tuple[str, Array]]:
    """Codes of graph inputs, and of every integer layer on quantized float inputs."""
    for layer in layers:
        if not layer.nodes:
            yield layer.name, _codes(session, layer.value, real)
    # Only a clamp goes on with the codes of its producer; layers start from real values.
    pending: dict[str, tuple[str, Array]] = {}
    clamped = set(model.prepared.clamps.values())
    results: dict[str, Array] = {}
    for step in session.steps:
        if step.kernel is None:
            continue
        values: dict[str, Array] = {}
        layer_name = step.node.name
        is_clamp = step.node.name in model.prepared.clamps
        for name in step.data:
            if is_clamp and name in pending:
                layer_name, values[name] = pending[name]
            elif name in real:
                values[name] = _codes(session, name, real)
        if len(values) < len(set(step.data)):
            continue
        codes = session.run_step(step, values)[step.node.outputs[0]]
        results[layer_name] = codes
        if is_clamp or step.node.name in clamped:
            pending[step.node.outputs[0]] = (layer_name, codes)
    yield from results.items()


def _codes_so_far(
    session: IntegerSession, feeds: Mapping[str, Array], wanted: set[str]
) -> dict[str, Array]:
    """Values of the whole network in integers, up to the first node that cannot be run."""
    found = {name: _codes(session, name, feeds) for name in wanted & feeds.keys()}
    try:
        for _, _, outputs in session.run_steps(feeds):
            found |= {name: outputs[name] for name in wanted & outputs.keys()}
    except UnsupportedOpError:  # it holds a graph of its own
        pass
    return found


def _codes(session: IntegerSession, name: str, real: Mapping[str, Array]) -> Array:
    return quantize(np.asarray(real[name], np.float32), session.params[name])
