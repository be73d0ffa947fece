"""What a network costs and what runs in integers, before any data: plain data, nothing rendered."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydantic import ConfigDict, Field

from quantkit.graph.activation_memory import peak_activation_bytes
from quantkit.graph.cost import ModelCost, NodeCost, SeparableBlock, model_cost
from quantkit.graph.program import Dimension, Program, TensorSpec
from quantkit.ops.contract import OPS
from quantkit.passes.note import PassNote
from quantkit.passes.prepare import Prepared
from quantkit.plan import data_values, quantized_outputs
from quantkit.reporting.network_cost import model_bytes
from quantkit.reporting.plain_data import Frozen

# int8 scale and zero point of a channel beside the codes.
_CHANNEL_BYTES = 5


class Value(Frozen):
    """An input or output; a dynamic dimension is a name or None."""

    name: str
    dtype: str
    shape: tuple[Dimension, ...] | None


class InspectedLayer(Frozen):
    """A node of the prepared graph.

    Attributes:
        name: The node's.
        op: Its op.
        output_shape: Of its first output; None if unknown.
        macs: Multiply-accumulates of one sample; None where a dimension is not known.
        mac_percent: Its share of all; None where not all are known.
        parameters: Elements of the constants it holds.
        output_bytes: Of all its outputs in floats; None where a dimension is not known.
        int8: Whether it can run in integers (or does, in a quantized model).
        float_reason: Why not; None where it can.
        absorbed_by: The node whose codes' range this clamp is; None: it is no absorbed clamp.
        runs_as: "int8", "float", or "in OP" where it is absorbed by an integer node.
    """

    name: str
    op: str
    output_shape: tuple[Dimension, ...] | None
    macs: int | None
    mac_percent: float | None
    parameters: int
    output_bytes: int | None
    int8: bool
    float_reason: str | None
    absorbed_by: str | None
    runs_as: str


class Preparation(Frozen):
    """What a pass did to a node, or why it refused; ``pass`` in JSON is the pass's name."""

    model_config = ConfigDict(serialize_by_alias=True)

    pass_name: str = Field(alias="pass")
    node: str
    op: str
    applied: bool
    message: str


class Block(Frozen):
    """A depthwise separable block: see ``graph.cost.SeparableBlock``."""

    depthwise: str
    pointwise: str
    output_channels: int
    kernel: tuple[int, ...]
    macs: int
    standard_macs: int
    ratio: float

    def cost(self) -> SeparableBlock:
        """Without the ratio, which follows from the others."""
        return SeparableBlock(**self.model_dump(exclude={"ratio"}))


class UnknownDimension(Frozen):
    """A dimension of an input, other than the batch, that has to be fixed for costs to be known.

    Attributes:
        input: The input's name.
        axis: Which axis.
        name: What the file calls it; None where it has no name.
    """

    input: str
    axis: int
    name: str | None


class InspectionTotals(Frozen):
    """Sums over all layers.

    Attributes:
        macs: Of one sample, where known.
        int8_macs: Of them in layers that can run in integers.
        macs_unknown: Names of the nodes whose shapes are unknown.
        parameters: Elements of all parameters; shared ones count once.
        standard_macs: With standard convolutions for separable blocks.
        saved_macs: What these save.
        file_bytes: The file, with its external data.
        float_constant_bytes: All constants of the prepared graph.
        int8_constant_bytes: The same with codes for the weights of integer layers; what a Q/DQ
            file adds for nodes and scales of activations is not in it.
        float_peak_bytes: Most activations held at a time for one sample; None: shapes unknown.
        int8_peak_bytes: With codes of one byte between integer layers.
    """

    macs: int
    int8_macs: int
    macs_unknown: tuple[str, ...]
    parameters: int
    standard_macs: int
    saved_macs: int
    file_bytes: int
    float_constant_bytes: int
    int8_constant_bytes: int
    float_peak_bytes: int | None
    int8_peak_bytes: int | None


class Inspection(Frozen):
    """Everything ``quantkit inspect`` shows.

    Attributes:
        model: The file as it was given.
        quantized_by: None for a float model; who made a quantized one: "quantkit 0.1.0", another
            tool by name, or "" where the file does not say.
        inputs: Of the graph.
        outputs: Of the graph.
        unknown_dimensions: What keeps costs from being known.
        layers: In the graph's order.
        preparation: What was folded, or was not and why.
        separable_blocks: Depthwise separable ones.
        totals: Sums.
    """

    model: str
    quantized_by: str | None = None
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    unknown_dimensions: tuple[UnknownDimension, ...]
    layers: tuple[InspectedLayer, ...]
    preparation: tuple[Preparation, ...]
    separable_blocks: tuple[Block, ...]
    totals: InspectionTotals

    @property
    def kept_float(self) -> dict[str, str]:
        """Node -> why it stays float."""
        return {layer.name: layer.float_reason for layer in self.layers if layer.float_reason}


