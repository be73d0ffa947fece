"""ONNX with QuantizeLinear/DequantizeLinear pairs (QDQ).

Every quantized value passes through one Q/DQ pair, every weight and bias through a
DequantizeLinear; onnxruntime fuses the groups ``DQ -> op -> Q`` into its integer kernels. A clamp
that saturation to the output's codes already performs is left out; a node that shall stay float is
parted from the Q/DQ pairs around it, or onnxruntime would fuse it all the same. Where a file has
codes of such a node's constants, they stay codes: the file's size, and no fusion of float weights
(BatchNormalization into Conv) that onnxruntime did not make before.

Names follow onnxruntime's own quantizer, so that other tools find the tensors:
``X_QuantizeLinear_Output``, ``X_DequantizeLinear_Output``, ``X_scale``, ``X_zero_point``,
``W_quantized``.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from quantkit.exporters.contract import EXPORTERS, Samples
from quantkit.exporters.file_boundaries import restore_code_boundaries
from quantkit.exporters.integer_sums import compute_sums_on_codes
from quantkit.graph.model_io import PER_CHANNEL_OPSET, raise_opset, save_model, write_metadata
from quantkit.graph.program import Node
from quantkit.graph.surgery import add_constant, bypass, constant_array, taken_names, unused_name
from quantkit.numerics.affine import QuantizedTensor, QuantParams
from quantkit.ops.clamp import clamp_is_implied
from quantkit.ops.contract import OPS
from quantkit.plan import data_values
from quantkit.quantized_model.model import QuantizedModel, weight_and_bias

CONTRIB_DOMAIN = "com.microsoft"
_WIDE_CODES_OPSET = 21


@EXPORTERS.register("qdq")
def write_qdq(model: QuantizedModel, path: Path, samples: Samples | None = None) -> None:
    """ONNX file with Q/DQ pairs, for onnxruntime (the default)."""
    save_model(qdq_graph(model), path)


def qdq_graph(model: QuantizedModel) -> ir.Model:
    """The QDQ graph in memory; names of inputs and outputs and the opset are the float model's.

    An input or output that is codes in the file the model was read from is codes here too.
    """
    result = real_qdq_graph(model)
    restore_code_boundaries(result.graph, model.code_boundaries)
    return result


def real_qdq_graph(model: QuantizedModel) -> ir.Model:
    """The QDQ graph with real values at every input and output."""
    result = model.prepared.model.clone()
    if any(tensor.params.is_per_channel for tensor in model.constants.values()):
        result = raise_opset(result, PER_CHANNEL_OPSET)
    graph = result.graph
    nodes = {node.name: node for node in model.prepared.program.nodes}
    params = dict(model.plan.params)
    for node in tuple(graph):
        assert node.name is not None
        if node.name in model.plan.kept_float:
            continue
        if _is_implied_clamp(nodes[node.name], model):
            _drop_clamp(node, params)
    taken = taken_names(graph)
    coded = {name: _read_as_codes(node, model) for name, node in nodes.items()}
    for node in tuple(graph):
        _dequantize_constants(node, coded, model, taken)
    for value in (*graph.inputs, *(output for node in tuple(graph) for output in node.outputs)):
        if value.name in params:
            _insert_pair(graph, value, params[value.name], taken)
    for node in tuple(graph):
        if node.name in model.plan.kept_float and _is_fusible(nodes.get(node.name or "")):
            _keep_float(node)
    if any(node.domain == CONTRIB_DOMAIN for node in graph):
        result.opset_imports.setdefault(CONTRIB_DOMAIN, 1)
    compute_sums_on_codes(graph)
    common.RemoveUnusedNodesPass()(result)
    common.TopologicalSortPass()(result)
    result.producer_name = "quantkit"
    result.producer_version = model.metadata.get("version")
    write_metadata(result, model.metadata)
    if model.plan.kept_float:
        write_metadata(
            result, {"kept_float": json.dumps(dict(sorted(model.plan.kept_float.items())))}
        )
    return result


def _is_fusible(node: Node | None) -> bool:
    """Whether onnxruntime takes the node into integers wherever Q/DQ surround it, asked or not.

    It even quantizes a float weight for that, per tensor (``weight_bias_quantization.cc``). What
    only moves or clamps values is exact either way.
    """
    if node is None or node.op_type == "ConvTranspose":
        return node is not None
    if node.domain or node.op_type not in OPS:
        return False
    op = OPS[node.op_type]
    return op.rule.output != "same_as_input" and op.has_onnxruntime_kernel(node)


def _keep_float(node: ir.Node) -> None:
    """A Clip without bounds, which does nothing, parts the node from a computed DQ before it."""
    source = next((value for value in node.inputs if _is_dequantized(value)), None)
    if source is None:
        return
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    barrier = ir.node("Clip", [source], name=f"{node.name}_stays_float")
    output = barrier.outputs[0]
    output.name = unused_name(graph, f"{node.name}_stays_float_Output")
    output.type, output.shape = source.type, source.shape
    graph.insert_before(node, barrier)
    for position, value in enumerate(node.inputs):
        if value is source:
            node.replace_input_with(position, output)


def _is_dequantized(value: ir.Value | None) -> bool:
    producer = None if value is None else value.producer()
    if producer is None or producer.op_type != "DequantizeLinear":
        return False
    return constant_array(producer.inputs[0]) is None


def _is_implied_clamp(node: Node, model: QuantizedModel) -> bool:
    """Whether saturating to the codes of the output is all this clamp does."""
    if not OPS[node.op_type].rule.clamps:
        return False
    constants = [model.prepared.program.constants.get(name) for name in node.inputs]
    x_params, y_params = (model.plan.params[name] for name in (node.inputs[0], node.outputs[0]))
    return x_params.equals(y_params) and clamp_is_implied(node, constants, y_params)


def _drop_clamp(node: ir.Node, params: dict[str, QuantParams]) -> None:
    """The producer's value takes the clamp's place, and its name."""
    source, output = node.inputs[0], node.outputs[0]
    assert source is not None
    assert source.name is not None
    assert output.name is not None
    name = output.name
    # A value with other readers keeps its name: they mean the unclamped one (same codes).
    if source.is_graph_input() or source.is_graph_output() or len(source.uses()) > 1:
        if not output.is_graph_output():
            params.pop(name)
        bypass(node, source)
        return
    params.pop(source.name)
    bypass(node, source)
    source.name = name


def _read_as_codes(node: Node, model: QuantizedModel) -> set[str]:
    """Names of the constants that the node reads through a DequantizeLinear.

    A float node does so where that changes nothing: where a file holds the codes.
    """
    arrays, constants = model.prepared.program.constants, model.constants
    if node.name not in model.plan.kept_float:
        names = {*data_values(node, arrays), *weight_and_bias(node)}
        return names.intersection(constants)
    return {
        name
        for name in constants.keys() & set(node.inputs)
        if np.array_equal(constants[name].dequantize(), arrays[name])
    }


def _dequantize_constants(
    node: ir.Node, coded: Mapping[str, set[str]], model: QuantizedModel, taken: set[str]
) -> None:
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    for value in dict.fromkeys(node.inputs):
        name = str(value.name) if value is not None else ""
        if value is None or name not in coded.get(str(node.name), ()):
            continue
        tensor = model.constants[name]
        if _is_wide(tensor):
            continue
        readers = tuple(
            (use.node, use.idx)
            for use in value.uses()
            if use.node.graph is graph and name in coded.get(str(use.node.name), ())
        )
        dequantized = _dequantized_constant(graph, node, name, tensor, taken)
        for reader, index in readers:
            reader.replace_input_with(index, dequantized)
        if not value.uses():
            graph.initializers.pop(name)
            taken.discard(name)


def _is_wide(tensor: QuantizedTensor) -> bool:
    """Whether it is a bias that int32 does not hold; readers quantize the float one alike."""
    largest = np.iinfo(np.int32)
    return bool(((tensor.data < largest.min) | (tensor.data > largest.max)).any())


def _dequantized_constant(
    graph: ir.Graph, reader: ir.Node, name: str, tensor: QuantizedTensor, taken: set[str]
) -> ir.Value:
    if tensor.params.dtype == np.int64:
        # DequantizeLinear takes no int64.
        params = replace(tensor.params, dtype=np.dtype(np.int32))
        tensor = QuantizedTensor(tensor.data.astype(np.int32), params)
    codes = add_constant(graph, f"{name}_quantized", tensor.data, taken)
    inputs = [codes, *_parameters(graph, name, tensor.params, taken)]
    attributes = {} if tensor.params.axis is None else {"axis": tensor.params.axis}
    node_name = _unused_node_name(graph, f"{name}_DequantizeLinear")
    domain = _pair_domain(graph, tensor.params)
    node = ir.node("DequantizeLinear", inputs, attributes, name=node_name, domain=domain)
    output = node.outputs[0]
    output.name = unused_name(graph, f"{name}_DequantizeLinear_Output", taken)
    output.type = ir.TensorType(ir.DataType.FLOAT)
    output.shape = ir.Shape(tensor.data.shape)
    graph.insert_before(reader, node)
    return output


def _insert_pair(graph: ir.Graph, value: ir.Value, params: QuantParams, taken: set[str]) -> None:
    """Q and DQ behind a value; all its readers read the DQ's output."""
    uses = tuple(value.uses())
    name = value.name
    assert name is not None
    is_output = value.is_graph_output()
    scale, zero_point = _parameters(graph, name, params, taken)
    names = [
        _unused_node_name(graph, f"{name}_{kind}Linear") for kind in ("Quantize", "Dequantize")
    ]
    domain = _pair_domain(graph, params)
    quantize = ir.node("QuantizeLinear", [value, scale, zero_point], name=names[0], domain=domain)
    codes = quantize.outputs[0]
    codes.name = unused_name(graph, f"{name}_QuantizeLinear_Output", taken)
    codes.type = ir.TensorType(ir.DataType.from_numpy(params.dtype))
    codes.shape = value.shape
    dequantize = ir.node(
        "DequantizeLinear", [codes, scale, zero_point], name=names[1], domain=domain
    )
    real = dequantize.outputs[0]
    real.name = unused_name(graph, f"{name}_DequantizeLinear_Output", taken)
    real.type, real.shape = value.type, value.shape
    producer = value.producer()
    if producer is None:
        first = next(iter(graph))
        graph.insert_before(first, [quantize, dequantize])
    else:
        graph.insert_after(producer, [quantize, dequantize])
    for use in uses:
        use.node.replace_input_with(use.idx, real)
    if is_output:
        position = next(i for i, output in enumerate(graph.outputs) if output is value)
        graph.outputs[position] = real
        value.name = unused_name(graph, f"{name}_QuantizeLinear_Input", taken)
        taken.remove(real.name)
        real.name = name


def _pair_domain(graph: ir.Graph, params: QuantParams) -> str:
    """ONNX knows 16-bit codes since opset 21; before, onnxruntime's own ops take them."""
    is_known = params.dtype.itemsize != 2 or graph.opset_imports[""] >= _WIDE_CODES_OPSET
    return "" if is_known else CONTRIB_DOMAIN


def _parameters(
    graph: ir.Graph, name: str, params: QuantParams, taken: set[str]
) -> tuple[ir.Value, ir.Value]:
    zero_point = np.asarray(params.zero_point).astype(params.dtype)
    return (
        add_constant(graph, f"{name}_scale", params.scale, taken),
        add_constant(graph, f"{name}_zero_point", zero_point, taken),
    )


def _unused_node_name(graph: ir.Graph, name: str) -> str:
    """``name``, with a number added where a node has it: one read from a file may."""
    taken = {node.name for node in graph}
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate
