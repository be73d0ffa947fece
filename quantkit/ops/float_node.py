"""Run any node in floats: the op's own float form, or onnxruntime where there is none."""

from collections.abc import Sequence

from quantkit.errors import UnsupportedOpError
from quantkit.graph.node_evaluation import evaluate_node
from quantkit.graph.program import Array, Node
from quantkit.ops.contract import OPS


def run_float_node(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """One node in floats: the op's own float form, or onnxruntime where there is none.

    Raises:
        UnsupportedOpError: Neither can run it.
    """
    if node.has_subgraph:
        raise UnsupportedOpError(
            f"node {node.name!r}: {node.op_type} holds a graph of its own and is not run here"
        )
    if node.domain == "" and node.op_type in OPS:
        return OPS[node.op_type].float_form(node, inputs)
    return evaluate_node(node, inputs)
