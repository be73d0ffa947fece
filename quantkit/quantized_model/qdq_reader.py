"""A QuantizedModel from a QDQ file, whoever made it.

The Q/DQ nodes are taken out of the graph and become parameters:

1. ``DQ(constant)`` is a quantized constant: its codes are kept, its real values take its place.
2. ``DQ(Q(constant))`` is one too: the codes are computed as QuantizeLinear does.
3. ``DQ(Q(x))`` where nothing else reads x: x gets the parameters.
4. ``DQ(Q(x))`` where x has other readers or parameters already (a Q-DQ-Q chain): an Identity
   stands for the explicit requantization and its output gets the parameters.

A node is integer when every value it reads and writes has parameters, as onnxruntime decides it;
every other node stays float, with the reason.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from quantkit.errors import (
    ModelError,
    NonFiniteRangeError,
    ShapeMismatchError,
    UnsupportedModelError,
)
from quantkit.graph.model_io import load_model, model_digest, program_of, read_metadata
from quantkit.graph.program import Array, Node
from quantkit.graph.surgery import add_constant, bypass, constant_array, unused_name
from quantkit.numerics.affine import QuantizedTensor, QuantParams, quantize
from quantkit.ops.contract import OPS
from quantkit.passes.fold_constants import infer_shapes
from quantkit.passes.lift_constants import lift_constants
from quantkit.passes.mark_clamps import mark_clamps
from quantkit.passes.prepare import Prepared
from quantkit.plan import QuantPlan, data_values, op_refusal
from quantkit.quantized_model.constants import quantize_operand
from quantkit.quantized_model.model import QuantizedModel, node_bound


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """What was read so far: filled while the Q/DQ nodes are taken out."""

    params: dict[str, QuantParams]
    constants: dict[str, QuantizedTensor]
    code_tensors: dict[str, str]


def read_qdq(path: str | Path) -> QuantizedModel:
    """Read a QDQ model of any tool.

    Raises:
        ModelError: The file cannot be read, or a Q/DQ node is malformed; the node is named.
        UnsupportedModelError: The model holds no QuantizeLinear node.
    """
    model = load_model(path)
    metadata = read_metadata(model)
    digest = model_digest(model)
    lift_constants(model)
    if not any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph):
        raise UnsupportedModelError(
            f"{str(path)!r} is not quantized: it has no QuantizeLinear or DequantizeLinear node; "
            "`quantkit quantize` makes a quantized model of it"
        )
    found = _Found({}, {}, {})
    for node in tuple(model.graph):
        if node.op_type == "DequantizeLinear" and node.domain == "":
            _take_out(model.graph, node, found)
    common.RemoveUnusedNodesPass()(model)
    left = [node for node in model.graph if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    if left:
        raise UnsupportedModelError(
            f"node {left[0].name!r}: a {left[0].op_type} without its counterpart is not supported"
        )
    infer_shapes(model)
    clamps, notes = mark_clamps(model)
    prepared = Prepared(model, program_of(model), clamps, tuple(notes), digest)
    _pass_params_through_clamps(prepared, found)
    kept_float = _float_nodes(prepared, found)
    values = {
        name
        for node in prepared.program.nodes
        for name in (*node.inputs, *node.outputs)
        if name in found.params
    }
    params = {name: found.params[name] for name in found.params if name in values}
    plan = QuantPlan(params, kept_float)
    bounds = {
        node.name: node_bound(node, prepared.program, plan, found.constants)
        for node in prepared.program.nodes
        if node.name not in kept_float
    }
    return QuantizedModel(
        prepared,
        plan,
        found.constants,
        {name: bound for name, bound in bounds.items() if bound is not None},
        metadata=metadata,
        code_tensors=found.code_tensors,
    )


def stored_options(model: QuantizedModel) -> dict[str, object]:
    """The options stored in the model's metadata, or an empty mapping."""
    try:
        options = json.loads(model.metadata.get("config", "{}"))
    except json.JSONDecodeError:
        return {}
    return options if isinstance(options, dict) else {}


def _take_out(graph: ir.Graph, dequantize: ir.Node, found: _Found) -> None:
    codes = dequantize.inputs[0]
    if codes is None:
        raise ModelError(f"node {dequantize.name!r}: DequantizeLinear without input")
    params = _read_params(dequantize, codes)
    array = constant_array(codes)
    if array is not None:
        tensor = _constant(dequantize, array, params)
    else:
        quantize_node = codes.producer()
        if quantize_node is None or quantize_node.op_type != "QuantizeLinear":
            return  # codes come from an integer op or a graph input: reported by the caller
        source = quantize_node.inputs[0]
        assert source is not None
        real = constant_array(source)
        if real is None:
            _name_pair(graph, source, dequantize, params, found)
            return
        tensor = QuantizedTensor(quantize(np.asarray(real, np.float32), params), params)
    name = str(codes.name).removesuffix("_quantized")
    value = add_constant(graph, name, tensor.dequantize())
    assert value.name is not None
    found.constants[value.name] = tensor
    found.params[value.name] = tensor.params
    bypass(dequantize, value)


