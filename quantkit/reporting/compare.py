"""Every layer of a quantized model against the float network.

Isolated: the layer alone is integer; its inputs are the float network's, quantized. Accumulated:
the whole network is integer up to and including the layer. Both are SQNR in dB of the layer's
output, over all samples.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from quantkit.calibration.batches import batches
from quantkit.calibration.dataset import Dataset
from quantkit.errors import ModelError
from quantkit.graph.cost import model_cost
from quantkit.graph.ort_session import open_session, with_outputs
from quantkit.graph.program import Array, Dimension
from quantkit.integer_session import IntegerSession, open_integer_session
from quantkit.numerics.affine import QuantParams, dequantize, quantize
from quantkit.numerics.metrics import SqnrSums
from quantkit.passes.prepare import Prepared
from quantkit.quantized_model.model import QuantizedModel
from quantkit.recovery.channel_changes import METADATA_KEY, from_text

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class LayerError:
    """What one layer loses.

    Attributes:
        node: The layer's name.
        op_type: Its op.
        value: The tensor that was compared: the layer's output, behind its clamp.
        macs: Multiply-accumulates of one sample; None where a dimension is not known.
        isolated_sqnr_db: Of the layer alone; None for a float island.
        accumulated_sqnr_db: Of the network up to here.
        saturated_percent: Share of output codes at an end of their range, where values may have
            been cut off; None where float. An end that is exactly real 0 (the zero point, as after
            a ReLU) is not counted: nothing is lost there.
        kept_float: Why the layer stays float; None where it is integer.
    """

    node: str
    op_type: str
    value: str
    macs: int | None
    isolated_sqnr_db: float | None
    accumulated_sqnr_db: float
    saturated_percent: float | None
    kept_float: str | None


def compare_layers(
    reference: Prepared, model: QuantizedModel, dataset: Dataset, progress: Progress | None = None
) -> tuple[LayerError, ...]:
    """Compare every layer whose output both networks have, by name.

    Args:
        reference: The prepared float network.
        model: The quantized one.
        dataset: A few samples are enough: errors of layers hardly differ between pictures.
        progress: Told after every sample.

    Raises:
        ModelError: They are not the same network; see :func:`check_same_network`.
    """
    check_same_network(reference, model)
    session = open_integer_session(model)
    changes = from_text(model.metadata.get(METADATA_KEY, "{}"))
    groups = _layer_groups(session, model)
    float_values = reference.program.producers()
    shared = {node: value for node, value in groups.items() if value in float_values}
    inputs = {spec.name for spec in reference.program.inputs}
    needed = [
        name
        for step in session.steps
        for name in (*step.data, *step.node.outputs)
        if name in float_values and name not in inputs
    ]
    oracle = open_session(with_outputs(reference.model, list(dict.fromkeys(needed))))
    isolated: dict[str, SqnrSums] = {}
    accumulated: dict[str, SqnrSums] = {}
    saturated: dict[str, tuple[int, int]] = {}
    for batch in batches(dataset, 1):
        real = {**batch.arrays, **oracle.run(batch.arrays, list(dict.fromkeys(needed)))}
        # Rescaled channels are compared as the quantized network has them.
        real |= {name: changes[name].applied(real[name]) for name in changes.keys() & real.keys()}
        for node, codes in _isolated_outputs(session, model, real).items():
            value = groups.get(node)  # None: a clamp whose producer stays float
            if value in real:
                sums = SqnrSums.of(real[value], dequantize(codes, session.params[value]))
                isolated[node] = isolated.get(node, SqnrSums()) + sums
        found = session.run_codes(batch.arrays, list(dict.fromkeys(shared.values())))
        for node, value in shared.items():
            array = found[value]
            if value in session.params:
                ends = _saturated(array, session.params[value])
                old = saturated.get(node, (0, 0))
                saturated[node] = (old[0] + ends, old[1] + array.size)
                array = dequantize(array, session.params[value])
            sums = SqnrSums.of(real[value], array)
            accumulated[node] = accumulated.get(node, SqnrSums()) + sums
        if progress is not None:
            progress(batch.indices[-1] + 1, len(dataset))
    macs = {cost.name: cost.macs for cost in model_cost(model.prepared.program).nodes}
    return tuple(
        LayerError(
            node=step.node.name,
            op_type=step.node.op_type,
            value=shared[step.node.name],
            macs=macs.get(step.node.name),
            isolated_sqnr_db=_db(isolated.get(step.node.name)),
            accumulated_sqnr_db=accumulated[step.node.name].db,
            saturated_percent=_percent(saturated.get(step.node.name)),
            kept_float=model.plan.kept_float.get(step.node.name),
        )
        for step in session.steps
        if step.node.name in shared
    )


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


def _layer_groups(session: IntegerSession, model: QuantizedModel) -> dict[str, str]:
    """Layer -> the value it is judged by: its output, or that of the clamp it absorbs."""
    # In other tools' files a clamp may be float behind an integer node; it is judged by itself.
    absorbers = {
        clamp: absorber
        for clamp, absorber in model.prepared.clamps.items()
        if clamp not in model.plan.kept_float or absorber in model.plan.kept_float
    }
    groups = {
        step.node.name: step.node.outputs[0]
        for step in session.steps
        if step.node.name not in absorbers
    }
    for step in session.steps:
        if step.node.name in absorbers:
            groups[absorbers[step.node.name]] = step.node.outputs[0]
    return groups


def _isolated_outputs(
    session: IntegerSession, model: QuantizedModel, real: Mapping[str, Array]
) -> dict[str, Array]:
    """Codes of every integer layer on quantized float inputs; a clamp continues its producer."""
    results: dict[str, Array] = {}
    pending: dict[str, tuple[str, Array]] = {}
    clamped = set(model.prepared.clamps.values())
    for step in session.steps:
        if step.kernel is None:
            continue
        values: dict[str, Array] = {}
        layer = step.node.name
        is_clamp = step.node.name in model.prepared.clamps
        for name in step.data:
            # Only a clamp goes on with the codes of its producer; layers start from real values.
            if is_clamp and name in pending:
                layer, values[name] = pending[name]
            elif name in real:
                values[name] = quantize(np.asarray(real[name], np.float32), session.params[name])
        if len(values) < len(set(step.data)):
            continue
        codes = session.run_step(step, values)[step.node.outputs[0]]
        results[layer] = codes
        if is_clamp or step.node.name in clamped:
            pending[step.node.outputs[0]] = (layer, codes)
    return results


def _saturated(codes: Array, params: QuantParams) -> int:
    info = np.iinfo(codes.dtype)
    ends = [end for end in (info.min, info.max) if (params.zero_point != end).all()]
    return sum(int(np.count_nonzero(codes == end)) for end in ends)


def _db(sums: SqnrSums | None) -> float | None:
    return None if sums is None else sums.db


def _percent(counts: tuple[int, int] | None) -> float | None:
    return None if counts is None else 100.0 * counts[0] / max(counts[1], 1)