def inspection(
    path: Path,
    prepared: Prepared,
    kept_float: Mapping[str, str],
    *,
    codes: Mapping[str, np.dtype[np.generic]] | None = None,
    quantized_by: str | None = None,
) -> Inspection:
    """Collect what is known of a network before any data.

    Args:
        path: Its file.
        prepared: The prepared graph.
        kept_float: Name of each node that stays float -> why.
        codes: dtype of the codes by value; None: ``uint8`` wherever a node can be integer.
        quantized_by: As in :class:`Inspection`.
    """
    program = prepared.program
    cost = model_cost(program)
    codes = _planned_codes(program, kept_float) if codes is None else codes
    return Inspection(
        model=str(path),
        quantized_by=quantized_by,
        inputs=tuple(_value(spec) for spec in program.inputs),
        outputs=tuple(_value(spec) for spec in program.outputs),
        unknown_dimensions=_unknown_dimensions(program),
        layers=tuple(_layer(node, cost, prepared, kept_float) for node in cost.nodes),
        preparation=tuple(_preparation(note) for note in prepared.notes),
        separable_blocks=tuple(_block(block) for block in cost.blocks),
        totals=InspectionTotals(
            macs=cost.macs,
            int8_macs=sum(n.macs or 0 for n in cost.nodes if n.name not in kept_float),
            macs_unknown=cost.unknown,
            parameters=cost.parameters,
            standard_macs=cost.standard_macs,
            saved_macs=cost.saved_macs,
            file_bytes=model_bytes(path),
            float_constant_bytes=sum(array.nbytes for array in program.constants.values()),
            int8_constant_bytes=_int8_constant_bytes(program, kept_float),
            float_peak_bytes=peak_activation_bytes(program, prepared.clamps),
            int8_peak_bytes=peak_activation_bytes(program, prepared.clamps, codes),
        ),
    )


def _planned_codes(
    program: Program, kept_float: Mapping[str, str]
) -> dict[str, np.dtype[np.generic]]:
    return {
        name: np.dtype(np.uint8)
        for node in program.nodes
        if node.name not in kept_float
        for name in (*data_values(node, program.constants), *quantized_outputs(node))
    }


def _int8_constant_bytes(program: Program, kept_float: Mapping[str, str]) -> int:
    total = {name: array.nbytes for name, array in program.constants.items()}
    for node in program.nodes:
        if node.name in kept_float or node.op_type not in OPS:
            continue
        op = OPS[node.op_type]
        position = op.rule.weight
        weight = node.inputs[position] if position is not None else ""
        if weight in program.constants:
            array = program.constants[weight]
            has_scales = op.has_channel_scales(node, array.ndim)
            channels = array.shape[op.weight_axis(node, array.ndim)] if has_scales else 1
            # A bias stays 4 bytes wide: int32 for float32.
            total[weight] = array.size + _CHANNEL_BYTES * channels
        for name in data_values(node, program.constants):
            if name in program.constants:
                total[name] = program.constants[name].size
    return sum(total.values())


def _unknown_dimensions(program: Program) -> tuple[UnknownDimension, ...]:
    return tuple(
        UnknownDimension(
            input=spec.name, axis=axis, name=dimension if isinstance(dimension, str) else None
        )
        for spec in program.inputs
        for axis, dimension in enumerate(spec.shape or ())
        # The batch counts as 1. Some exporters write -1 for a dynamic dimension.
        if axis > 0 and (not isinstance(dimension, int) or dimension < 0)
    )


def _layer(
    node: NodeCost, cost: ModelCost, prepared: Prepared, kept_float: Mapping[str, str]
) -> InspectedLayer:
    absorber = prepared.clamps.get(node.name)
    ops = {other.name: other.op_type for other in cost.nodes}
    # A clamp costs nothing: it is the range of the codes that its producer writes.
    integer = "int8" if absorber is None else f"in {ops[absorber]}"
    known = node.macs is not None and cost.macs and not cost.unknown
    return InspectedLayer(
        name=node.name,
        op=node.op_type,
        output_shape=node.output_shape,
        macs=node.macs,
        mac_percent=100.0 * (node.macs or 0) / cost.macs if known else None,
        parameters=node.parameters,
        output_bytes=node.output_bytes,
        int8=node.name not in kept_float,
        float_reason=kept_float.get(node.name),
        absorbed_by=absorber,
        runs_as="float" if node.name in kept_float else integer,
    )


def _block(block: SeparableBlock) -> Block:
    return Block(
        depthwise=block.depthwise,
        pointwise=block.pointwise,
        output_channels=block.output_channels,
        kernel=block.kernel,
        macs=block.macs,
        standard_macs=block.standard_macs,
        ratio=block.ratio,
    )


def _preparation(note: PassNote) -> Preparation:
    fields = {"pass": note.pass_name, "node": note.node, "op": note.op_type}
    return Preparation.model_validate({**fields, "applied": note.applied, "message": note.message})


def _value(spec: TensorSpec) -> Value:
    return Value(name=spec.name, dtype=spec.dtype.name, shape=spec.shape)
