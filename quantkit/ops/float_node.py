"""Run any node in floats: the op's own float form, or onnxruntime where there is none."""

from collections.abc import Sequence

import numpy as np

from quantkit.errors import UnsupportedOpError
from quantkit.graph.node_evaluation import evaluate_node
from quantkit.graph.program import Array, Node
from quantkit.ops.contract import OPS, Op
from quantkit.ops.movement import Movement


def run_float_node(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """One node in floats: the op's own float form, or onnxruntime where there is none.

    Graphs compute shapes with the same ops: on integers only what moves values is run here.

    Raises:
        UnsupportedOpError: Neither can run it.
    """
    if node.has_subgraph:
        raise UnsupportedOpError(
            f"node {node.name!r}: {node.op_type} holds a graph of its own and is not run here"
        )
    op = OPS[node.op_type] if node.domain == "" and node.op_type in OPS else None
    if op is not None and (isinstance(op, Movement) or _holds_floats(op, inputs)):
        return op.float_form(node, inputs)
    return evaluate_node(node, inputs)


def _holds_floats(op: Op, inputs: Sequence[Array | None]) -> bool:
    positions = op.rule.data_inputs or range(len(inputs))
    data = [inputs[position] for position in positions if position < len(inputs)]
    return any(x is not None and np.issubdtype(x.dtype, np.floating) for x in data)
