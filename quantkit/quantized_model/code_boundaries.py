"""Graph inputs and outputs that are codes become real values, each with one Q/DQ pair.

1. A graph input that only DequantizeLinear nodes read becomes a float input with a QuantizeLinear
   behind it.
2. A graph output that a QuantizeLinear makes gets a DequantizeLinear, whose output takes over the
   name.

The codes do not change: whoever has codes feeds them as they are.
"""

from dataclasses import dataclass, field

import onnx_ir as ir

from quantkit.graph.surgery import add_constant, unused_name
from quantkit.numerics.affine import QuantParams
from quantkit.quantized_model.qdq_params import is_dequantize, is_quantize, obstacle, read_params

_CODE_TYPES = frozenset(
    {ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16}
)


@dataclass(frozen=True, slots=True, eq=False)
class CodeBoundaries:
    """What was changed.

    Attributes:
        names: Inputs and outputs that are codes in the file.
        code_tensors: Renamed or new code tensor -> its name in the file, "" where it has none.
    """

    names: set[str] = field(default_factory=set)
    code_tensors: dict[str, str] = field(default_factory=dict)


def make_boundaries_real(model: ir.Model) -> CodeBoundaries:
    """Edit the graph in place."""
    found = CodeBoundaries()
    graph = model.graph
    for value in graph.inputs:
        if value.dtype in _CODE_TYPES and not value.is_initializer():
            params = _common_params(value)
            if params is not None:
                _make_input_real(graph, value, params, found)
    for node in tuple(graph):
        if is_quantize(node) and node.outputs[0].is_graph_output() and obstacle(node) is None:
            _make_output_real(graph, node, found)
    return found


def _common_params(value: ir.Value) -> QuantParams | None:
    """The parameters that all readers of an input give its codes; None where they do not."""
    readers = [use.node for use in value.uses()]
    if not readers or value.is_graph_output():
        return None
    if not all(is_dequantize(reader) and obstacle(reader) is None for reader in readers):
        return None
    params = [read_params(reader) for reader in readers]
    is_one = params[0].axis is None and all(other.equals(params[0]) for other in params)
    return params[0] if is_one else None


def _make_input_real(
    graph: ir.Graph, value: ir.Value, params: QuantParams, found: CodeBoundaries
) -> None:
    uses = tuple(value.uses())
    name = str(value.name)
    scale = add_constant(graph, f"{name}_scale", params.scale)
    zero_point = add_constant(graph, f"{name}_zero_point", params.zero_point.astype(params.dtype))
    node = ir.node("QuantizeLinear", [value, scale, zero_point], name=f"{name}_QuantizeLinear")
    codes = node.outputs[0]
    codes.name = unused_name(graph, f"{name}_codes")
    codes.type, codes.shape = value.type, value.shape
    value.type = ir.TensorType(ir.DataType.FLOAT)
    graph.insert_before(uses[0].node if len(uses) == 1 else next(iter(graph)), node)
    for use in uses:
        use.node.replace_input_with(use.idx, codes)
    found.names.add(name)
    found.code_tensors[codes.name] = ""


def _make_output_real(graph: ir.Graph, quantize: ir.Node, found: CodeBoundaries) -> None:
    codes = quantize.outputs[0]
    name = str(codes.name)
    inputs = [codes, *quantize.inputs[1:]]
    attributes = [a for a in quantize.attributes.values() if a.name == "axis"]
    node = ir.Node(
        quantize.domain, "DequantizeLinear", inputs, attributes, name=f"{name}_DequantizeLinear"
    )
    real = node.outputs[0]
    real.type, real.shape = ir.TensorType(ir.DataType.FLOAT), codes.shape
    graph.insert_after(quantize, node)
    for position, output in enumerate(graph.outputs):
        if output is codes:
            graph.outputs[position] = real
    codes.name = unused_name(graph, f"{name}_codes")
    real.name = name
    found.names.add(name)
    found.code_tensors[codes.name] = name
