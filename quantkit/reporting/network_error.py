"""What each layer alone does to the outputs of the network: its own noise, carried through.

A layer's own noise is what its integers make of quantized inputs, less what its floats make of the
same inputs: with its weights and its output quantized, and nothing else. It is added to the float
network's value behind the layer, and the rest of the network runs in floats. The noise of layers
that only move codes is 0, and noise that came in with the inputs is counted where it was made, so
that the layers' noises add up to nearly that of the whole network.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from quantkit.calibration.dataset import Dataset
from quantkit.errors import QuantkitError
from quantkit.graph.ort_session import OrtSession, between, open_session
from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import QuantParams
from quantkit.numerics.metrics import SqnrSums
from quantkit.ops.contract import OPS
from quantkit.ops.parallel import available_threads
from quantkit.passes.prepare import Prepared
from quantkit.passes.replace_constants import replace_constants
from quantkit.quantized_model.model import QuantizedModel
from quantkit.recovery.channel_changes import ChannelChange
from quantkit.recovery.output_error import (
    Cut,
    Sample,
    cut_behind,
    measured_values,
    open_rest,
    quantized,
    run_samples,
    with_values,
)
from quantkit.reporting.layer_groups import LayerGroup

# What the float network's values may take at a time.
_CACHE_BYTES = 100 * 1024 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A float network and its quantized form.

    Attributes:
        reference: The float network.
        rewritten: The quantized network's graph, its constants dequantized.
        params: Of the quantized values.
        changes: What equalization did to the channels of values.
    """

    reference: Prepared
    rewritten: Prepared
    params: Mapping[str, QuantParams]
    changes: Mapping[str, ChannelChange]

    @classmethod
    def of(
        cls, reference: Prepared, model: QuantizedModel, changes: Mapping[str, ChannelChange]
    ) -> "Pair":
        """The two networks of a quantized model."""
        real = {name: tensor.dequantize() for name, tensor in model.constants.items()}
        rewritten = replace_constants(model.prepared, real)
        return cls(reference, rewritten, model.plan.params, changes)

    def changed(self, name: str, x: Array) -> Array:
        """The float network's value as the quantized network has it."""
        return self.changes[name].applied(x) if name in self.changes else x

    def undone(self, name: str, x: Array) -> Array:
        """The reverse."""
        return self.changes[name].undone(x) if name in self.changes else x


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """A layer, and where the float network is cut behind it.

    Attributes:
        layer: The layer.
        data: The computed values it reads.
        cut: Behind its tensor.
        measured: The values that its noise is measured at.
    """

    layer: LayerGroup
    data: tuple[str, ...]
    cut: Cut
    measured: tuple[str, ...]

    def needed(self) -> tuple[str, ...]:
        """The float network's values that measuring takes."""
        return tuple(dict.fromkeys((*self.data, self.layer.value, *self.cut.others)))


