"""QOperator nodes with channels last, as onnxruntime's optimizer writes them: channels come second.

The codes are transposed before and behind the node; weights lie the same either way.
"""

import onnx_ir as ir

from quantkit.graph.surgery import constant_array, replace_node, unused_name
from quantkit.quantized_model.qoperator_forms import form_of
from quantkit.quantized_model.qoperator_params import present_input

_MAX_POOL = ("com.microsoft", "NhwcMaxPool")


def put_channels_first(graph: ir.Graph) -> None:
    """Transpose the codes around every node with ``channels_last``, and around NhwcMaxPool.

    Raises:
        ModelError: Such a node has no input; it is named.
    """
    for node in tuple(graph):
        form = form_of(node)
        is_max_pool = (node.domain, node.op_type) == _MAX_POOL
        if not is_max_pool and (form is None or not _is_channels_last(node)):
            continue
        position = 0 if form is None else form.operands[0][0]
        codes = present_input(node, position)
        rank = _rank(node, codes)
        first, last = [0, rank - 1, *range(1, rank - 1)], [0, *range(2, rank), 1]
        before = ir.node("Transpose", [codes], {"perm": first}, name=f"{node.name}_channels_first")
        moved = before.outputs[0]
        moved.name, moved.type = unused_name(graph, f"{before.name}_quantized"), codes.type
        inputs = [moved if at == position else value for at, value in enumerate(node.inputs)]
        copy = ir.Node(
            "" if is_max_pool else node.domain,
            "MaxPool" if is_max_pool else node.op_type,
            inputs,
            [a for name, a in node.attributes.items() if name != "channels_last"],
            name=node.name,
        )
        copy.outputs[0].name = unused_name(graph, f"{node.name}_first_quantized")
        copy.outputs[0].type = node.outputs[0].type
        after = ir.node(
            "Transpose", [copy.outputs[0]], {"perm": last}, name=f"{node.name}_channels_last"
        )
        graph.insert_before(node, [before, copy])
        replace_node(node, after)


def _is_channels_last(node: ir.Node) -> bool:
    attribute = node.attributes.get("channels_last")
    return attribute is not None and attribute.as_int() != 0


def _rank(node: ir.Node, codes: ir.Value) -> int:
    weight = constant_array(node.inputs[3]) if node.op_type == "QLinearConv" else None
    if weight is not None:
        return weight.ndim
    if "kernel_shape" in node.attributes:
        return len(node.attributes["kernel_shape"].as_ints()) + 2
    # Pictures, where nothing tells.
    return 4 if codes.shape is None else len(codes.shape)
