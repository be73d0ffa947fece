"""ONNX with operators that compute on codes (QOperator): QLinearConv, QGemm, QLinearAdd ...

The QDQ graph is written first. Then every ``DQ -> op -> Q`` becomes one QLinear node, and ops that
move or clamp codes (MaxPool, Reshape, Clip) read and write the codes themselves. QuantizeLinear is
left at the inputs, DequantizeLinear at the outputs, and both around what has no such form:

1. nodes that stay float, and ops without a QLinear node;
2. codes that are not all of one 8-bit type (a weight beside uint8 codes may be int8 or uint8), for
   which onnxruntime has no kernel;
3. ops that move codes where the parameters change on the way, and before opset 13, where ONNX does
   not let all of them move 8-bit codes.

Names follow onnxruntime's own quantizer: ``X_quantized``, ``X_scale``, ``X_zero_point``, and
``NODE_quant`` for a QLinear node.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from quantkit.exporters.contract import EXPORTERS, Samples
from quantkit.exporters.file_boundaries import restore_code_boundaries
from quantkit.exporters.moved_codes import moves_codes, moving_node
from quantkit.exporters.qdq import CONTRIB_DOMAIN, real_qdq_graph
from quantkit.graph.model_io import save_model
from quantkit.graph.surgery import constant_array, unused_name
from quantkit.quantized_model.model import QuantizedModel
from quantkit.quantized_model.qoperator_forms import FORMS, QLINEAR_OPS

_PAIR_SUFFIX = "_QuantizeLinear"
_EIGHT_BITS = (ir.DataType.UINT8, ir.DataType.INT8)
# Softmax is over axis 1 and all behind it before this opset, where no axis is given.
_LAST_AXIS_OPSET = 13
# Attributes of ONNX's op that the QLinear op has not; none of them changes an integer node.
_LEFT_OUT = {"Gemm": {"beta"}, "AveragePool": {"dilations"}}


@EXPORTERS.register("qoperator")
def write_qoperator(model: QuantizedModel, path: Path, samples: Samples | None = None) -> None:
    """ONNX file of QLinear operators, for onnxruntime and runtimes that do not fuse Q/DQ."""
    save_model(qoperator_graph(model), path)


@dataclass(frozen=True, slots=True, eq=False)
class _Codes:
    """A code tensor with its parameters, as the Q or DQ node beside it states them."""

    value: ir.Value
    scale: ir.Value
    zero_point: ir.Value

    @property
    def dtype(self) -> ir.DataType | None:
        return self.zero_point.dtype

    def same_params(self, other: "_Codes") -> bool:
        pairs = ((self.scale, other.scale), (self.zero_point, other.zero_point))
        arrays = [(constant_array(one), constant_array(two)) for one, two in pairs]
        return all(
            a is not None and b is not None and a.dtype == b.dtype and np.array_equal(a, b)
            for a, b in arrays
        )


def qoperator_graph(model: QuantizedModel) -> ir.Model:
    """The QOperator graph in memory; inputs, outputs and metadata are the QDQ graph's."""
    result = real_qdq_graph(model)
    graph = result.graph
    for node in graph:
        base = str(node.name).removesuffix(_PAIR_SUFFIX)
        if node.op_type == "QuantizeLinear" and base != node.name:
            node.outputs[0].name = unused_name(graph, f"{base}_quantized")
    opset = result.opset_imports[""]
    integer = {node.name for node in model.prepared.program.nodes} - set(model.plan.kept_float)
    for node in tuple(graph):
        if node.name in integer:
            _fuse(node, opset)
    restore_code_boundaries(graph, model.code_boundaries)
    common.RemoveUnusedNodesPass()(result)
    common.TopologicalSortPass()(result)
    if any(node.domain == CONTRIB_DOMAIN for node in graph):
        result.opset_imports.setdefault(CONTRIB_DOMAIN, 1)
    return result