def _name_pair(
    graph: ir.Graph, source: ir.Value, dequantize: ir.Node, params: QuantParams, found: _Found
) -> None:
    """Cases 3 and 4 for one Q/DQ pair."""
    assert dequantize.inputs[0] is not None
    codes = str(dequantize.inputs[0].name)
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
        bypass(dequantize, source)
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


def _quantizes_alike(reader: ir.Node, params: QuantParams) -> bool:
    if reader.op_type != "QuantizeLinear":
        return False
    codes = reader.outputs[0]
    return _read_params(reader, codes).equals(params)


def _read_params(node: ir.Node, codes: ir.Value) -> QuantParams:
    """Scale and zero point of a Q or DQ node, checked."""
    scale_value = node.inputs[1] if len(node.inputs) > 1 else None
    scale = constant_array(scale_value)
    if scale is None:
        raise ModelError(f"node {node.name!r}: its scale is missing or computed, not a constant")
    zero_value = node.inputs[2] if len(node.inputs) > 2 else None
    zero = constant_array(zero_value)
    if zero_value is not None and zero is None:
        raise ModelError(f"node {node.name!r}: its zero point is computed, not a constant")
    array = constant_array(codes)
    if zero is not None:
        dtype = zero.dtype
    elif array is not None:
        dtype = array.dtype
    else:
        dtype = codes.dtype.numpy() if codes.dtype is not None else np.dtype(np.uint8)
    if array is not None and array.dtype != dtype:
        raise ModelError(
            f"node {node.name!r}: codes are {array.dtype}, the zero point is {_dtype_text(zero)}"
        )
    scale = np.asarray(scale)
    axis: int | None = None
    if scale.size == 1:
        scale = scale.reshape(())
    else:
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
        rank = len(codes.shape) if codes.shape is not None else None
        if axis < 0 and rank is not None:
            axis += rank
    zero_point = np.zeros(scale.shape, np.int32)
    if zero is not None:
        if zero.size not in (1, scale.size):
            raise ModelError(f"node {node.name!r}: {zero.size} zero points for {scale.size} scales")
        zero_point = np.broadcast_to(
            zero.astype(np.int32).reshape(-1 if scale.ndim else ()), scale.shape
        ).copy()
    try:
        return QuantParams(scale.astype(np.float32), zero_point, np.dtype(dtype), axis)
    except (ShapeMismatchError, NonFiniteRangeError, ValueError) as error:
        raise ModelError(f"node {node.name!r}: {error}") from error


def _dtype_text(zero: Array | None) -> str:
    return "absent" if zero is None else str(zero.dtype)


def _constant(node: ir.Node, codes: Array, params: QuantParams) -> QuantizedTensor:
    try:
        return QuantizedTensor(codes, params)
    except ShapeMismatchError as error:
        raise ModelError(f"node {node.name!r}: {error}") from error


def _pass_params_through_clamps(prepared: Prepared, found: _Found) -> None:
    """``Conv -> Relu -> Q``: the Conv writes the codes of the Relu's output."""
    for node in reversed(prepared.program.nodes):
        if node.name in prepared.clamps and node.inputs[0] not in found.params:
            params = found.params.get(node.outputs[0])
            if params is not None:
                found.params[node.inputs[0]] = params


def _float_nodes(prepared: Prepared, found: _Found) -> dict[str, str]:
    reasons: dict[str, str] = {}
    for node in prepared.program.nodes:
        reason = op_refusal(node, prepared.program)
        if reason is None:
            reason = _missing_params(node, prepared, found)
        if reason is not None:
            reasons[node.name] = reason
    return reasons


def _missing_params(node: Node, prepared: Prepared, found: _Found) -> str | None:
    """Why a node that could be integer is not, in this file; biases are quantized on the way."""
    rule = OPS[node.op_type].rule
    constants = prepared.program.constants
    data = data_values(node, constants)
    for name in (*data, *node.outputs):
        if name not in found.params:
            return f"{name!r} is not quantized in the file"
        if found.params[name].axis is not None and name not in constants:
            return f"{name!r} is quantized per channel"
    if rule.output == "same_as_input":
        source, output = node.inputs[0], node.outputs[0]
        if not found.params[source].equals(found.params[output]):
            return f"{source!r} and {output!r} have different scales"
    for name in data:
        if name in constants and name not in found.constants:
            found.constants[name] = quantize_operand(constants[name], found.params[name])
    if rule.weight is None or node.inputs[rule.weight] not in constants:
        return None
    weight = found.constants.get(node.inputs[rule.weight])
    if weight is None:
        return f"its weight {node.inputs[rule.weight]!r} is not quantized in the file"
    if rule.bias is not None and rule.bias < len(node.inputs) and node.inputs[rule.bias]:
        name = node.inputs[rule.bias]
        if name not in found.constants or found.constants[name].data.dtype != np.int32:
            return f"its bias {name!r} is not quantized to int32 in the file"
    return None
