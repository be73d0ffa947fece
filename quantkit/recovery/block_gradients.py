"""A block of a network with quantized weights and activations: forward, and backward by node.

Forward runs the ops' float forms on dequantized weights and rounds every activation that has
parameters of its own to its grid. Backward is the float reference's, and fake quantization's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from quantkit.graph.program import Array, Node
from quantkit.ops.contract import OPS
from quantkit.recovery.fake_quantization import Grid, fake_quantize, fake_quantize_backward
from quantkit.recovery.operation_gradients import BACKWARD
from quantkit.reference.arrays import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Operands:
    """What a block computes with.

    Attributes:
        constants: Real values of weights, biases and everything else that is constant, by name.
        grids: By value name; a value without one is passed on as it is.
        absorbed: Names of clamps that the grid of their producer carries out.
    """

    constants: Mapping[str, Array]
    grids: Mapping[str, Grid]
    absorbed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Activations:
    """What a block computed.

    Attributes:
        values: By name, inputs of the block included; on their grids.
        sums: The same before they were rounded, where they were.
    """

    values: Mapping[str, FloatArray]
    sums: Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True, eq=False)
class Gradients:
    """Gradients of what a block computes with.

    Attributes:
        constants: By name, each shaped like its constant.
        steps: By value name, of the step of its grid.
    """

    constants: dict[str, FloatArray] = field(default_factory=dict)
    steps: dict[str, float] = field(default_factory=dict)


def run_block(
    nodes: Sequence[Node], inputs: Mapping[str, FloatArray], operands: Operands
) -> Activations:
    """Compute the nodes' values.

    Args:
        nodes: In an order in which they can run; see ``operation_gradients.gradient_refusal``.
        inputs: What they read and do not make, by name, with batch axis.
        operands: Constants and grids.
    """
    values, sums = dict(inputs), dict[str, FloatArray]()
    for node in nodes:
        name = node.outputs[0]
        if node.name in operands.absorbed:
            values[name] = values[node.inputs[0]]
            continue
        (y,) = OPS[node.op_type].float_form(node, _read(node, values, operands))
        grid = operands.grids.get(name)
        if grid is not None:
            sums[name] = y
            y = fake_quantize(y, grid)
        values[name] = y
    return Activations(values, sums)


def block_backward(
    nodes: Sequence[Node],
    activations: Activations,
    grad_outputs: Mapping[str, FloatArray],
    operands: Operands,
) -> Gradients:
    """Gradients of :func:`run_block`, given those of some of its values.

    Args:
        nodes: As in the forward call.
        activations: What it returned.
        grad_outputs: By value name.
        operands: As in the forward call.
    """
    gradients = Gradients()
    pending = dict(grad_outputs)
    made = {node.outputs[0] for node in nodes}
    for node in reversed(nodes):
        name = node.outputs[0]
        grad_y = pending.pop(name, None)
        if grad_y is None:
            continue
        if node.name in operands.absorbed:
            source = node.inputs[0]
            pending[source] = pending[source] + grad_y if source in pending else grad_y
            continue
        grid = operands.grids.get(name)
        if grid is not None:
            grad_y, gradients.steps[name] = fake_quantize_backward(
                grad_y, activations.sums[name], activations.values[name], grid
            )
        inputs = _read(node, activations.values, operands)
        found = BACKWARD[node.op_type](node, inputs, grad_y)
        # Bounds and shapes come last and have no gradient.
        for source, gradient in zip(node.inputs[: len(found)], found, strict=False):
            if gradient is None or not source:
                continue
            if source in operands.constants:
                gradients.constants[source] = gradient
            elif source in made:
                pending[source] = pending[source] + gradient if source in pending else gradient
    return gradients


def _read(node: Node, values: Mapping[str, FloatArray], operands: Operands) -> list[Array | None]:
    constants = operands.constants
    return [
        None if not name else constants[name] if name in constants else values[name]
        for name in node.inputs
    ]
