"""What a layer is: a graph input, or a node with the clamps that it absorbs."""

from dataclasses import dataclass

from quantkit.graph.program import Node, TensorSpec
from quantkit.quantized_model.model import QuantizedModel

INPUT_OP = "input"
"""The op of a graph input's row, which ONNX has no name for."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerGroup:
    """A layer and the tensor that it is judged by.

    Attributes:
        name: Of its node, or "input NAME".
        op_type: Of its node, or "input".
        value: Its output, or that of the last clamp it absorbs.
        nodes: The node and its clamps, in order; none for a graph input.
    """

    name: str
    op_type: str
    value: str
    nodes: tuple[Node, ...]

    def read(self) -> tuple[str, ...]:
        """The values that it reads and does not make, constants among them."""
        made = {name for node in self.nodes for name in node.outputs}
        read = (name for node in self.nodes for name in node.inputs if name and name not in made)
        return tuple(dict.fromkeys(read))


def layer_groups(model: QuantizedModel) -> tuple[LayerGroup, ...]:
    """All layers of a network: quantized graph inputs first, then nodes in order."""
    # In other tools' files a clamp may be float behind an integer node; it is judged by itself.
    absorbers = {
        clamp: absorber
        for clamp, absorber in model.prepared.clamps.items()
        if clamp not in model.plan.kept_float or absorber in model.plan.kept_float
    }
    nodes: dict[str, list[Node]] = {}
    for node in model.prepared.program.nodes:
        nodes.setdefault(absorbers.get(node.name, node.name), []).append(node)
    inputs = (s for s in model.prepared.program.inputs if s.name in model.plan.params)
    return (
        *(_of_input(spec) for spec in inputs),
        *(
            LayerGroup(name, members[0].op_type, members[-1].outputs[0], tuple(members))
            for name, members in nodes.items()
        ),
    )


def _of_input(spec: TensorSpec) -> LayerGroup:
    return LayerGroup(f"{INPUT_OP} {spec.name}", INPUT_OP, spec.name, ())
