"""A QuantizedModel from a QDQ file, whoever made it.

The Q/DQ nodes are taken out of the graph and become parameters:

1. ``DQ(constant)`` is a quantized constant: its codes are kept, its real values take its place.
2. ``DQ(Q(constant))`` is one too: the codes are computed as QuantizeLinear does.
3. ``DQ(Q(x))`` where nothing else reads x: x gets the parameters.
4. ``DQ(Q(x))`` where x has other readers or parameters already (a Q-DQ-Q chain): an Identity
   stands for the explicit requantization and its output gets the parameters.

Which nodes are integer then is decided in ``integer_nodes``.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
import onnx_ir.passes.common as common

from quantkit.errors import ModelError, UnsupportedModelError
from quantkit.graph.model_io import load_model, model_digest, program_of, read_metadata
from quantkit.graph.surgery import add_constant, bypass, constant_array, unused_name
from quantkit.numerics.affine import QuantizedTensor, QuantParams
from quantkit.passes.fold_constants import infer_shapes
from quantkit.passes.lift_constants import lift_constants
from quantkit.passes.mark_clamps import mark_clamps
from quantkit.passes.prepare import Prepared
from quantkit.plan import QuantPlan, data_values
from quantkit.quantized_model.constants import ACCUMULATOR_MAX
from quantkit.quantized_model.integer_nodes import float_nodes
from quantkit.quantized_model.model import QuantizedModel, node_bound, weight_and_bias
from quantkit.quantized_model.qdq_params import (
    constant_codes,
    is_dequantize,
    is_quantize,
    pair_params,
    quantized_constant,
    read_params,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """What was read so far: filled while the Q/DQ nodes are taken out."""

    params: dict[str, QuantParams]
    constants: dict[str, QuantizedTensor]
    code_tensors: dict[str, str]
    kept_float: dict[str, str]


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
    if not any(is_quantize(node) or is_dequantize(node) for node in model.graph):
        raise UnsupportedModelError(
            f"{str(path)!r} is not quantized: it has no QuantizeLinear or DequantizeLinear node; "
            "`quantkit quantize` makes a quantized model of it"
        )
    infer_shapes(model)
    found = _Found({}, {}, {}, {})
    for node in tuple(model.graph):
        if is_dequantize(node):
            _take_out(model.graph, node, found)
    for node in tuple(model.graph):
        if _does_nothing(node):
            readers = [str(use.node.name) for use in node.outputs[0].uses()]
            found.kept_float.update(dict.fromkeys(readers, "the file keeps it float"))
            assert node.inputs[0] is not None
            bypass(node, node.inputs[0])
    common.RemoveUnusedNodesPass()(model)
    left = [node for node in model.graph if is_quantize(node) or is_dequantize(node)]
    if left:
        raise UnsupportedModelError(
            f"node {left[0].name!r}: a {left[0].op_type} without its counterpart is not supported"
        )
    infer_shapes(model)
    clamps, notes = mark_clamps(model)
    prepared = Prepared(model, program_of(model), clamps, tuple(notes), digest)
    return _quantized_model(prepared, found, metadata)


def _does_nothing(node: ir.Node) -> bool:
    """A Clip without bounds: the exporter's way to keep a node from being fused."""
    return (
        node.op_type == "Clip"
        and node.domain == ""
        and not node.attributes
        and not any(node.inputs[1:])
        and not node.outputs[0].is_graph_output()
    )


def _quantized_model(prepared: Prepared, found: _Found, metadata: dict[str, str]) -> QuantizedModel:
    """Decide which nodes are integer and keep what belongs to them."""
    program = prepared.program
    kept_float = float_nodes(prepared, found.params, found.constants, found.kept_float)
    # A file of quantkit's own says why.
    told = _stored_reasons(metadata)
    kept_float = {name: told.get(name, reason) for name, reason in kept_float.items()}
    integer = [node for node in program.nodes if node.name not in kept_float]
    codes = {
        name
        for node in integer
        for name in (*data_values(node, program.constants), *weight_and_bias(node))
    }
    constants = {name: found.constants[name] for name in found.constants if name in codes}
    values = {name for node in program.nodes for name in (*node.inputs, *node.outputs)}
    params = {name: found.params[name] for name in found.params if name in values}
    plan = QuantPlan(params, kept_float)
    bounds = {node.name: node_bound(node, program, plan, constants) for node in integer}
    for name, bound in bounds.items():
        if bound is not None and bound > ACCUMULATOR_MAX:
            logger.warning(
                "node %r: sums of up to %d exceed int32; they wrap around, here as in onnxruntime",
                name,
                bound,
            )
    return QuantizedModel(
        prepared,
        plan,
        constants,
        {name: bound for name, bound in bounds.items() if bound is not None},
        metadata=metadata,
        code_tensors=found.code_tensors,
    )


def _stored_reasons(metadata: dict[str, str]) -> dict[str, str]:
    try:
        stored = json.loads(metadata.pop("kept_float", "{}"))
    except json.JSONDecodeError:
        return {}
    return {str(k): str(v) for k, v in stored.items()} if isinstance(stored, dict) else {}


def _take_out(graph: ir.Graph, dequantize: ir.Node, found: _Found) -> None:
    codes = dequantize.inputs[0]
    if codes is None:
        raise ModelError(f"node {dequantize.name!r}: DequantizeLinear without input")
    array = constant_array(codes)
    if array is not None:
        tensor = constant_codes(dequantize, array, read_params(dequantize))
    else:
        quantize = codes.producer()
        if quantize is None or not is_quantize(quantize):
            return  # codes come from an integer op or a graph input: reported by the caller
        params = pair_params(quantize, dequantize)
        source = quantize.inputs[0]
        assert source is not None
        real = constant_array(source)
        if real is None:
            _name_pair(graph, source, dequantize, params, found)
            return
        tensor = quantized_constant(dequantize, real, params)
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
    return is_quantize(reader) and read_params(reader).equals(params)
