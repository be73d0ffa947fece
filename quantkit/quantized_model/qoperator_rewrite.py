"""QOperator nodes become DQ -> float op -> Q, and the QDQ reader does the rest.

1. ``QLinearConv(x, s_x, z_x, w, s_w, z_w, s_y, z_y, b)`` becomes ``Q(Conv(DQ(x), DQ(w), DQ(b)))``,
   and its kin alike. The bias has the scale ``s_x * s_w``, which the node leaves unsaid.
2. Nodes that want channels last: see ``channels_first``.
3. Nodes that move codes: see ``code_movement``.
4. Integer products (ConvInteger, MatMulInteger): see ``integer_products``.
5. Where a scale is known only at run time (dynamic quantization) the node stays as it is.

The tensors that hold codes keep their names.
"""

import onnx_ir as ir

from quantkit.errors import UnsupportedModelError
from quantkit.graph.surgery import constant_array, replace_node
from quantkit.quantized_model.channels_first import put_channels_first
from quantkit.quantized_model.code_movement import (
    MOVED_INPUTS,
    CodeParams,
    Known,
    dequantized,
    graph_of,
    move_codes,
    real_name,
)
from quantkit.quantized_model.integer_products import (
    INTEGER_PRODUCTS,
    cast_sums,
    is_cast_of_sums,
    rewrite_integer_product,
)
from quantkit.quantized_model.qdq_params import check_node, is_dequantize, is_quantize
from quantkit.quantized_model.qoperator_forms import Form, form_of
from quantkit.quantized_model.qoperator_params import (
    array_of,
    dequantized_bias,
    fold_alpha,
    optional_input,
    per_channel_alike,
    present_input,
    require_one_scale,
    require_weight_shapes,
    stated_params,
)

RUN_TIME_SCALE = "its scale is known only at run time (dynamic quantization)"
RUN_TIME_OPS = frozenset({"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"})
"""They choose the scale of their input when they run."""
# They say how codes lie, which opset is meant, or (alpha) need a look; all others are copied.
_LEFT_OUT = frozenset({"alpha", "channels_last", "opset"})
_LAST_AXIS_OPSET = 13
_CODE_TYPES = frozenset({ir.DataType.UINT8, ir.DataType.INT8})


def rewrite_qoperator(model: ir.Model) -> dict[str, str]:
    """Rewrite every node that computes with codes; a graph without such nodes is not changed.

    Args:
        model: Nodes in topological order, constants lifted, every node with a name of its own.

    Returns:
        Name of every node that must stay float -> the reason.

    Raises:
        ModelError: A node lacks an input, or its scale or zero point is computed; it is named.
        UnsupportedModelError: A node computes with codes in a way that is not known.
    """
    put_channels_first(model.graph)
    known = _fed_codes(model.graph)
    reasons: dict[str, str] = {}
    rewritten: set[str] = set()
    for node in tuple(model.graph):
        form = form_of(node)
        if is_quantize(node):
            if len(node.inputs) > 1 and node.inputs[1] is not None:
                zero_point = node.inputs[2] if len(node.inputs) > 2 else None
                known[node.outputs[0]] = CodeParams(node.inputs[1], zero_point)
        elif is_dequantize(node):
            continue
        elif _scale_comes_late(node):
            reasons[str(node.name)] = RUN_TIME_SCALE
        elif form is not None:
            rewritten.add(node.domain)
            _rewrite(model, node, form, known)
        elif node.op_type in INTEGER_PRODUCTS and node.domain == "":
            rewrite_integer_product(node, known)
        elif is_cast_of_sums(node, known):
            cast_sums(node, known)
        elif any(value in known for value in node.inputs if value is not None):
            reason = move_codes(node, known)
            if reason is not None:
                reasons[str(node.name)] = reason
    used = {node.domain for node in model.graph.all_nodes()}
    for domain in rewritten - used - {""}:
        model.opset_imports.pop(domain, None)
    return reasons


def _scale_comes_late(node: ir.Node) -> bool:
    sources = [value.producer() for value in node.inputs if value is not None]
    return any(other is not None and other.op_type in RUN_TIME_OPS for other in (node, *sources))


def _fed_codes(graph: ir.Graph) -> Known:
    """Codes that are a graph input or a constant and are moved before they are used."""
    known: Known = {}
    for value in (*graph.inputs, *graph.initializers.values()):
        if value.dtype in _CODE_TYPES and any(_moves(use.node, use.idx) for use in value.uses()):
            params = _params_downstream(value)
            # A constant with a scale per channel is left as it is: an op may move its channels.
            if params is not None and array_of(params.scale).size == 1:
                known[value] = params
    return known


def _moves(reader: ir.Node, position: int) -> bool:
    return reader.domain == "" and reader.op_type in MOVED_INPUTS and position == 0


def _params_downstream(value: ir.Value) -> CodeParams | None:
    """The parameters that some reader of the codes states."""
    for use in value.uses():
        form = form_of(use.node)
        if is_dequantize(use.node):
            return stated_params(use.node, (0, 1, 2))
        triples = () if form is None else form.operands
        for triple in triples:
            if use.idx == triple[0]:
                return stated_params(use.node, triple)
        found = _params_downstream(use.node.outputs[0]) if _moves(use.node, use.idx) else None
        if found is not None:
            return found
    return None


