"""A QuantizedModel from a QDQ or QOperator file, whoever made it.

1. What does not depend on the input is evaluated, so that every scale is a constant; every Q/DQ
   node is checked.
2. QOperator nodes become DQ -> float op -> Q (``qoperator_rewrite``); inputs and outputs that are
   codes become real values (``code_boundaries``).
3. Q/DQ pairs are taken out of the graph and become parameters (``qdq_pairs``).
4. On request, BatchNormalization is folded into weight scales (``folded_batch_norm``), and so are
   the scales per channel between a Conv and a depthwise one (``spread_scales``).
5. Which nodes are integer then is decided in ``integer_nodes``.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir
import onnx_ir.passes.common as common

from quantkit.errors import UnsupportedModelError
from quantkit.graph.model_checks import refuse_inconsistent_nodes
from quantkit.graph.model_io import (
    PER_CHANNEL_OPSET,
    load_model,
    model_digest,
    program_of,
    raise_opset,
    read_metadata,
)
from quantkit.graph.surgery import add_constant, bypass, constant_array
from quantkit.ops.contract import OPS
from quantkit.passes.fold_constants import fold_constants, infer_shapes
from quantkit.passes.fold_pad import fold_pad
from quantkit.passes.lift_constants import lift_constants
from quantkit.passes.mark_clamps import mark_clamps
from quantkit.passes.prepare import Prepared
from quantkit.plan import QuantPlan, data_values
from quantkit.quantized_model.code_boundaries import make_boundaries_real
from quantkit.quantized_model.constants import accumulator_max
from quantkit.quantized_model.folded_batch_norm import fold_into_scales
from quantkit.quantized_model.integer_nodes import float_nodes
from quantkit.quantized_model.joined_pairs import joined_pairs
from quantkit.quantized_model.model import QuantizedModel, node_bound, weight_and_bias
from quantkit.quantized_model.not_quantized import why_not_quantized
from quantkit.quantized_model.qdq_pairs import Found, take_out_pairs
from quantkit.quantized_model.qdq_params import check_node, is_dequantize, is_quantize
from quantkit.quantized_model.qoperator_rewrite import rewrite_qoperator
from quantkit.quantized_model.spread_scales import spread_scales

logger = logging.getLogger(__name__)


def read_qdq(path: str | Path, *, fold_batch_norm: bool = False) -> QuantizedModel:
    """Read a quantized ONNX model of any tool: QDQ or QOperator.

    Args:
        path: The file.
        fold_batch_norm: Whether a BatchNormalization behind a quantized Conv or Gemm is folded into
            its weight scales, so that both are one integer node. onnxruntime computes such nodes
            in floats, so their codes cannot be compared with its own (``not_comparable``).

    Raises:
        ModelError: The file cannot be read, or a Q/DQ node is malformed; the node is named.
        UnsupportedModelError: The model holds no QuantizeLinear node, or one that is not supported.
    """
    model = load_model(path)
    metadata = read_metadata(model)
    digest = model_digest(model)
    if fold_batch_norm:
        # Folded weights have a scale per channel.
        model = raise_opset(model, PER_CHANNEL_OPSET)
    lift_constants(model)
    _check(model, computed=False)
    refuse_inconsistent_nodes(model)
    fold_constants(model)
    _check(model, computed=True)
    # onnxruntime makes one node of both too, so the codes before the Pad are the Conv's input.
    fold_pad(model)
    in_file = {output.name for node in model.graph for output in node.outputs}
    found = Found(kept_float=rewrite_qoperator(model))
    if not any(is_quantize(node) or is_dequantize(node) for node in model.graph):
        raise UnsupportedModelError(f"{str(path)!r} {why_not_quantized(model)}")
    infer_shapes(model)
    boundaries = make_boundaries_real(model)
    take_out_pairs(model, found)
    _take_out_barriers(model, found)
    _part_float_biases(model.graph, found)
    common.RemoveUnusedNodesPass()(model)
    not_comparable = dict(found.joined)
    if fold_batch_norm:
        spread_scales(model, found)
        not_comparable |= fold_into_scales(model, found)
        common.RemoveUnusedNodesPass()(model)
    infer_shapes(model)
    clamps, notes = mark_clamps(model)
    prepared = Prepared(model, program_of(model), clamps, tuple(notes), digest)
    for value, name in tuple(found.code_tensors.items()):
        found.code_tensors[value] = boundaries.code_tensors.get(name, name)
        if found.code_tensors[value] not in in_file:
            del found.code_tensors[value]
    return _quantized_model(prepared, found, metadata, not_comparable, boundaries.names)


def _check(model: ir.Model, *, computed: bool) -> None:
    """Check the Q/DQ nodes whose scale and zero point are constants, or (``computed``) all."""
    for node in model.graph:
        if is_quantize(node) or is_dequantize(node):
            stated = [value for value in node.inputs[1:3] if value is not None]
            if computed or all(constant_array(value) is not None for value in stated):
                check_node(node)


def _take_out_barriers(model: ir.Model, found: Found) -> None:
    """A Clip without bounds: the exporter's way to keep a node from being fused."""
    for node in tuple(model.graph):
        if (
            node.op_type == "Clip"
            and node.domain == ""
            and not node.attributes
            and not any(node.inputs[1:])
            and not node.outputs[0].is_graph_output()
        ):
            for use in node.outputs[0].uses():
                found.kept_float[str(use.node.name)] = "the file keeps it float"
            assert node.inputs[0] is not None
            bypass(node, node.inputs[0])


