"""QuantizedModel: the prepared graph, its parameters and its integer constants."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from quantkit.config import QuantConfig
from quantkit.errors import ModelError
from quantkit.numerics.affine import QuantizedTensor
from quantkit.ops.contract import OPS
from quantkit.passes.note import PassNote
from quantkit.passes.prepare import Prepared
from quantkit.plan import QuantPlan, data_inputs
from quantkit.quantized_model.constants import (
    ACCUMULATOR_MAX,
    accumulator_bound,
    quantize_operand,
    quantize_weight,
)


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedModel:
    """Everything the integers are: read by every exporter and by the integer session.

    Attributes:
        prepared: The float graph (weights still float).
        plan: Parameters of activations, reasons of float nodes.
        constants: Codes of weights, biases and constant operands, by initializer name.
        accumulator_bounds: Node name -> the largest ``|accumulator|`` any input can produce.
        notes: What happened while constants were quantized or corrected.
        metadata: Free text stored with the model (preprocessing, digests, options).
        code_tensors: Value -> the tensor that holds its codes in the file the model was read from.

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

    def __post_init__(self) -> None:
        for node in self.prepared.program.nodes:
            if node.name in self.plan.kept_float:
                continue
            rule = OPS[node.op_type].rule
            values = [*(node.inputs[position] for position in data_inputs(node)), *node.outputs]
            for name in values:
                if name not in self.plan.params:
                    raise ModelError(f"node {node.name!r}: {name!r} has no scale and zero point")
            for position in (rule.weight, rule.bias):
                if position is not None and position < len(node.inputs) and node.inputs[position]:
                    name = node.inputs[position]
                    if name not in self.constants:
                        raise ModelError(f"node {node.name!r}: {name!r} has no integer codes")


def quantize_model(
    prepared: Prepared, plan: QuantPlan, config: QuantConfig | None = None
) -> QuantizedModel:
    """Quantize every constant of a planned graph.

    Args:
        prepared: The prepared float graph.
        plan: Parameters of its activations.
        config: The user's choices.

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
        op = OPS[node.op_type]
        positions = data_inputs(node)
        for position in positions:
            name = node.inputs[position]
            if name in arrays:
                constants[name] = quantize_operand(arrays[name], plan.params[name])
        weight_position, bias_position = op.rule.weight, op.rule.bias
        if weight_position is None or node.inputs[weight_position] not in arrays:
            continue
        weight_name = node.inputs[weight_position]
        bias_name = (
            node.inputs[bias_position]
            if bias_position is not None and bias_position < len(node.inputs)
            else ""
        )
        weight = arrays[weight_name]
        codes = quantize_weight(
            weight,
            arrays[bias_name] if bias_name else None,
            plan.params[node.inputs[positions[0]]],
            axis=op.weight_axis(node, weight.ndim),
            per_channel=config.per_channel,
            weight_qmax=config.weight_qmax,
        )
        if codes.accumulator_bound > ACCUMULATOR_MAX:
            raise ModelError(
                f"node {node.name!r}: sums of up to {codes.accumulator_bound} exceed int32; "
                f"keep it float with --nodes-to-exclude {node.name}"
            )
        constants[weight_name] = codes.weight
        bounds[node.name] = codes.accumulator_bound
        if codes.bias is not None:
            constants[bias_name] = codes.bias
        if codes.raised:
            notes.append(_raised_note(node.name, node.op_type, codes.raised))
    return QuantizedModel(prepared, plan, constants, bounds, tuple(notes))


def recompute_bound(model: QuantizedModel, node_name: str) -> int:
    """The accumulator bound of a node from its codes as they are now."""
    node = next(node for node in model.prepared.program.nodes if node.name == node_name)
    op = OPS[node.op_type]
    assert op.rule.weight is not None
    weight = model.constants[node.inputs[op.rule.weight]]
    position = op.rule.bias
    bias = (
        model.constants[node.inputs[position]].data
        if position is not None and position < len(node.inputs) and node.inputs[position]
        else None
    )
    x_params = model.plan.params[node.inputs[data_inputs(node)[0]]]
    return accumulator_bound(weight, bias, x_params, op.weight_axis(node, weight.data.ndim))


def _raised_note(node: str, op_type: str, channels: tuple[int, ...]) -> PassNote:
    shown = ", ".join(str(channel) for channel in channels[:8])
    more = f" and {len(channels) - 8} more" if len(channels) > 8 else ""
    plural = "s" if len(channels) > 1 else ""
    return PassNote(
        "quantize_constants",
        node,
        op_type,
        True,
        f"weight scale of nearly dead channel{plural} {shown}{more} raised, so that the bias "
        "fits in int32",
    )
