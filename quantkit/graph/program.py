"""A graph as plain frozen data.

Passes and exporters edit graphs with ``onnx_ir``; everything else (ops, plan, sessions, cost,
reports) only needs to *read* them, and reads this.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
AttributeValue = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | Array
Dimension = int | str | None


@dataclass(frozen=True, slots=True, eq=False)
class TensorSpec:
    """Name, dtype and shape of a value; a dynamic dimension is a name or None."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[Dimension, ...] | None


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation.

    Attributes:
        name: Unique within the graph.
        op_type: ONNX's name of the operation.
        domain: "" for ONNX's own operators.
        version: The opset version the graph imports for ``domain``.
        inputs: Value names; "" where an optional input is absent.
        outputs: Value names; "" where an optional output is absent.
        attributes: ONNX attributes that are present, as Python values.
        has_subgraph: Whether the node holds a graph of its own (If, Loop, Scan).
    """

    name: str
    op_type: str
    domain: str
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, AttributeValue]
    has_subgraph: bool = False

    def integer(self, name: str, default: int) -> int:
        """An integer attribute, or ``default`` where absent."""
        value = self.attributes.get(name, default)
        assert isinstance(value, int)
        return value

    def number(self, name: str, default: float) -> float:
        """A float attribute, or ``default`` where absent."""
        value = self.attributes.get(name, default)
        assert isinstance(value, int | float)
        return float(value)

    def text(self, name: str, default: str) -> str:
        """A string attribute, or ``default`` where absent."""
        value = self.attributes.get(name, default)
        assert isinstance(value, str)
        return value

    def integers(self, name: str, default: Sequence[int]) -> tuple[int, ...]:
        """An integer-list attribute, or ``default`` where absent."""
        value = self.attributes.get(name, tuple(default))
        assert isinstance(value, tuple)
        return tuple(int(item) for item in value)


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A graph: nodes in topological order, constants, inputs, outputs, known shapes.

    Attributes:
        nodes: In an order in which they can run.
        constants: Initializers by name.
        inputs: Graph inputs that are not constants.
        outputs: Graph outputs.
        specs: What is known of every value, by name (shape inference).
        feedable: Constants that are graph inputs too, so that a caller may replace them.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    specs: Mapping[str, TensorSpec]
    feedable: frozenset[str] = frozenset()

    def consumers(self) -> dict[str, list[Node]]:
        """The nodes that read each value (one entry per reading node)."""
        readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                if name:
                    readers.setdefault(name, []).append(node)
        return readers

    def producers(self) -> dict[str, Node]:
        """The node that makes each value."""
        return {output: node for node in self.nodes for output in node.outputs if output}

    def output_names(self) -> frozenset[str]:
        """Names of the graph's outputs."""
        return frozenset(spec.name for spec in self.outputs)

    def last_uses(self) -> tuple[tuple[str, ...], ...]:
        """Per node position, the computed values that no later node reads."""
        last: dict[str, int] = {}
        for position, node in enumerate(self.nodes):
            for name in (*node.inputs, *node.outputs):
                if name and name not in self.constants:
                    last[name] = position
        forgotten: list[list[str]] = [[] for _ in self.nodes]
        for name, position in last.items():
            forgotten[position].append(name)
        return tuple(tuple(names) for names in forgotten)
