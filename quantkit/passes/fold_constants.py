"""Evaluate what does not depend on the input.

Case 1: every input of a node is constant: the node is evaluated (``Pad`` and ``Reshape`` chains).
Case 2: ``Shape`` of a value whose asked-for dimensions are all static.
Case 3: ``Reshape`` with a computed shape of which shape inference leaves at most one dimension
open: the shape becomes a constant with ``0`` (copied dimension) or ``-1`` in its place, as
PyTorch's ``x.view(x.size(0), -1)`` means it.
"""

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from quantkit.errors import UnsupportedOpError
from quantkit.graph.model_io import node_of
from quantkit.graph.node_evaluation import evaluate_node
from quantkit.graph.program import Array
from quantkit.graph.surgery import add_constant, constant_array, replace_constant_input
from quantkit.passes.note import PassNote

# Random ops have no one value; Q/DQ of a constant is a quantized weight, not a computation.
_NOT_FOLDED = frozenset(
    {
        "Bernoulli",
        "DequantizeLinear",
        "Dropout",
        "Multinomial",
        "QuantizeLinear",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)
# A constant above this would bloat the file (ConstantOfShape, Expand of something huge).
_LARGEST_RESULT_BYTES = 64 * 2**20


def fold_constants(model: ir.Model) -> list[PassNote]:
    """Fold until nothing changes; one note per folded node."""
    notes: list[PassNote] = []
    changed = True
    while changed:
        # A shape that became constant may make later shapes known.
        infer_shapes(model)
        folded = _fold_once(model)
        notes += folded
        changed = bool(folded)
    common.RemoveUnusedNodesPass()(model)
    return notes


def _fold_once(model: ir.Model) -> list[PassNote]:
    notes: list[PassNote] = []
    for node in tuple(model.graph):
        outputs = _evaluated(model, node)
        if outputs is not None:
            for output, array in zip(node.outputs, outputs, strict=True):
                if output.uses():
                    _replace_by_constant(model.graph, output, array)
            model.graph.remove(node, safe=True)
            notes.append(_note(node, "has constant inputs: evaluated"))
        elif node.op_type == "Reshape" and node.domain == "":
            shape = _static_target(node)
            if shape is not None:
                replace_constant_input(node, 1, shape, f"{node.name}_shape")
                notes.append(_note(node, f"target shape is {shape.tolist()} whatever the batch"))
    return notes


def infer_shapes(model: ir.Model) -> None:
    """Run onnx's shape inference with data propagation; what it cannot infer stays open."""
    values = [value for graph in model.graphs() for value in graph.inputs]
    values += [output for node in model.graph.all_nodes() for output in node.outputs]
    before = [(value, value.type, value.shape) for value in values]
    common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    for value, type_before, shape_before in before:
        if _is_no_tensor(value, type_before):
            # onnx_ir takes a sequence of tensors for a tensor.
            value.type, value.shape = type_before, shape_before


def _is_no_tensor(value: ir.Value, declared: ir.TypeProtocol | None) -> bool:
    node = value.producer()
    if declared is not None or node is None:
        return declared is not None and not isinstance(declared, ir.TensorType)
    if node.op_type in ("Identity", "If", "Loop"):
        return value.shape is None or len(value.shape) == 0
    return node.op_type.startswith(("Sequence", "SplitToSequence", "Optional"))


def _evaluated(model: ir.Model, node: ir.Node) -> list[Array] | None:
    if (
        node.domain != ""
        or node.op_type in _NOT_FOLDED
        or any(output.is_graph_output() for output in node.outputs)
        or any(
            attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
            for attribute in node.attributes.values()
        )
    ):
        return None
    if node.op_type == "Shape":
        return _static_shape(node)
    present = [value for value in node.inputs if value is not None]
    arrays = [constant_array(value) for value in node.inputs]
    if not present or any(
        array is None and value is not None
        for array, value in zip(arrays, node.inputs, strict=True)
    ):
        return None
    try:
        outputs = evaluate_node(node_of(node, model.opset_imports), arrays)
    except UnsupportedOpError:
        return None
    total = sum(array.nbytes for array in outputs)
    return None if total > _LARGEST_RESULT_BYTES else list(outputs)


def _static_shape(node: ir.Node) -> list[Array] | None:
    value = node.inputs[0]
    if value is None or value.shape is None:
        return None
    start = node.attributes["start"].as_int() if "start" in node.attributes else 0
    end = node.attributes["end"].as_int() if "end" in node.attributes else None
    dimensions = list(value.shape)[start:end]
    if not all(isinstance(dimension, int) for dimension in dimensions):
        return None
    return [np.array(dimensions, np.int64)]


def _static_target(node: ir.Node) -> Array | None:
    """Case 3: the constant shape of a Reshape, or None."""
    data, target = node.inputs[0], node.inputs[1]
    shape = node.outputs[0].shape
    if data is None or data.shape is None or shape is None or constant_array(target) is not None:
        return None
    if "allowzero" in node.attributes and node.attributes["allowzero"].as_int():
        return None
    result: list[int] = []
    for axis, dimension in enumerate(shape):
        if isinstance(dimension, int):
            if dimension == 0:
                return None
            result.append(dimension)
        elif (
            dimension.value not in (None, "?")  # "?" may stand for two different sizes
            and axis < len(data.shape)
            and (data.shape[axis] == dimension)
        ):
            result.append(0)
        else:
            result.append(-1)
    is_open = any(not isinstance(dimension, int) for dimension in data.shape)
    if result.count(-1) > 1 or (is_open and min(result, default=1) > 0):
        return None  # an open input cannot have a closed shape: the file's own shape was wrong
    return np.array(result, np.int64)


def _replace_by_constant(graph: ir.Graph, output: ir.Value, array: Array) -> None:
    name = output.name or "folded"
    output.name = f"{name}_computed"
    value = add_constant(graph, name, array)
    ir.convenience.replace_all_uses_with(output, value)


def _note(node: ir.Node, message: str) -> PassNote:
    return PassNote("fold_constants", node.name or "", node.op_type, True, message)
