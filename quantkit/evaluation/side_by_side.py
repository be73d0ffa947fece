"""Integer session, onnxruntime and the float reference on the same samples, layer by layer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quantkit.calibration.batches import Batch, batches
from quantkit.calibration.dataset import Dataset
from quantkit.errors import NonFiniteRangeError, UnsupportedModelError
from quantkit.evaluation.exact_codes import ExactCodes, exact_codes
from quantkit.evaluation.integer_layers import Layer, integer_layers
from quantkit.evaluation.oracle import Oracle, largest_gap, open_oracle
from quantkit.evaluation.verification import Divergence, LayerVerification, Verification
from quantkit.graph.program import Array, Node
from quantkit.integer_session import IntegerSession, open_integer_session
from quantkit.numerics.affine import dequantize
from quantkit.ops.contract import OPS
from quantkit.quantized_model.model import QuantizedModel

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class _Outputs:
    """The network's outputs against onnxruntime's; counts grow as samples come in."""

    values: int = 0
    differing: int = 0
    largest: float = 0.0
    same_class: int = 0
    has_classes: bool = False
    first_differing: str = ""


def verify(
    path: Path,
    model: QuantizedModel,
    dataset: Dataset,
    *,
    arithmetic: str = "onnxruntime",
    strict_integer: bool = False,
    progress: Progress | None = None,
) -> Verification:
    """Compare the integer session with onnxruntime on the file the model was read from.

    Args:
        path: The quantized file.
        model: The same file as ``load_quantized`` reads it.
        dataset: What to feed.
        arithmetic: "onnxruntime" or "fixed_point".
        strict_integer: Run kernels that hold no float array.
        progress: Told after every sample.

    Raises:
        ModelError: onnxruntime cannot run the file.
        UnsupportedModelError: There is nothing to compare: no node is integer.
        NonFiniteRangeError: An output holds NaN or infinity.
    """
    session = open_integer_session(model, arithmetic=arithmetic, strict_integer=strict_integer)
    layers = integer_layers(session, model)
    if not layers:
        name, reason = next(iter(model.plan.kept_float.items()), ("the graph", "it has no node"))
        raise UnsupportedModelError(
            f"{str(path)!r} has no integer node to verify; the first, {name!r}, stays float: "
            f"{reason}"
        )
    oracle: Oracle | None = None
    results: dict[str, LayerVerification] = {}
    outputs = _Outputs()
    samples, drift, default_drift = 0, 0.0, None
    for batch in batches(dataset, 1):
        if oracle is None:
            oracle = open_oracle(path, model, layers, batch.arrays)
            results = _empty_results(model, layers, oracle, arithmetic)
            if not results:
                name, reason = next(iter(oracle.not_compared.items()))
                raise UnsupportedModelError(
                    f"{str(path)!r} has no integer node whose codes can be compared; the first, "
                    f"{name!r}: {reason}"
                )
        codes, expected, moved = oracle.codes(batch.arrays)
        drift = max(drift, moved)
        default_moved = oracle.default_difference(batch.arrays, expected)
        if default_moved is not None:
            default_drift = max(default_drift or 0.0, default_moved)
        names = {name for layer in layers for name in (*layer.data, *layer.outputs)}
        found = session.run_codes(batch.arrays, [*names, *expected])
        for layer in layers:
            result = results.get(layer.node.name)
            if result is not None:
                _compare(layer, result, session, model, oracle, codes, found)
        _compare_outputs(outputs, session, batch, found, expected)
        samples += len(batch.names)
        if progress is not None:
            progress(batch.indices[-1] + 1, len(dataset))
    assert oracle is not None  # an empty dataset cannot be opened
    return Verification(
        arithmetic=arithmetic,
        samples=samples,
        layers=tuple(results.values()),
        float_islands=model.plan.kept_float,
        not_compared=oracle.not_compared,
        same_class=outputs.same_class if outputs.has_classes else None,
        output_values=outputs.values,
        differing_outputs=outputs.differing,
        largest_output_difference=outputs.largest,
        first_divergence=_first_divergence(model, layers, results, outputs, oracle),
        oracle_difference=drift,
        default_difference=default_drift,
        default_in_floats=oracle.default_in_floats() if default_drift else (),
    )


def _empty_results(
    model: QuantizedModel, layers: Sequence[Layer], oracle: Oracle, arithmetic: str
) -> dict[str, LayerVerification]:
    results: dict[str, LayerVerification] = {}
    for layer in layers:
        name = layer.node.name
        if name in oracle.not_compared:
            continue
        tolerance: int | None = 0 if arithmetic == "onnxruntime" else 1
        remark = "compared by itself, cut out of the file" if name in oracle.alone else ""
        if name in oracle.in_floats:
            tolerance, remark = 1, "onnxruntime computes it in floats"
            if oracle.in_floats[name] not in ("", *(step.node.op_type for step in layer.steps)):
                remark += f" ({oracle.in_floats[name]})"
        for step in layer.steps:
            if step.node.name in model.not_comparable:
                tolerance, remark = None, model.not_comparable[step.node.name]
        is_judged = tolerance is not None and arithmetic == "onnxruntime"
        results[name] = LayerVerification(
            name,
            layer.node.op_type,
            accumulator_bound=model.accumulator_bounds.get(name),
            tolerance=tolerance,
            is_float_in_onnxruntime=name in oracle.in_floats,
            must_be_exact=name in oracle.in_floats and is_judged,
            remark=remark,
        )
    return results


def _compare(
    layer: Layer,
    result: LayerVerification,
    session: IntegerSession,
    model: QuantizedModel,
    oracle: Oracle,
    codes: Mapping[str, Array],
    found: Mapping[str, Array],
) -> None:
    """One layer on onnxruntime's own input codes; on the session's where those are not shown."""
    values = {name: codes.get(name, found[name]) for name in layer.data}
    is_alone = layer.node.name in oracle.alone
    reference = oracle.run_alone(layer, values) if is_alone else codes
    exact: dict[str, ExactCodes] = exact_codes(layer.node, model, values)
    for step in layer.steps:
        values |= session.run_step(step, values)
    # A clamp that is part of the layer is its saturation: the value before it is the exact one.
    before = dict(zip(layer.outputs, layer.node.outputs, strict=False))
    for name in layer.outputs:
        value = exact.get(name) or exact.get(before[name])
        result.isolated.add(values[name], reference[name], value)
        if value is not None:
            result.float_reference.add(value.codes, reference[name], value)
        if name in codes:
            result.accumulated.add(found[name], codes[name])


def _compare_outputs(
    outputs: _Outputs,
    session: IntegerSession,
    batch: Batch,
    found: Mapping[str, Array],
    expected: Mapping[str, Array],
) -> None:
    for position, (name, oracle) in enumerate(expected.items()):
        value = found[name]
        real = dequantize(value, session.params[name]) if name in session.params else value
        gap = largest_gap(real, oracle)
        if not np.isfinite(gap):
            raise NonFiniteRangeError(
                f"output {name!r} holds NaN or infinity on {batch.names[0]!r}; "
                "the model itself is damaged"
            )
        outputs.largest = max(outputs.largest, gap)
        outputs.values += oracle.size
        differing = int(np.count_nonzero(real != oracle))
        outputs.differing += differing
        if differing and not outputs.first_differing:
            outputs.first_differing = name
        if position == 0 and real.ndim == 2 and real.shape[1] > 1:
            outputs.has_classes = True
            rows = slice(len(batch.names))  # a fixed batch repeats the sample
            outputs.same_class += int(np.sum(real[rows].argmax(1) == oracle[rows].argmax(1)))


def _first_divergence(
    model: QuantizedModel,
    layers: Sequence[Layer],
    results: Mapping[str, LayerVerification],
    outputs: _Outputs,
    oracle: Oracle,
) -> Divergence | None:
    for layer in layers:
        result = results.get(layer.node.name)
        if result is not None and result.accumulated.mismatches:
            reason = _reason(model, layer, result, oracle)
            return Divergence(result.node, result.op_type, result.accumulated.mismatches, reason)
    if not outputs.differing:
        return None
    for node in _ancestors(model, [outputs.first_differing]):
        if node.name in model.plan.kept_float and not _only_moves(node):
            reason = "a float node, which NumPy and onnxruntime round differently"
            return Divergence(node.name, node.op_type, 0, reason)
    last = layers[-1].node
    return Divergence(last.name, last.op_type, 0, "the codes within the network cannot be shown")


def _reason(model: QuantizedModel, layer: Layer, result: LayerVerification, oracle: Oracle) -> str:
    """Why the accumulated codes of the first layer that differs do."""
    if result.isolated.mismatches:
        own = f"{result.isolated.mismatches:,} of its codes differ given equal inputs"
        return f"{result.remark}: {own}" if result.remark else own
    for node in _ancestors(model, layer.data):
        if node.name in model.plan.kept_float:
            return f"its inputs come from the float node {node.name!r} ({node.op_type})"
        if node.name in oracle.not_compared or not set(node.outputs) & set(oracle.tensors):
            return (
                f"its inputs come from {node.name!r} ({node.op_type}), which onnxruntime merges "
                "with its neighbours: showing its codes would change the outputs"
            )
    return "its inputs differ"


def _ancestors(model: QuantizedModel, names: Sequence[str]) -> Iterator[Node]:
    """The nodes that values come from, each once; near ones of the last value first."""
    producers = model.prepared.program.producers()
    waiting, seen = list(names), set()
    while waiting:
        node = producers.get(waiting.pop())
        if node is not None and node.name not in seen:
            seen.add(node.name)
            yield node
            waiting += node.inputs


def _only_moves(node: Node) -> bool:
    """Whether it moves or clamps values, which is exact."""
    rule = OPS[node.op_type].rule if node.domain == "" and node.op_type in OPS else None
    return rule is not None and rule.output == "same_as_input"
