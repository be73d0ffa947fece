"""Q/DQ nodes are taken out of the graph and become parameters.

1. ``DQ(constant)`` is a quantized constant: its codes are kept, its real values take its place.
2. ``DQ(Q(constant))`` is one too: the codes are computed as QuantizeLinear does.
3. ``DQ(Q(x))`` where nothing else reads x: x gets the parameters.
4. ``DQ(Q(x))`` where x has other readers or parameters already (a Q-DQ-Q chain): an Identity
   stands for the explicit requantization and its output gets the parameters.
5. ``Transpose(DQ(constant))``: the codes are transposed, as onnxruntime does it where ``perm`` is
   given. Behind any other op the weight is computed, for onnxruntime too.
6. Codes that no kernel takes (blocks, 4 bits, half floats): a constant becomes real values, a
   computed pair stays in the graph or is refused.
"""

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from quantkit.errors import UnsupportedModelError, UnsupportedOpError
from quantkit.graph.model_io import node_of
from quantkit.graph.node_evaluation import evaluate_node
from quantkit.graph.program import Array
from quantkit.graph.surgery import add_constant, bypass, constant_array, unused_name
from quantkit.numerics.affine import QuantizedTensor, QuantParams
from quantkit.quantized_model.joined_pairs import JOINED
from quantkit.quantized_model.qdq_params import (
    constant_codes,
    is_dequantize,
    is_quantize,
    obstacle,
    pair_params,
    quantized_constant,
    read_params,
    real_constant,
)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What was read so far: filled while the Q/DQ nodes are taken out.

    Attributes:
        params: Value -> its parameters; constants included.
        constants: Codes of constants.
        code_tensors: Value -> the tensor that holds its codes in the file.
        kept_float: Nodes that the file keeps float, with the reason.
        unfit: Value -> what about its quantization no kernel takes.
        joined: Requantizing nodes -> why onnxruntime computes other codes.
    """

    params: dict[str, QuantParams] = field(default_factory=dict)
    constants: dict[str, QuantizedTensor] = field(default_factory=dict)
    code_tensors: dict[str, str] = field(default_factory=dict)
    kept_float: dict[str, str] = field(default_factory=dict)
    unfit: dict[str, str] = field(default_factory=dict)
    joined: dict[str, str] = field(default_factory=dict)


def take_out_pairs(model: ir.Model, found: Found) -> None:
    """Take every Q/DQ pair out of the main graph; what is left there is float.

    Raises:
        ModelError: A pair is malformed; the node is named.
        UnsupportedModelError: Computed values have codes that nothing here can hold.
    """
    for node in tuple(model.graph):
        if is_dequantize(node):
            _take_out(model, node, found)
    for node in tuple(model.graph):
        if node.op_type in ("Transpose", "Identity") and node.domain == "":
            _move_constant(model.graph, node, found)
    for node in model.graph:
        if is_quantize(node) or is_dequantize(node):
            found.kept_float[str(node.name)] = _why_left(node)


def _why_left(node: ir.Node) -> str:
    why = obstacle(node)
    if why is not None:
        return f"quantizes {why}, which no integer kernel takes"
    if is_quantize(node):
        readers = [use.node for use in node.outputs[0].uses() if not is_dequantize(use.node)]
        names = ", ".join(f"{reader.name!r} ({reader.op_type})" for reader in readers)
        return f"its codes go to {names or 'several DequantizeLinear nodes'}"
    maker = node.inputs[0].producer() if node.inputs[0] is not None else None
    origin = "a graph input" if maker is None else f"{maker.name!r} ({maker.op_type})"
    return f"its codes come from {origin}"


def _take_out(model: ir.Model, dequantize: ir.Node, found: Found) -> None:
    codes = dequantize.inputs[0]
    assert codes is not None
    why = obstacle(dequantize)
    array = constant_array(codes)
    if array is not None and why is not None:
        real = real_constant(dequantize, array)
        value = add_constant(model.graph, _real_name(codes), real)
        found.unfit[str(value.name)] = why
        _read_instead(dequantize, value)
        return
    if array is not None:
        tensor = constant_codes(dequantize, array, read_params(dequantize))
    else:
        quantize = codes.producer()
        if quantize is None or not is_quantize(quantize):
            return
        why = why or obstacle(quantize)
        if why is not None:
            if not why.endswith("values") or why.startswith("blocks"):
                raise UnsupportedModelError(
                    f"node {dequantize.name!r}: quantizing to {why} is not supported; "
                    "quantize activations per tensor to 8 or 16 bits"
                )
            return
        params = pair_params(quantize, dequantize)
        source = quantize.inputs[0]
        assert source is not None
        real_source = _constant_source(model, source)
        if real_source is None:
            _name_pair(model.graph, source, dequantize, params, found)
            return
        tensor = quantized_constant(dequantize, real_source, params)
    value = add_constant(model.graph, _real_name(codes), tensor.dequantize())
    found.constants[str(value.name)] = tensor
    found.params[str(value.name)] = tensor.params
    _read_instead(dequantize, value)


def _real_name(codes: ir.Value) -> str:
    return str(codes.name).removesuffix("_quantized")


def _constant_source(model: ir.Model, source: ir.Value) -> Array | None:
    """A constant, or what a node makes of constants alone: ``Clip(DQ(Q(weight)))``."""
    array = constant_array(source)
    node = source.producer()
    if array is not None or node is None or source.is_graph_output() or not node.inputs:
        return array
    arrays = [constant_array(value) for value in node.inputs]
    given = [value is not None for value in node.inputs]
    if any(at and array is None for at, array in zip(given, arrays, strict=True)):
        return None
    try:
        return evaluate_node(node_of(node, model.opset_imports), arrays)[source.index() or 0]
    except UnsupportedOpError:
        return None


def _name_pair(
    graph: ir.Graph, source: ir.Value, dequantize: ir.Node, params: QuantParams, found: Found
) -> None:
    """Cases 3 and 4 for one Q/DQ pair."""
    assert dequantize.inputs[0] is not None
    codes = str(dequantize.inputs[0].name)
    if source.type is None:
        # Behind onnxruntime's own ops shape inference knows nothing; what is quantized is float.
        source.type = ir.TensorType(ir.DataType.FLOAT)
    quantize_node = dequantize.inputs[0].producer()
    readers = {use.node for use in source.uses()}
    others = any(reader is not quantize_node for reader in readers) or source.is_graph_output()
    assert source.name is not None
    known = found.params.get(source.name)
    if known is None and others:
        # Readers that see the same codes through another Q/DQ pair of equal parameters are fine.
        others = source.is_graph_output() or not all(
            _quantizes_alike(reader, params) for reader in readers
        )
    if (known is None and not others) or (known is not None and known.equals(params)):
        # A graph output's name goes to the source; it may have been met under its own before.
        found.params.pop(source.name, None)
        found.code_tensors.pop(source.name, None)
        _read_instead(dequantize, source)
        found.params[source.name] = params
        found.code_tensors[source.name] = codes
        return
    identity = ir.node("Identity", [source], name=f"{dequantize.name}_requantize")
    output = identity.outputs[0]
    output.name = unused_name(graph, f"{source.name}_requantized")
    output.type, output.shape = source.type, source.shape
    graph.insert_before(dequantize, identity)
    bypass(dequantize, output)
    found.params[str(output.name)] = params
    found.code_tensors[str(output.name)] = codes
    # The QuantizeLinear of the pair before has no reader left.
    alive = {reader for reader in readers if not is_quantize(reader) or reader.outputs[0].uses()}
    if known is not None and alive <= {quantize_node} and not source.is_graph_output():
        found.joined[str(identity.name)] = JOINED


def _read_instead(dequantize: ir.Node, value: ir.Value) -> None:
    """Whoever reads the real values reads ``value``; an Identity may stay for a graph output."""
    for use in tuple(dequantize.outputs[0].uses()):
        use.node.replace_input_with(use.idx, value)
    bypass(dequantize, value)


def _quantizes_alike(reader: ir.Node, params: QuantParams) -> bool:
    return is_quantize(reader) and obstacle(reader) is None and read_params(reader).equals(params)


def _move_constant(graph: ir.Graph, node: ir.Node, found: Found) -> None:
    """Case 5."""
    source = node.inputs[0]
    name = str(source.name) if source is not None else ""
    if source is None or name not in found.constants or node.outputs[0].is_graph_output():
        return
    if node.op_type == "Identity":
        bypass(node, source)
        return
    if "perm" not in node.attributes:
        return  # onnxruntime does not look behind it then, and computes the weight
    tensor, order = found.constants[name], tuple(node.attributes["perm"].as_ints())
    params = tensor.params
    if params.axis is not None:
        axis = order.index(params.axis)
        params = QuantParams(params.scale, params.zero_point, params.dtype, axis)
    moved = QuantizedTensor(np.ascontiguousarray(tensor.data.transpose(order)), params)
    value = add_constant(graph, f"{name}_transposed", moved.dequantize())
    found.constants[str(value.name)] = moved
    found.params[str(value.name)] = params
    bypass(node, value)