def network_errors(
    pair: Pair,
    layers: Sequence[LayerGroup],
    dataset: Dataset,
    sample_bytes: Mapping[str, int],
    progress: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """SQNR in dB of the network's outputs with only one layer's noise, by layer.

    Behind a Softmax, and other saturating functions, the value before it is measured; a layer that
    influences no such value is measured at the outputs themselves. Of several outputs, the mean of
    their relative noises is taken.

    Args:
        pair: The networks.
        layers: Integer layers and graph inputs whose tensors the float network has by name.
        dataset: The samples; all their inputs are held at a time.
        sample_bytes: What values of the float network take in one sample, as far as known.
        progress: Told how many layers are done.

    Returns:
        Without the layers that cannot be run alone.

    Raises:
        UnreadableSampleError: Not one sample can be read and run.
    """
    program = pair.reference.program
    if any(node.has_subgraph for node in program.nodes):
        return {}
    found: dict[str, float] = {}
    done = 0
    with ThreadPoolExecutor(available_threads(), thread_name_prefix="quantkit-layers") as pool:
        try:
            first = _measured_first(pair)
            own = [spec.name for spec in program.outputs if spec.name in program.producers()]
            wanted = tuple(dict.fromkeys((*first, *own)))
            samples = run_samples(pair.reference.model, dataset, wanted, pool)
            floats = set(samples[0].outputs)
            choices = [[name for name in names if name in floats] for names in (first, own)]
            places = [_place(pair, layer, choices) for layer in layers]
            for together in _packed(places, sample_bytes, len(samples)):
                for place, db in _measured(pair, together, samples, pool):
                    if db is not None:
                        found[place.layer.name] = db
                    done += 1
                    if progress is not None:
                        progress(done)
        finally:
            pool.shutdown(cancel_futures=True)
    return found


def _measured_first(pair: Pair) -> tuple[str, ...]:
    """Found in the quantized graph where it has the names: a reference may have clips between."""
    computed = pair.reference.program.producers()
    found = measured_values(pair.rewritten.program)
    if all(name in computed for name in found):
        return found
    return measured_values(pair.reference.program)


def _place(pair: Pair, layer: LayerGroup, choices: Sequence[Sequence[str]]) -> _Place:
    """Where a layer's noise is measured: at the first choice of values that it influences."""
    data = tuple(name for name in layer.read() if name not in pair.rewritten.program.constants)
    for names in choices:
        cut = cut_behind(pair.reference.program, [layer.value], names)
        if cut.outputs or layer.value in names:
            break
    measured = tuple(names)
    return _Place(layer, data, cut, measured if cut.outputs or layer.value in names else ())


def _packed(
    places: Sequence[_Place], sample_bytes: Mapping[str, int], count: int
) -> Iterator[list[_Place]]:
    """Neighbouring layers whose values fit in memory for all samples; at least one."""
    pack: list[_Place] = []
    for place in places:
        names = {name for each in (*pack, place) for name in each.needed()}
        if pack and count * sum(sample_bytes.get(name, 0) for name in names) > _CACHE_BYTES:
            yield pack
            pack = []
        pack.append(place)
    if pack:
        yield pack


def _measured(
    pair: Pair, together: Sequence[_Place], samples: Sequence[Sample], pool: ThreadPoolExecutor
) -> Iterator[tuple[_Place, float | None]]:
    """The layers of a pack, whose values are let go of at the end."""
    names = dict.fromkeys(name for place in together for name in place.needed())
    values = with_values(pair.reference.model, samples, list(names), pool)
    work = [pool.submit(_output_sqnr_db, pair, place, values) for place in together]
    for place, future in zip(together, work, strict=True):
        yield place, future.result()


def _output_sqnr_db(pair: Pair, place: _Place, samples: Sequence[Sample]) -> float | None:
    """Over all samples; None where it cannot be told."""
    value = place.layer.value
    sums = dict.fromkeys(place.measured, SqnrSums())
    try:
        with_noise = _noise_of(pair, place, samples[0].values)
        rest = (
            open_rest(pair.reference.model, place.cut, samples[0].values)
            if (place.cut.outputs)
            else None
        )
        for sample in samples:
            noisy = with_noise(sample.values)
            outputs = {**sample.outputs, value: noisy}
            if rest is not None:
                feeds = {name: sample.values[name] for name in place.cut.inputs}
                outputs |= rest.run({**feeds, value: noisy}, place.cut.outputs)
            for name in place.measured:
                sums[name] += SqnrSums.of(sample.outputs[name], outputs[name])
    except QuantkitError:  # refused by onnxruntime, or no finite numbers
        return None
    relative = [each.noise / each.signal for each in sums.values() if each.signal > 0.0]
    if not relative:
        return None
    noise = sum(relative) / len(relative)
    return -10.0 * math.log10(noise) if noise > 0.0 else math.inf


def _noise_of(
    pair: Pair, place: _Place, values: Mapping[str, Array]
) -> Callable[[Mapping[str, Array]], Array]:
    """Of the float network's values, the layer's tensor with the layer's own noise."""
    value = place.layer.value
    params = pair.params[value]
    if not place.layer.nodes:
        return lambda real: pair.undone(value, quantized(pair.changed(value, real[value]), params))
    rewritten = _part(pair.rewritten, place, values)
    # Where codes are only moved both networks do the same; elsewhere the quantized one may lack a
    # clamp that the ends of its codes perform.
    moves = all(_moves(node) for node in place.layer.nodes)
    floats = None if moves else _part(pair.reference, place, values)

    def with_noise(real: Mapping[str, Array]) -> Array:
        read = {
            name: quantized(pair.changed(name, real[name]), pair.params[name])
            for name in place.data
        }
        made = rewritten.run(read)[value]
        if floats is None:
            expected = pair.undone(value, made)
        else:
            expected = floats.run({name: pair.undone(name, x) for name, x in read.items()})[value]
        noise = pair.undone(value, quantized(made, params)) - expected
        return np.asarray(real[value] + noise)

    return with_noise


def _moves(node: Node) -> bool:
    is_known = node.domain == "" and node.op_type in OPS
    return is_known and OPS[node.op_type].rule.output == "same_as_input"


def _part(prepared: Prepared, place: _Place, values: Mapping[str, Array]) -> OrtSession:
    """A session of the layer alone."""
    dtypes = {name: values[name].dtype for name in place.data}
    return open_session(between(prepared.model, dtypes, [place.layer.value]), threads=1)
