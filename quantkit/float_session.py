"""Runs a float graph with the NumPy float forms of the ops: the float reference of every check."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quantkit.errors import ShapeMismatchError
from quantkit.graph.program import Array, Program
from quantkit.ops.float_node import run_float_node


@dataclass(frozen=True, slots=True, eq=False)
class FloatSession:
    """A float program and the order in which its values may be forgotten.

    Attributes:
        program: The graph.
        last_use: Per node position, the values that no later node reads.
    """

    program: Program
    last_use: tuple[tuple[str, ...], ...]

    def run(
        self, feeds: Mapping[str, Array], fetches: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Run one batch.

        Args:
            feeds: Arrays by input name.
            fetches: Names of the values wanted; None: the graph's outputs.

        Raises:
            ShapeMismatchError: An input is missing, or a name is no value of the graph.
            UnsupportedOpError: A node can be run neither here nor by onnxruntime.
        """
        wanted = (
            list(fetches) if fetches is not None else [spec.name for spec in self.program.outputs]
        )
        for spec in self.program.inputs:
            if spec.name not in feeds:
                raise ShapeMismatchError(
                    f"input {spec.name!r} is missing; got {', '.join(feeds) or 'nothing'}"
                )
        values: dict[str, Array] = {**self.program.constants, **feeds}
        results = {name: values[name] for name in wanted if name in values}
        for node, forgotten in zip(self.program.nodes, self.last_use, strict=True):
            inputs = [values[name] if name else None for name in node.inputs]
            for name, array in zip(node.outputs, run_float_node(node, inputs), strict=True):
                if name:
                    values[name] = array
                    if name in wanted:
                        results[name] = array
            for name in forgotten:
                values.pop(name, None)
        for name in wanted:
            if name not in results:
                raise ShapeMismatchError(f"{name!r} is no value of the graph")
        return {name: results[name] for name in wanted}


def open_float_session(program: Program) -> FloatSession:
    """A session over a program, prepared or not."""
    return FloatSession(program, program.last_uses())
