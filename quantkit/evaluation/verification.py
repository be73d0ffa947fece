"""Integer session, onnxruntime and the float reference side by side, layer by layer.

Isolated: every kernel gets the codes that onnxruntime computed as its input, and its codes are
compared with onnxruntime's. Accumulated: the integer session runs from the network's input. The
oracle is onnxruntime's fully optimized session of the file itself, with the code tensors as extra
outputs; that it computes what the session without them computes is checked on the outputs. The
float reference is the op's float form on the dequantized input codes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from quantkit.calibration.batches import batches
from quantkit.calibration.dataset import Dataset
from quantkit.errors import ModelError, NonFiniteRangeError, UnsupportedModelError
from quantkit.graph.model_io import load_model
from quantkit.graph.ort_session import open_session, with_outputs
from quantkit.graph.program import Array, Node
from quantkit.integer_session import IntegerSession, Step, open_integer_session
from quantkit.numerics.affine import QuantizedTensor, dequantize, quantize
from quantkit.ops.contract import OPS
from quantkit.quantized_model.model import QuantizedModel

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class CodeDifference:
    """Codes compared with onnxruntime's; counts grow as samples come in.

    Attributes:
        saturated: Codes where onnxruntime is at either end of the code range.
        unsaturated: All others.
        saturated_mismatches: Differing codes among the saturated.
        unsaturated_mismatches: Differing codes among the others.
        largest: The largest difference, in codes.
    """

    saturated: int = 0
    unsaturated: int = 0
    saturated_mismatches: int = 0
    unsaturated_mismatches: int = 0
    largest: int = 0

    @property
    def mismatches(self) -> int:
        """All differing codes."""
        return self.saturated_mismatches + self.unsaturated_mismatches

    @property
    def total(self) -> int:
        """All codes compared."""
        return self.saturated + self.unsaturated

    def add(self, actual: Array, oracle: Array) -> None:
        """Count one more pair of arrays."""
        info = np.iinfo(oracle.dtype)
        ends = (oracle == info.min) | (oracle == info.max)
        differ = actual != oracle
        self.saturated += int(np.count_nonzero(ends))
        self.unsaturated += int(oracle.size - np.count_nonzero(ends))
        self.saturated_mismatches += int(np.count_nonzero(differ & ends))
        self.unsaturated_mismatches += int(np.count_nonzero(differ & ~ends))
        if differ.any():
            gap = np.abs(actual[differ].astype(np.int64) - oracle[differ].astype(np.int64))
            self.largest = max(self.largest, int(gap.max()))


@dataclass(frozen=True, slots=True)
class LayerVerification:
    """One integer node against the oracle.

    Attributes:
        node: Its name.
        op_type: Its op.
        isolated: Equal input codes, against onnxruntime.
        accumulated: From the network's input, against onnxruntime.
        float_reference: The op's float form, rounded to codes, against onnxruntime.
        accumulator_bound: Largest ``|accumulator|`` any input can produce; None without a weight.
    """

    node: str
    op_type: str
    isolated: CodeDifference = field(default_factory=CodeDifference)
    accumulated: CodeDifference = field(default_factory=CodeDifference)
    float_reference: CodeDifference = field(default_factory=CodeDifference)
    accumulator_bound: int | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome over all samples.

    Attributes:
        arithmetic: Of the integer session.
        samples: How many.
        layers: Every integer node whose codes onnxruntime shows.
        float_islands: Node -> why it is not integer.
        not_compared: Integer nodes whose input codes onnxruntime does not show.
        same_class: Samples whose predicted class is onnxruntime's; None without classes.
        largest_output_difference: Of the real-valued outputs, integer session against onnxruntime.
        oracle_difference: Largest difference between the outputs of onnxruntime's session of the
            file as it is and of the one that shows its codes. Showing codes may change what
            onnxruntime fuses; unless this is 0, the codes compared are not those it computes.
    """

    arithmetic: str
    samples: int
    layers: tuple[LayerVerification, ...]
    float_islands: Mapping[str, str]
    not_compared: tuple[str, ...]
    same_class: int | None
    largest_output_difference: float
    oracle_difference: float

    @property
    def tolerance(self) -> int:
        """Codes an isolated result may be off: 0 for onnxruntime's own arithmetic, otherwise 1."""
        return 0 if self.arithmetic == "onnxruntime" else 1

    @property
    def first_failure(self) -> LayerVerification | None:
        """The first layer whose isolated codes are further off than the tolerance."""
        return next((x for x in self.layers if x.isolated.largest > self.tolerance), None)

    @property
    def passed(self) -> bool:
        """Whether every layer is within the tolerance, and the oracle is what it should be."""
        return self.first_failure is None and self.oracle_difference == 0.0


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
    if not any(step.kernel is not None for step in session.steps):
        name, reason = next(iter(model.plan.kept_float.items()))
        raise UnsupportedModelError(
            f"{str(path)!r} has no integer node to verify; the first, {name!r}, stays float: "
            f"{reason}"
        )
    oracle = open_session(with_outputs(load_model(path), list(model.code_tensors.values())))
    plain = open_session(path)
    layers = {
        step.node.name: LayerVerification(
            step.node.name,
            step.node.op_type,
            accumulator_bound=model.accumulator_bounds.get(step.node.name),
        )
        for step in session.steps
        if step.kernel is not None
    }
    reached: set[str] = set()
    samples, same, largest, drift = 0, 0, 0.0, 0.0
    has_classes = False
    for batch in batches(dataset, 1):
        shown = oracle.run(batch.arrays)
        codes = {value: shown[name] for value, name in model.code_tensors.items()}
        inputs = {name: codes.get(name, batch.arrays[name]) for name in batch.arrays}
        reached |= _compare_layers(session, model, {**inputs, **codes}, layers)
        wanted = [name for name in codes if name not in batch.arrays]
        outputs = [spec.name for spec in session.program.outputs]
        found = session.run_codes(batch.arrays, [*wanted, *outputs])
        for step in session.steps:
            for name in step.node.outputs:
                if step.kernel is not None and name in codes:
                    layers[step.node.name].accumulated.add(found[name], codes[name])
        expected = plain.run(batch.arrays)
        drift = max(drift, *(_difference(shown[name], expected[name]) for name in outputs))
        for position, name in enumerate(outputs):
            value = found[name]
            real = dequantize(value, session.params[name]) if name in session.params else value
            gap = np.abs(real.astype(np.float64) - expected[name].astype(np.float64))
            if not np.isfinite(gap).all():
                raise NonFiniteRangeError(
                    f"output {name!r} holds NaN or infinity on {batch.names[0]!r}; "
                    "the model itself is damaged"
                )
            largest = max(largest, float(gap.max(initial=0.0)))
            if position == 0 and real.ndim == 2 and real.shape[1] > 1:
                has_classes = True
                rows = slice(len(batch.names))  # a fixed batch repeats the sample
                same += int(np.sum(real[rows].argmax(1) == expected[name][rows].argmax(1)))
        samples += len(batch.names)
        if progress is not None:
            progress(batch.indices[-1] + 1, len(dataset))
    return Verification(
        arithmetic,
        samples,
        tuple(layer for layer in layers.values() if layer.isolated.total),
        model.plan.kept_float,
        tuple(name for name in layers if name not in reached),
        same if has_classes else None,
        largest,
        drift,
    )


