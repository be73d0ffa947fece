"""Q/DQ pairs that onnxruntime joins: Q1 -> DQ1 -> Q2 -> DQ2 becomes one pair of a third scale.

It covers what both pairs can hold (``double_qdq_pairs_remover.cc``), so codes differ by 1 where
neither range lies within the other. A node between the pairs does not prevent that where the
optimizer takes it out first: an Identity, an Expand to the size that the input has, a Transpose
that it moves towards another one. Relu, MaxPool, Reshape, Flatten, Squeeze, Unsqueeze, Slice,
Gather, Tile, Pad, Resize and Concat stay between their pairs, even where they do nothing (measured
in 1.32).
"""

from collections.abc import Mapping

from quantkit.graph.program import Program
from quantkit.numerics.affine import QuantParams

JOINED = "onnxruntime joins the two Q/DQ pairs around it to one of a third scale, where it may"

_TAKEN_OUT = frozenset({"Expand", "Identity", "Transpose"})


def joined_pairs(program: Program, params: Mapping[str, QuantParams]) -> dict[str, str]:
    """The nodes with other parameters before and behind them that onnxruntime may take out.

    Args:
        program: The graph without its Q/DQ nodes.
        params: Value -> its parameters.

    Returns:
        Node -> why onnxruntime computes other codes.
    """
    readers, outputs = program.consumers(), program.output_names()
    found: dict[str, str] = {}
    for node in program.nodes:
        if node.domain != "" or node.op_type not in _TAKEN_OUT:
            continue
        source = node.inputs[0]
        x, y = params.get(source), params.get(node.outputs[0])
        is_only_reader = len(readers[source]) == 1 and source not in outputs
        if is_only_reader and x is not None and y is not None and not x.equals(y):
            found[node.name] = JOINED
    return found