def _rewrite(model: ir.Model, node: ir.Node, form: Form, known: Known) -> None:
    graph = graph_of(node)
    attributes = {
        name: attribute for name, attribute in node.attributes.items() if name not in _LEFT_OUT
    }
    params = [stated_params(node, triple) for triple in form.operands]
    for triple, stated in zip(form.operands, params, strict=True):
        if not form.is_product or triple is form.operands[0]:
            require_one_scale(node, f"its input {triple[0]}", stated)
        else:
            require_weight_shapes(node, triple[0], stated)
    axis = _weight_axis(node, form) if form.is_product else None
    if form.is_product:
        params[1] = per_channel_alike(graph, params[1])
    if form.float_op == "LeakyRelu" and "alpha" in node.attributes:
        attributes["alpha"] = node.attributes["alpha"]
    has_bias = optional_input(node, form.bias) is not None
    alpha = _number(node, "alpha", 1.0) if form.float_op == "Gemm" else 1.0
    if has_bias:
        params[1], alpha = fold_alpha(node, params, alpha)
    if alpha != 1.0:
        attributes["alpha"] = ir.AttrFloat32("alpha", alpha)
    if form.float_op == "Softmax":
        axis_given = _softmax_axis(model, node)
        if axis_given is not None:
            attributes["axis"] = ir.AttrInt64("axis", axis_given)
    inputs = [present_input(node, at) for at in form.lead]
    for index, (triple, stated) in enumerate(zip(form.operands, params, strict=True)):
        is_vector = index == 1 and array_of(stated.scale).size > 1
        codes = present_input(node, triple[0])
        inputs.append(dequantized(node, triple[0], codes, stated, axis if is_vector else None))
    if form.bias is not None and has_bias:
        inputs.append(dequantized_bias(node, form.bias, params, alpha))
    name = _float_name(graph, node)
    computed = ir.Node("", form.float_op, inputs, attributes.values(), name=name)
    graph.insert_before(node, computed)
    _replace(node, form, computed, known)


def _replace(node: ir.Node, form: Form, computed: ir.Node, known: Known) -> None:
    """Put the float op, and what turns its output into the old node's, in the node's place."""
    graph, last = graph_of(node), computed
    float_bias = optional_input(node, form.float_bias)
    if float_bias is not None:
        last = ir.node("Add", [computed.outputs[0], float_bias], name=f"{computed.name}_bias")
        graph.insert_before(node, last)
    given = form.output is not None and optional_input(node, form.output[0]) is not None
    if form.output is None or (form.may_be_float and not given):
        output, real = node.outputs[0], last.outputs[0]
        name, real.type, real.shape = output.name, output.type, output.shape
        ir.convenience.replace_all_uses_with(output, real, replace_graph_outputs=True)
        graph.remove(node, safe=True)
        real.name = name
        return
    params = stated_params(node, (form.operands[0][0], *form.output))
    require_one_scale(node, "its output", params)
    last.outputs[0].name = real_name(graph, node.outputs[0])
    inputs = [last.outputs[0], params.scale, params.zero_point]
    quantize = ir.node("QuantizeLinear", inputs, name=node.name)
    # While it has the name of a node that the file holds.
    check_node(quantize)
    quantize.name = f"{node.name}_output"
    replace_node(node, quantize)
    known[quantize.outputs[0]] = params


def _weight_axis(node: ir.Node, form: Form) -> int:
    if form.float_op == "Conv":
        return 0
    if form.float_op == "Gemm":
        return 0 if _integer(node, "transB", 0) else 1
    weight = constant_array(present_input(node, form.operands[1][0]))
    return -1 if weight is None else weight.ndim - 1


def _softmax_axis(model: ir.Model, node: ir.Node) -> int | None:
    """The axis for the graph's opset, None where not given; QLinearSoftmax has its own opset.

    Before opset 13 all axes from ``axis`` on are one row; the last axis means the same in both.
    """
    axis = _integer(node, "axis", -1)
    graphs = model.opset_imports.get("", 1)
    own = _integer(node, "opset", graphs)
    if (own < _LAST_AXIS_OPSET) == (graphs < _LAST_AXIS_OPSET):
        is_default = "axis" not in node.attributes and graphs >= _LAST_AXIS_OPSET
        return None if is_default else axis
    shape = present_input(node, 0).shape
    if axis == -1 or (shape is not None and axis == len(shape) - 1):
        return -1
    raise UnsupportedModelError(
        f"node {node.name!r}: QLinearSoftmax of opset {own} over axis {axis}, which is not the "
        f"last, in a model of opset {graphs} is not supported"
    )


def _float_name(graph: ir.Graph, node: ir.Node) -> str:
    """Without the suffix of onnxruntime's quantizer: the node of the float model."""
    name = str(node.name).removesuffix("_quant")
    return name if name and all(other.name != name for other in graph) else str(node.name)


def _number(node: ir.Node, name: str, default: float) -> float:
    return node.attributes[name].as_float() if name in node.attributes else default


def _integer(node: ir.Node, name: str, default: int) -> int:
    return node.attributes[name].as_int() if name in node.attributes else default
