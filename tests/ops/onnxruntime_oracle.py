"""onnxruntime as the oracle: one op between QuantizeLinear/DequantizeLinear pairs, fully optimized.

The model is a QDQ model built with onnx_ir; codes go in and codes come out. The optimized graph is
saved and searched for the fused integer kernel, so a test knows which kernel it compared with.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir
import onnxruntime

from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import IntegerArray, QuantizedTensor, QuantParams

Input = QuantParams | QuantizedTensor | Array | None
OPSET = 21


@dataclass(frozen=True)
class OracleResult:
    outputs: tuple[IntegerArray, ...]
    op_types: frozenset[str]


def run_onnxruntime(
    node: Node,
    inputs: Sequence[Input],
    outputs: Sequence[QuantParams],
    data: Sequence[IntegerArray],
) -> OracleResult:
    """Run ``node`` on codes.

    Args:
        node: The op and its attributes; its version is the opset used.
        inputs: As in ``Lowering.inputs``.
        outputs: Parameters of the outputs; none where they are indices, which are not quantized.
        data: Codes of the activation inputs, in order.
    """
    nodes: list[ir.Node] = []
    initializers: list[ir.Value] = []
    graph_inputs: list[ir.Value] = []
    operands: list[ir.Value | None] = []

    def constant(name: str, array: Array) -> ir.Value:
        tensor = ir.tensor(array.copy(order="C"), name=name)
        value = ir.Value(name=name, const_value=tensor, shape=ir.Shape(array.shape))
        value.dtype = tensor.dtype
        initializers.append(value)
        return value

    def parameters(name: str, params: QuantParams) -> tuple[ir.Value, ir.Value]:
        zero_point = params.zero_point.astype(params.dtype)
        return constant(f"{name}_scale", params.scale), constant(f"{name}_zero_point", zero_point)

    def dequantized(name: str, codes: ir.Value, params: QuantParams) -> ir.Value:
        attributes = {} if params.axis is None else {"axis": params.axis}
        created = ir.node("DequantizeLinear", [codes, *parameters(name, params)], attributes)
        nodes.append(created)
        created.outputs[0].name = f"{name}_dequantized"
        return created.outputs[0]

    remaining = list(data)
    feeds: dict[str, Array] = {}
    for position, operand in enumerate(inputs):
        name = f"input_{position}"
        match operand:
            case None:
                operands.append(None)
            case QuantParams():
                codes = remaining.pop(0)
                value = ir.Value(name=name, type=ir.TensorType(ir.DataType.from_numpy(codes.dtype)))
                value.shape = ir.Shape(codes.shape)
                graph_inputs.append(value)
                feeds[name] = codes
                operands.append(dequantized(name, value, operand))
            case QuantizedTensor():
                operands.append(
                    dequantized(name, constant(f"{name}_codes", operand.data), operand.params)
                )
            case _:
                operands.append(constant(name, operand))

    attributes: dict[str, Any] = dict(node.attributes)
    created = ir.node(node.op_type, operands, attributes, num_outputs=len(node.outputs), name="op")
    nodes.append(created)
    graph_outputs = []
    for position, value in enumerate(created.outputs):
        value.name = f"real_{position}"
        if not outputs:
            value.type = ir.TensorType(ir.DataType.INT64)
            graph_outputs.append(value)
            continue
        params = outputs[position]
        quantize = ir.node("QuantizeLinear", [value, *parameters(f"output_{position}", params)])
        nodes.append(quantize)
        quantize.outputs[0].name = f"output_{position}"
        quantize.outputs[0].type = ir.TensorType(ir.DataType.from_numpy(params.dtype))
        graph_outputs.append(quantize.outputs[0])

    graph = ir.Graph(
        graph_inputs,
        graph_outputs,
        nodes=nodes,
        initializers=initializers,
        opset_imports={"": node.version},
        name="one_op",
    )
    model = ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # On x86 onnxruntime leaves int8 activations in float by default; uint8 is always fused.
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(optimized)
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        op_types = frozenset(node.op_type for node in ir.load(optimized).graph)
    codes = session.run([value.name for value in graph_outputs], feeds)
    return OracleResult(tuple(codes), op_types)
