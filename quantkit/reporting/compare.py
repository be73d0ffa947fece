"""Every layer of a quantized network against the float one.

Isolated: the layer alone is integer; its inputs are the float network's, quantized. Accumulated:
the whole network is integer up to and including the layer. Both compare the layer's output, over
all samples, by SQNR and cosine similarity.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from quantkit.calibration.dataset import Dataset
from quantkit.calibration.statistics import TensorStatistics
from quantkit.errors import ModelError
from quantkit.evaluation.samples import evenly_spaced
from quantkit.graph.cost import model_cost
from quantkit.graph.program import Dimension, Program
from quantkit.passes.prepare import Prepared
from quantkit.quantized_model.model import QuantizedModel
from quantkit.recovery.channel_changes import METADATA_KEY, from_text
from quantkit.reporting.layer import Layer, TensorRange
from quantkit.reporting.layer_accumulators import layer_accumulator
from quantkit.reporting.layer_groups import layer_groups
from quantkit.reporting.layer_pass import LayerPass, run_layers
from quantkit.reporting.network_error import Pair, network_errors
from quantkit.reporting.tensor_ranges import tensor_range
from quantkit.reporting.weight_ranges import weight_ranges

Progress = Callable[[int, int], None]

# How much the network errors may take: values of rests of the network, which are half of it.
_REST_BYTES = 30 * 1024**3
_MOST_SAMPLES = 16


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """What every layer loses, and what was seen of the float network meanwhile.

    Attributes:
        layers: Quantized graph inputs, then nodes in the graph's order.
        statistics: Of the float network's values: graph inputs and all that is quantized, by name,
            exact, with the channels as the quantized network has them.
    """

    layers: tuple[Layer, ...]
    statistics: Mapping[str, TensorStatistics]


def compare_layers(
    reference: Prepared,
    model: QuantizedModel,
    dataset: Dataset,
    progress: Progress | None = None,
    *,
    source: Program | None = None,
) -> Comparison:
    """Compare every layer whose output both networks have, by name.

    Of a network with control flow, that is every layer before the first node that holds a graph.

    Args:
        reference: The prepared float network. Where there is none,
            ``exporters.partial_graphs.dequantized_network(model)``, whose weights have no noise.
        model: The quantized one. Its metadata tell which channels it has rescaled against
            ``reference``.
        dataset: A few samples are enough: errors of layers hardly differ between pictures.
        progress: Told how much is done, and how much there is in all: samples and layers.
        source: The float network as the user's file has it
            (``program_of(load_model(path))`` of ``graph.model_io``). None: weights before they were
            quantized are not known.

    Raises:
        ModelError: They are not the same network; see :func:`check_same_network`.
        NonFiniteRangeError: The float network makes NaN or infinity of a sample.
    """
    check_same_network(reference, model)
    is_float_model = reference.digest != model.prepared.digest
    # The network of the dequantized weights has its channels rescaled already.
    changes = from_text(model.metadata.get(METADATA_KEY, "{}")) if is_float_model else {}
    pair = Pair.of(reference, model, changes)
    known = {*reference.program.producers(), *(spec.name for spec in reference.program.inputs)}
    layers = [layer for layer in layer_groups(model) if layer.value in known]
    total = len(dataset) + len(layers)

    def told(before: int) -> Callable[[int], None] | None:
        return None if progress is None else lambda done: progress(before + done, total)

    seen = run_layers(pair, model, layers, dataset, told(0))
    judged = [layer for layer in layers if layer.name in seen.isolated]
    network = network_errors(
        pair,
        judged,
        evenly_spaced(dataset, _sample_count(seen, len(judged))),
        seen.sample_bytes,
        told(total - len(judged)),
    )
    statistics = {name: running.result() for name, running in seen.statistics.items()}
    macs = {cost.name: cost.macs for cost in model_cost(model.prepared.program).nodes}
    folded = None if source is None else reference.program
    rows: list[Layer] = []
    for layer in layers:
        alone, so_far = seen.isolated.get(layer.name), seen.accumulated.get(layer.name)
        if so_far is None:
            continue
        row = Layer(
            node=layer.name,
            op_type=layer.op_type,
            value=layer.value,
            macs=macs.get(layer.name) if layer.nodes else 0,
            isolated_sqnr_db=None if alone is None else alone.db,
            accumulated_sqnr_db=so_far.db,
            isolated_cosine=None if alone is None else alone.cosine,
            accumulated_cosine=so_far.cosine,
            network_sqnr_db=network.get(layer.name),
            saturated_percent=_percent(seen.at_ends.get(layer.name)),
            kept_float=model.plan.kept_float.get(layer.name),
            output=None if alone is None else _output(layer.value, model, seen, statistics),
            weight=weight_ranges(layer, model, folded, source),
            accumulator=layer_accumulator(layer.nodes[0], model) if layer.nodes else None,
        )
        rows.append(row)
    return Comparison(tuple(rows), statistics)


def _sample_count(seen: LayerPass, layers: int) -> int:
    """Fewer where the network is large and deep, so that it takes about half a minute."""
    each = layers * sum(seen.sample_bytes.values()) // 2
    return min(max(_REST_BYTES // max(each, 1), 1), _MOST_SAMPLES)


def _output(
    name: str, model: QuantizedModel, seen: LayerPass, statistics: Mapping[str, TensorStatistics]
) -> TensorRange | None:
    """None where codes have a scale per channel, or the tensor was empty."""
    if name not in statistics or name not in seen.outside:
        return None
    return tensor_range(statistics[name], model.plan.params[name], seen.outside[name])


def _percent(counts: tuple[int, int] | None) -> float | None:
    return None if counts is None else 100.0 * counts[0] / max(counts[1], 1)


def check_same_network(reference: Prepared, model: QuantizedModel) -> None:
    """Refuse two networks whose inputs, outputs or commonly named tensors do not fit.

    Raises:
        ModelError: What differs.
    """
    ours, theirs = reference.program, model.prepared.program
    for what, a, b in (
        ("inputs", ours.inputs, theirs.inputs),
        ("outputs", ours.outputs, theirs.outputs),
    ):
        names_a, names_b = {spec.name for spec in a}, {spec.name for spec in b}
        if names_a != names_b:
            raise ModelError(
                f"two different networks: the float model has the {what} "
                f"{', '.join(sorted(names_a))}, the quantized model {', '.join(sorted(names_b))}"
            )
    for name, spec in ours.specs.items():
        a_shape, other = spec.shape, theirs.specs.get(name)
        b_shape = None if other is None else other.shape
        if a_shape is None or b_shape is None:
            continue
        pairs = list(zip(a_shape, b_shape, strict=False))
        if len(a_shape) != len(b_shape) or not all(_fit(m, n) for m, n in pairs):
            raise ModelError(
                f"two different networks: tensor {name!r} has shape {_shape(a_shape)} in the "
                f"float model, {_shape(b_shape)} in the quantized one"
            )


def _fit(a: Dimension, b: Dimension) -> bool:
    # Some exporters write -1 for a dynamic dimension.
    return not (isinstance(a, int) and isinstance(b, int)) or a == b or min(a, b) < 0


def _shape(shape: tuple[Dimension, ...]) -> str:
    return "x".join("?" if size is None else str(size) for size in shape) or "scalar"
