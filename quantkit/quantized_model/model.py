"""QuantizedModel: the prepared graph, its parameters and its integer constants."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from quantkit.config import QuantConfig
from quantkit.errors import ModelError, NonFiniteRangeError
from quantkit.graph.program import Node, Program
from quantkit.numerics.affine import QuantizedTensor
from quantkit.ops.contract import OPS
from quantkit.passes.note import PassNote
from quantkit.passes.prepare import Prepared
from quantkit.plan import QuantPlan, data_values, product_length, quantized_outputs
from quantkit.quantized_model.constants import (
    Float64Array,
    accumulator_bound,
    accumulator_max,
    quantize_operand,
    quantize_weight,
)


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedModel:
    """Everything the integers are: read by every exporter and by the integer session.

    Attributes:
        prepared: The float graph (weights still float).
        plan: Parameters of activations, reasons of float nodes.
        constants: Codes of weights, biases and constant operands, by initializer name; those of a
            file also where only float nodes read their real values.
        accumulator_bounds: Node name -> the largest ``|accumulator|`` any input can produce; within
            int32 for every model that quantkit makes, not for every file it reads.
        notes: What happened while constants were quantized or corrected.
        metadata: Free text stored with the model (preprocessing, digests, options).
        code_tensors: Value -> the tensor that holds its codes in the file the model was read from.
        not_comparable: Integer node -> why onnxruntime, on that file, computes other codes.
        code_boundaries: Inputs and outputs that are codes in the file; they are real values here.

    Raises:
        ModelError: A node is neither quantized nor kept float with a reason.
    """

    prepared: Prepared
    plan: QuantPlan
    constants: Mapping[str, QuantizedTensor]
    accumulator_bounds: Mapping[str, int]
    notes: tuple[PassNote, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    code_tensors: Mapping[str, str] = field(default_factory=dict)
    not_comparable: Mapping[str, str] = field(default_factory=dict)
    code_boundaries: frozenset[str] = frozenset()

    @classmethod
    def from_qdq(cls, path: str | Path, *, fold_batch_norm: bool = False) -> "QuantizedModel":
        """Read a quantized ONNX model of any tool: QDQ or QOperator.

        Args:
            path: The file.
            fold_batch_norm: Whether a BatchNormalization behind a quantized Conv or Gemm is folded
                into its weight scales; onnxruntime computes such nodes in floats.

        Raises:
            ModelError: The file cannot be read, or a Q/DQ node is malformed; the node is named.
            UnsupportedModelError: The model is not quantized, or in a way that is not supported.
        """
        # The reader makes models, so it cannot be imported before this class is there.
        from quantkit.quantized_model.qdq_reader import read_qdq

        return read_qdq(path, fold_batch_norm=fold_batch_norm)

    def __repr__(self) -> str:
        nodes, kept = len(self.prepared.program.nodes), len(self.plan.kept_float)
        return f"QuantizedModel({nodes - kept} integer nodes, {kept} float)"

    def __post_init__(self) -> None:
        for node in self.prepared.program.nodes:
            if node.name in self.plan.kept_float:
                continue
            data = data_values(node, self.prepared.program.constants)
            for name in (*data, *quantized_outputs(node)):
                if name not in self.plan.params:
                    raise ModelError(f"node {node.name!r}: {name!r} has no scale and zero point")
            for name in weight_and_bias(node):
                if name and name not in data and name not in self.constants:
                    raise ModelError(f"node {node.name!r}: {name!r} has no integer codes")


def quantize_model(
    prepared: Prepared,
    plan: QuantPlan,
    config: QuantConfig | None = None,
    *,
    weight_scales: Mapping[str, Float64Array] | None = None,
) -> QuantizedModel:
    """Quantize every constant of a planned graph.

    Args:
        prepared: The prepared float graph.
        plan: Parameters of its activations.
        config: The user's choices.
        weight_scales: Of weights by name, see :func:`quantize_weight`; others: ``max|w| / qmax``.

    Raises:
        NonFiniteRangeError: A weight or bias is not finite.
        ModelError: An accumulator could overflow int32 whatever the scale.
    """
    config = config or QuantConfig()
    constants: dict[str, QuantizedTensor] = {}
    bounds: dict[str, int] = {}
    notes: list[PassNote] = []
    arrays = prepared.program.constants
    for node in prepared.program.nodes:
        if node.name in plan.kept_float:
            continue
        data = data_values(node, arrays)
        for name in data:
            if name in arrays:
                constants[name] = quantize_operand(arrays[name], plan.params[name])
        weight_name, bias_name = weight_and_bias(node)
        if weight_name in arrays:
            weight, op = arrays[weight_name], OPS[node.op_type]
            try:
                codes = quantize_weight(
                    weight,
                    arrays[bias_name] if bias_name else None,
                    plan.params[node.inputs[0]],
                    axis=op.weight_axis(node, weight.ndim),
                    per_channel=config.per_channel and op.has_channel_scales(node, weight.ndim),
                    weight_qmax=config.weight_qmax(node.name),
                    found=(weight_scales or {}).get(weight_name),
                )
            except NonFiniteRangeError as error:
                raise NonFiniteRangeError(f"node {node.name!r}: {error}") from error
            constants[weight_name] = codes.weight
            if codes.bias is not None:
                constants[bias_name] = codes.bias
            if codes.raised:
                notes.append(_raised_note(node.name, node.op_type, codes.raised))
        bound = node_bound(node, prepared.program, plan, constants)
        if bound is not None and bound > accumulator_max(*(plan.params[name] for name in data)):
            raise ModelError(
                f"node {node.name!r}: sums of up to {bound} exceed the accumulator; "
                f"keep it float with --nodes-to-exclude {node.name}"
            )
        if bound is not None:
            bounds[node.name] = bound
    return QuantizedModel(prepared, plan, constants, bounds, tuple(notes))


def node_bound(
    node: Node, program: Program, plan: QuantPlan, constants: Mapping[str, QuantizedTensor]
) -> int | None:
    """The largest ``|accumulator|`` of an integer node with these codes; None without products."""
    weight_name, bias_name = weight_and_bias(node)
    if not weight_name:
        return None
    x_params = plan.params[node.inputs[0]]
    weight = constants.get(weight_name)
    if weight is None:
        inner = product_length(node, program)
        if inner is None:
            raise ModelError(f"node {node.name!r}: the length of its products is not known")
        return inner * x_params.reach * plan.params[weight_name].reach
    bias = constants[bias_name].data if bias_name else None
    axis = OPS[node.op_type].weight_axis(node, weight.data.ndim)
    return accumulator_bound(weight, bias, x_params, axis)


def weight_and_bias(node: Node) -> tuple[str, str]:
    """Names of the weight and bias inputs, "" where absent."""
    rule = OPS[node.op_type].rule
    weight, bias = (
        node.inputs[position] if position is not None and position < len(node.inputs) else ""
        for position in (rule.weight, rule.bias)
    )
    return weight, bias


def _raised_note(node: str, op_type: str, channels: tuple[int, ...]) -> PassNote:
    count = (
        "1 nearly dead channel" if len(channels) == 1 else f"{len(channels)} nearly dead channels"
    )
    shown = ", ".join(str(channel) for channel in channels[:3])
    more = " ..." if len(channels) > 3 else ""
    message = f"{count} ({shown}{more}): weight scale raised, so that bias and sums fit in int32"
    return PassNote("quantize_constants", node, op_type, True, message)