def _fuse(node: ir.Node, opset: int) -> None:
    """Let one node compute on codes, where it can."""
    quantizers = [_only_quantizer(output) for output in node.outputs]
    outputs = [
        _Codes(quantize.outputs[0], *_scale_and_zero_point(quantize))
        for quantize in quantizers
        if quantize is not None
    ]
    if len(outputs) < len(node.outputs):
        return
    operands = {at: codes for at, value in enumerate(node.inputs) if (codes := _codes_of(value))}
    new: ir.Node | None = None
    if node.op_type in QLINEAR_OPS:
        if _has_kernel(node, operands, outputs[0]):
            new = _qlinear_node(node, operands, outputs[0], opset)
    elif set(operands) == {0} and moves_codes(node, opset):
        x = operands[0]
        if x.dtype in _EIGHT_BITS and all(x.same_params(output) for output in outputs):
            new = moving_node(node, x.value, x.scale, x.zero_point)
    if new is None:
        return
    assert isinstance(node.graph, ir.Graph)
    node.graph.insert_before(node, new)
    for output, quantize in zip(new.outputs, quantizers, strict=True):
        assert quantize is not None
        old = quantize.outputs[0]
        name, output.type, output.shape = old.name, old.type, old.shape
        ir.convenience.replace_all_uses_with(old, output)
        node.graph.remove(quantize, safe=True)
        output.name = name
    node.graph.remove(node, safe=True)


def _only_quantizer(value: ir.Value) -> ir.Node | None:
    """The QuantizeLinear that alone reads a value."""
    uses = tuple(value.uses())
    if len(uses) != 1 or value.is_graph_output() or uses[0].node.op_type != "QuantizeLinear":
        return None
    return uses[0].node


def _codes_of(value: ir.Value | None) -> _Codes | None:
    producer = value.producer() if value is not None else None
    if producer is None or producer.op_type != "DequantizeLinear":
        return None
    codes = producer.inputs[0]
    assert codes is not None
    return _Codes(codes, *_scale_and_zero_point(producer))


def _scale_and_zero_point(node: ir.Node) -> tuple[ir.Value, ir.Value]:
    scale, zero_point = node.inputs[1], node.inputs[2]
    assert scale is not None
    assert zero_point is not None
    return scale, zero_point


def _positions(node: ir.Node) -> Sequence[int]:
    """Of the inputs that hold codes, the bias excepted."""
    form = FORMS.get(QLINEAR_OPS[node.op_type])
    count = len(node.inputs) if form is None else len(form.operands)
    lead = 0 if form is None else len(form.lead)
    return range(lead, lead + count)


def _has_kernel(node: ir.Node, operands: dict[int, _Codes], output: _Codes) -> bool:
    """Whether all operands are codes of types that onnxruntime's kernels take together."""
    positions = _positions(node)
    if any(position not in operands for position in positions):
        return False
    first, *others = (operands[position].dtype for position in positions)
    if first not in _EIGHT_BITS or output.dtype != first:
        return False
    form = FORMS.get(QLINEAR_OPS[node.op_type])
    if form is not None and form.is_product:
        return others[0] in _EIGHT_BITS if first == ir.DataType.UINT8 else others[0] == first
    return all(dtype == first for dtype in others)


def _qlinear_node(
    node: ir.Node, operands: dict[int, _Codes], output: _Codes, opset: int
) -> ir.Node:
    domain, op_type = QLINEAR_OPS[node.op_type]
    form = FORMS.get((domain, op_type))
    positions = _positions(node)
    inputs: list[ir.Value | None]
    if form is None:  # QLinearConcat
        inputs = [output.scale, output.zero_point]
        for position in positions:
            one = operands[position]
            inputs += [one.value, one.scale, one.zero_point]
    else:
        assert form.output is not None
        inputs = [None] * (form.output[1] + 1)
        for position in form.lead:
            inputs[position] = node.inputs[position]
        for position, triple in zip(positions, form.operands, strict=True):
            one = operands[position]
            for at, value in zip(triple, (one.value, one.scale, one.zero_point), strict=True):
                inputs[at] = value
        for at, value in zip(form.output, (output.scale, output.zero_point), strict=True):
            inputs[at] = value
        bias = operands.get(positions[-1] + 1)
        if bias is not None and form.bias is not None:
            inputs += [None] * (form.bias + 1 - len(inputs))
            inputs[form.bias] = bias.value
    left_out = _LEFT_OUT.get(node.op_type, set())
    attributes = [a for name, a in node.attributes.items() if name not in left_out]
    if node.op_type == "Softmax":
        attributes.append(ir.AttrInt64("opset", opset))
        if "axis" not in node.attributes and opset < _LAST_AXIS_OPSET:
            attributes.append(ir.AttrInt64("axis", 1))
    return ir.Node(domain, op_type, inputs, attributes, name=f"{node.name}_quant")