def _difference(shown: Array, plain: Array) -> float:
    """The largest difference; 0 within 1e-5 of the largest value, which float islands may round."""
    gap = np.abs(shown.astype(np.float64) - plain.astype(np.float64)).max(initial=0.0)
    rounding = 1e-5 * np.abs(plain.astype(np.float64)).max(initial=0.0)
    return float(gap) if gap > rounding else 0.0


def _compare_layers(
    session: IntegerSession,
    model: QuantizedModel,
    codes: Mapping[str, Array],
    layers: Mapping[str, LayerVerification],
) -> set[str]:
    """Every kernel on onnxruntime's own input codes; a value it does not show is passed on.

    Returns:
        The nodes that could be run.
    """
    values = dict(codes)
    reached: set[str] = set()
    for step in session.steps:
        if step.kernel is None or not all(name in values for name in step.data):
            continue
        reached.add(step.node.name)
        results = session.run_step(step, values)
        for name, array in results.items():
            if name in codes:
                layer = layers[step.node.name]
                layer.isolated.add(array, codes[name])
                layer.float_reference.add(_float_form(step, model, values, name), codes[name])
            else:
                values[name] = array
    return reached


def _float_form(
    step: Step, model: QuantizedModel, values: Mapping[str, Array], output: str
) -> Array:
    node: Node = step.node
    inputs: list[Array | None] = []
    for name in node.inputs:
        if not name:
            inputs.append(None)
        elif name in model.constants:
            inputs.append(_real_constant(model.constants[name]))
        elif name in model.prepared.program.constants:
            inputs.append(model.prepared.program.constants[name])
        else:
            inputs.append(dequantize(values[name], model.plan.params[name]))
    results = OPS[node.op_type].float_form(node, inputs)
    if output not in node.outputs:
        raise ModelError(f"node {node.name!r} has no output {output!r}")
    real = results[node.outputs.index(output)]
    return quantize(np.asarray(real, np.float32), model.plan.params[output])


def _real_constant(tensor: QuantizedTensor) -> Array:
    return tensor.dequantize()
