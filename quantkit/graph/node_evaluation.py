"""Evaluate one node on arrays with onnxruntime: constant folding, and ops without a float form."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from quantkit.errors import QuantkitError, UnsupportedOpError
from quantkit.graph.ort_session import open_session
from quantkit.graph.program import Array, AttributeValue, Node

_IR_VERSION = 10


def evaluate_node(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """The outputs of one node.

    Args:
        node: A node of ONNX's own or of onnxruntime's operators, without subgraphs.
        inputs: Arrays in input order; None where an optional input is absent.

    Raises:
        UnsupportedOpError: onnxruntime cannot run the node; the message has its reason.
    """
    values = [_input(node, position, array) for position, array in enumerate(inputs)]
    attributes = [_attribute(name, value) for name, value in node.attributes.items()]
    copy = ir.Node(node.domain, node.op_type, values, attributes, num_outputs=len(node.outputs))
    wanted = []
    for position, (output, name) in enumerate(zip(copy.outputs, node.outputs, strict=True)):
        output.name = f"out_{position}" if name else ""
        if name:
            wanted.append(output)
    graph = ir.Graph(
        [value for value in values if value is not None],
        wanted,
        nodes=[copy],
        opset_imports={"": node.version if node.domain == "" else 17, node.domain: node.version},
        name="one_node",
    )
    try:
        session = open_session(ir.Model(graph, ir_version=_IR_VERSION), threads=1)
        results = session.run(
            {f"in_{position}": array for position, array in enumerate(inputs) if array is not None}
        )
    except QuantkitError as error:
        raise UnsupportedOpError(
            f"node {node.name!r} ({node.op_type}) cannot be evaluated: {error}"
        ) from error
    for spec in session.outputs:
        result = results[spec.name]
        if (
            not isinstance(result, np.ndarray)
            or result.dtype != spec.dtype
            or result.dtype.hasobject
        ):
            raise UnsupportedOpError(
                f"node {node.name!r} ({node.op_type}) cannot be evaluated: it gives no array of "
                "numbers that NumPy knows"
            )
    return tuple(
        results[f"out_{position}"] if name else np.empty(0)
        for position, name in enumerate(node.outputs)
    )


def _input(node: Node, position: int, array: Array | None) -> ir.Value | None:
    if array is None:
        return None
    if array.dtype.kind in "OSU":
        raise UnsupportedOpError(
            f"node {node.name!r} ({node.op_type}) cannot be evaluated: it reads strings"
        )
    dtype = ir.DataType.from_numpy(array.dtype)
    return ir.Value(name=f"in_{position}", type=ir.TensorType(dtype), shape=ir.Shape(array.shape))


def _attribute(name: str, value: AttributeValue) -> ir.Attr:
    if isinstance(value, np.ndarray):
        return ir.AttrTensor(name, ir.tensor(value))
    if isinstance(value, bool | int):
        return ir.AttrInt64(name, int(value))
    if isinstance(value, float):
        return ir.AttrFloat32(name, value)
    if isinstance(value, str):
        return ir.AttrString(name, value)
    if all(isinstance(item, int) for item in value):
        return ir.AttrInt64s(name, [int(item) for item in value])
    if all(isinstance(item, float) for item in value):
        return ir.AttrFloat32s(name, [float(item) for item in value])
    return ir.AttrStrings(name, [str(item) for item in value])
