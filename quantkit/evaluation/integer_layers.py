"""What is compared at once: an integer node, with the clamp that onnxruntime makes part of it."""

from dataclasses import dataclass

from quantkit.graph.program import Node
from quantkit.integer_session import IntegerSession, Step
from quantkit.plan import quantized_outputs
from quantkit.quantized_model.model import QuantizedModel


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One integer node, and the clamp behind it that onnxruntime makes part of it.

    Attributes:
        steps: The node, then the clamp if its codes stand between them nowhere in the file.
        outputs: Values of the last step that the file holds codes (or plain integers) of.
    """

    steps: tuple[Step, ...]
    outputs: tuple[str, ...]

    @property
    def node(self) -> Node:
        """The node itself."""
        return self.steps[0].node

    @property
    def data(self) -> tuple[str, ...]:
        """Computed values that the layer reads."""
        return self.steps[0].data


def integer_layers(session: IntegerSession, model: QuantizedModel) -> tuple[Layer, ...]:
    """The integer nodes in graph order, each with the clamp that is part of it."""
    layers: list[Layer] = []
    for step in session.steps:
        if step.kernel is None:
            continue
        coded = quantized_outputs(step.node)
        plain = () if coded else tuple(name for name in step.node.outputs if name)
        outputs = tuple(name for name in coded if name in model.code_tensors) or plain
        last = layers[-1] if layers else None
        if (
            last is not None
            and step.node.name in model.prepared.clamps
            and not last.outputs
            and step.data == tuple(last.steps[-1].node.outputs)
        ):
            layers[-1] = Layer((*last.steps, step), outputs)
        else:
            layers.append(Layer((step,), outputs))
    return tuple(layers)
