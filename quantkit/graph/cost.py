"""What a network costs: multiply-accumulates, parameters and output bytes per node.

With ``|x|`` for the number of elements of ``x``:

- Conv: ``|output| * C_in / group * |kernel|``
- ConvTranspose: ``|input| * C_out / group * |kernel|``
- Gemm, MatMul: ``|output| * K``, K the axis that is summed over
- everything else: 0 (elementwise work, pooling and normalization are not counted)

The batch (the leading dimension) counts as 1 where it is dynamic. Any other unknown dimension makes
a cost unknown: None, never a guess.

A depthwise separable block is a depthwise Conv and then a pointwise one, with nothing but
BatchNormalization and clamps between them. It stands for one standard convolution, and costs
``1 / N + 1 / D_K**2`` of it (N output channels, D_K x D_K kernel; Howard et al. 2017, MobileNets,
section 3.1).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from quantkit.graph.program import Array, Dimension, Node, Program

# Positions of the data and of the weight. Integer and fused forms: onnxruntime's optimizer.
_CONVOLUTIONS = {"Conv": (0, 1), "FusedConv": (0, 1), "ConvInteger": (0, 1), "QLinearConv": (0, 3)}
_TRANSPOSED = {"ConvTranspose": (0, 1)}
_GEMMS = {"Gemm": (0, 1), "FusedGemm": (0, 1), "QGemm": (0, 3)}
_MATMULS = {
    "MatMul": (0, 1),
    "FusedMatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "QLinearMatMul": (0, 3),
}
# Between depthwise and pointwise convolution: none of them moves data between channels or pixels.
_TRANSPARENT = ("BatchNormalization", "Clip", "Relu")
# Their constants are settings, not parameters.
_WITHOUT_PARAMETERS = ("Clip", "Pad", "Resize", "Upsample")


@dataclass(frozen=True, slots=True)
class NodeCost:
    """What one node costs for one sample.

    Attributes:
        name: The node.
        op_type: Its op.
        output_shape: Shape of its first output as the graph states it; None if unknown.
        macs: Multiply-accumulates; None if a dimension is unknown.
        parameters: Elements of the constants it holds (weight, bias, statistics).
        output_bytes: Bytes of all its outputs; None if a dimension or dtype is unknown.
    """

    name: str
    op_type: str
    output_shape: tuple[Dimension, ...] | None
    macs: int | None
    parameters: int
    output_bytes: int | None


@dataclass(frozen=True, slots=True)
class SeparableBlock:
    """A depthwise and a pointwise convolution, and the standard convolution they stand for.

    Attributes:
        depthwise: Name of the depthwise Conv.
        pointwise: Name of the pointwise Conv.
        output_channels: N.
        kernel: The depthwise kernel, one size per axis.
        macs: Multiply-accumulates of both.
        standard_macs: Those of one Conv with this kernel, these input and output channels and
            output size.
    """

    depthwise: str
    pointwise: str
    output_channels: int
    kernel: tuple[int, ...]
    macs: int
    standard_macs: int

    @property
    def ratio(self) -> float:
        """Its share of the standard cost.

        ``1 / N + 1 / |kernel|`` where the depthwise Conv keeps the number of channels and the
        pointwise one has stride 1.
        """
        return self.macs / self.standard_macs

    @property
    def saved_macs(self) -> int:
        """Multiply-accumulates saved against the standard convolution."""
        return self.standard_macs - self.macs


@dataclass(frozen=True, slots=True)
class ModelCost:
    """What a network costs for one sample.

    Attributes:
        nodes: One entry per node, in the graph's order.
        blocks: Its depthwise separable blocks, in the graph's order.
        parameters: Elements of all parameters; one that several nodes share counts once.
    """

    nodes: tuple[NodeCost, ...]
    blocks: tuple[SeparableBlock, ...]
    parameters: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all nodes whose cost is known; see ``unknown``."""
        return sum(node.macs or 0 for node in self.nodes)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of the nodes whose multiply-accumulates are unknown."""
        return tuple(node.name for node in self.nodes if node.macs is None)

    @property
    def standard_macs(self) -> int:
        """Multiply-accumulates of the net with standard convolutions for its separable blocks."""
        return self.macs + self.saved_macs

    @property
    def saved_macs(self) -> int:
        """Multiply-accumulates that all separable blocks save together."""
        return sum(block.saved_macs for block in self.blocks)


def model_cost(program: Program) -> ModelCost:
    """Count what every node costs, and what depthwise separable blocks save.

    Args:
        program: Any graph, prepared or not; shapes are read from ``program.specs``.
    """
    shapes = StaticShapes(program)
    nodes = tuple(_node_cost(node, program, shapes) for node in program.nodes)
    held = {name for node in program.nodes for name in _parameters(node, program)}
    return ModelCost(
        nodes=nodes,
        blocks=_separable_blocks(program, shapes, {node.name: node.macs for node in nodes}),
        parameters=sum(program.constants[name].size for name in held),
    )


class StaticShapes:
    """Static shapes by value name; a dynamic batch is 1."""

    def __init__(self, program: Program) -> None:
        self._constants: Mapping[str, Array] = program.constants
        self._specs = program.specs
        # A name such as "width" that an input has behind its first axis is not the batch, wherever
        # it turns up.
        self._not_batch = {
            dimension
            for spec in program.inputs
            for dimension in (spec.shape or ())[1:]
            if isinstance(dimension, str)
        }

    def of(self, name: str) -> tuple[int, ...] | None:
        """The shape, or None where it (or one dimension) is unknown."""
        if name in self._constants:
            return self._constants[name].shape
        spec = self._specs.get(name)
        if spec is None or spec.shape is None:
            return None
        sizes: list[int] = []
        for axis, dimension in enumerate(spec.shape):
            # Some exporters write -1 for a dynamic dimension.
            if isinstance(dimension, int) and dimension >= 0:
                sizes.append(dimension)
            elif axis == 0 and dimension not in self._not_batch:
                sizes.append(1)
            else:
                return None
        return tuple(sizes)


def _node_cost(node: Node, program: Program, shapes: StaticShapes) -> NodeCost:
    spec = program.specs.get(node.outputs[0]) if node.outputs else None
    return NodeCost(
        name=node.name,
        op_type=node.op_type,
        output_shape=spec.shape if spec is not None else None,
        macs=_macs(node, shapes),
        parameters=sum(program.constants[name].size for name in _parameters(node, program)),
        output_bytes=_output_bytes(node, program, shapes),
    )


def _macs(node: Node, shapes: StaticShapes) -> int | None:
    for table in (_CONVOLUTIONS, _TRANSPOSED, _GEMMS, _MATMULS):
        if node.op_type in table:
            data, weight = (shapes.of(node.inputs[position]) for position in table[node.op_type])
            output = shapes.of(node.outputs[0])
            break
    else:
        return None if node.has_subgraph else 0
    if node.op_type in _TRANSPOSED:
        return None if data is None or not weight else math.prod(data) * math.prod(weight[1:])
    if output is None:
        return None
    if node.op_type in _CONVOLUTIONS:
        return None if not weight else math.prod(output) * math.prod(weight[1:])
    # Either operand tells K; the other may be dynamic.
    if weight:
        transposed = node.op_type in _GEMMS and node.integer("transB", 0)
        summed = weight[-1] if transposed or len(weight) == 1 else weight[-2]
    elif data:
        transposed = node.op_type in _GEMMS and node.integer("transA", 0)
        summed = data[-2] if transposed else data[-1]
    else:
        return None
    return math.prod(output) * summed


def _parameters(node: Node, program: Program) -> list[str]:
    if node.op_type in _WITHOUT_PARAMETERS:
        return []
    return [
        name
        for name in dict.fromkeys(node.inputs)
        if name in program.constants and _is_parameter(program.constants[name])
    ]


def _is_parameter(array: Array) -> bool:
    # Scalars are bounds, scales and zero points; int64 and bool hold shapes, axes and masks.
    return array.ndim > 0 and array.dtype not in (np.dtype(np.int64), np.dtype(np.bool_))


def _output_bytes(node: Node, program: Program, shapes: StaticShapes) -> int | None:
    total = 0
    for name in filter(None, node.outputs):
        shape = shapes.of(name)
        # Strings and values of unknown type have no fixed size.
        if shape is None or program.specs[name].dtype.kind in "OV":
            return None
        total += math.prod(shape) * program.specs[name].dtype.itemsize
    return total


def _separable_blocks(
    program: Program, shapes: StaticShapes, macs: Mapping[str, int | None]
) -> tuple[SeparableBlock, ...]:
    consumers, outputs = program.consumers(), program.output_names()
    blocks: list[SeparableBlock] = []
    for depthwise in program.nodes:
        kernel = _depthwise_kernel(depthwise, shapes)
        if kernel is None:
            continue
        reader: Node | None = depthwise
        while reader is depthwise or (reader is not None and reader.op_type in _TRANSPARENT):
            value = reader.outputs[0]
            readers = consumers.get(value, [])
            reader = readers[0] if len(readers) == 1 and value not in outputs else None
        block = _block(depthwise, reader, kernel, shapes, macs) if reader is not None else None
        if block is not None:
            blocks.append(block)
    return tuple(blocks)


def _depthwise_kernel(node: Node, shapes: StaticShapes) -> tuple[int, ...] | None:
    """The kernel of a depthwise Conv (group = input channels > 1) wider than one pixel."""
    weight = shapes.of(node.inputs[1]) if node.op_type == "Conv" else None
    if not weight or weight[1] != 1 or node.integer("group", 1) == 1:
        return None
    return weight[2:] if math.prod(weight[2:]) > 1 else None


def _block(
    depthwise: Node,
    pointwise: Node,
    kernel: tuple[int, ...],
    shapes: StaticShapes,
    macs: Mapping[str, int | None],
) -> SeparableBlock | None:
    weight = shapes.of(pointwise.inputs[1]) if pointwise.op_type == "Conv" else None
    output = shapes.of(pointwise.outputs[0])
    if not weight or pointwise.integer("group", 1) != 1 or math.prod(weight[2:]) != 1:
        return None
    first, second = macs[depthwise.name], macs[pointwise.name]
    if first is None or second is None or output is None:
        return None
    return SeparableBlock(
        depthwise=depthwise.name,
        pointwise=pointwise.name,
        output_channels=weight[0],
        kernel=kernel,
        macs=first + second,
        standard_macs=math.prod(output) * depthwise.integer("group", 1) * math.prod(kernel),
    )