def _part_float_biases(graph: ir.Graph, found: Found) -> None:
    """A float bias that has other readers is copied: every node quantizes it at its own scale."""
    for node in graph:
        rule = OPS[node.op_type].rule if node.domain == "" and node.op_type in OPS else None
        if rule is None or rule.bias is None or rule.bias >= len(node.inputs):
            continue
        value = node.inputs[rule.bias]
        array = constant_array(value)
        if value is None or array is None or len(value.uses()) == 1:
            continue
        if value.name not in found.constants and value.name not in found.unfit:
            node.replace_input_with(rule.bias, add_constant(graph, f"{node.name}.bias", array))


def _quantized_model(
    prepared: Prepared,
    found: Found,
    metadata: dict[str, str],
    not_comparable: Mapping[str, str],
    code_boundaries: set[str],
) -> QuantizedModel:
    """Decide which nodes are integer; keep what belongs to them and all codes of the file."""
    program = prepared.program
    in_file = set(found.constants).intersection(program.constants)
    # A file of quantkit's own says which nodes are float, and why.
    kept_float = float_nodes(prepared, found, _stored_reasons(metadata))
    integer = [node for node in program.nodes if node.name not in kept_float]
    codes = in_file.union(
        name
        for node in integer
        for name in (*data_values(node, program.constants), *weight_and_bias(node))
    )
    constants = {name: found.constants[name] for name in found.constants if name in codes}
    # Graphs that nodes hold read values of this one too.
    every_node = tuple(prepared.model.graph.all_nodes())
    values = {str(v.name) for node in every_node for v in (*node.inputs, *node.outputs) if v}
    params = {name: found.params[name] for name in found.params if name in values}
    plan = QuantPlan(params, kept_float)
    not_comparable = {**joined_pairs(program, params), **not_comparable}
    bounds: dict[str, int] = {}
    for node in integer:
        bound = node_bound(node, program, plan, constants)
        if bound is None:
            continue
        bounds[node.name] = bound
        factors = (params[name] for name in data_values(node, program.constants))
        if bound > accumulator_max(*factors):
            logger.warning(
                "node %r: sums of up to %d exceed int32; they wrap around, here as in onnxruntime",
                node.name,
                bound,
            )
    return QuantizedModel(
        prepared,
        plan,
        constants,
        bounds,
        metadata=metadata,
        code_tensors=found.code_tensors,
        not_comparable={
            name: reason for name, reason in not_comparable.items() if name not in kept_float
        },
        code_boundaries=frozenset(code_boundaries),
    )


def _stored_reasons(metadata: dict[str, str]) -> dict[str, str]:
    try:
        stored = json.loads(metadata.pop("kept_float", "{}"))
    except json.JSONDecodeError:
        return {}
    return {str(k): str(v) for k, v in stored.items()} if isinstance(stored, dict) else {}
