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
from quantkit.graph.program import Array
from quantkit.integer_session import IntegerSession, open_integer_session
from quantkit.numerics.affine import dequantize, quantize
from quantkit.numerics.metrics import SqnrSums
from quantkit.passes.prepare import Prepared
from quantkit.quantized_model.model import QuantizedModel

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
        saturated_percent: Share of output codes at either end of their range; None where float.
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
        ModelError: The two networks share no tensor: they are not the same network.
    """
    session = open_integer_session(model)
    groups = _layer_groups(session, model)
    float_values = reference.program.producers()
    shared = {node: value for node, value in groups.items() if value in float_values}
    if not shared:
        raise ModelError(
            "the float and the quantized model have no tensor name in common: "
            "are both the same network?"
        )
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
        for node, codes in _isolated_outputs(session, model, real).items():
            value = groups[node]
            if value in real:
                sums = SqnrSums.of(real[value], dequantize(codes, session.params[value]))
                isolated[node] = isolated.get(node, SqnrSums()) + sums
        found = session.run_codes(batch.arrays, list(dict.fromkeys(shared.values())))
        for node, value in shared.items():
            array = found[value]
            if value in session.params:
                ends = _saturated(array)
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


def _layer_groups(session: IntegerSession, model: QuantizedModel) -> dict[str, str]:
    """Layer -> the value it is judged by: its output, or that of the clamp it absorbs."""
    groups = {
        step.node.name: step.node.outputs[0]
        for step in session.steps
        if step.node.name not in model.prepared.clamps
    }
    for step in session.steps:
        absorber = model.prepared.clamps.get(step.node.name)
        if absorber is not None:
            groups[absorber] = step.node.outputs[0]
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
        for name in step.data:
            if name in pending:
                layer, values[name] = pending[name]
            elif name in real:
                values[name] = quantize(np.asarray(real[name], np.float32), session.params[name])
        if len(values) < len(set(step.data)):
            continue
        codes = session.run_step(step, values)[step.node.outputs[0]]
        results[layer] = codes
        if step.node.name in clamped or step.node.name in model.prepared.clamps:
            pending[step.node.outputs[0]] = (layer, codes)
    return results


def _saturated(codes: Array) -> int:
    info = np.iinfo(codes.dtype)
    return int(np.count_nonzero((codes == info.min) | (codes == info.max)))


def _db(sums: SqnrSums | None) -> float | None:
    return None if sums is None else sums.db


def _percent(counts: tuple[int, int] | None) -> float | None:
    return None if counts is None else 100.0 * counts[0] / max(counts[1], 1)
