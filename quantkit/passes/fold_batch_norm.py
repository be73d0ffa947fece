"""Fold BatchNormalization into the weights of the node before it.

``BN(Wx + b) = (W f) x + ((b - mean) f + beta)`` with ``f = gamma / sqrt(variance + epsilon)``
(Jacob et al. 2018, section 3.2). Computed in float64, stored in the weight's dtype.

The fold is refused, with the reason, where

1. a parameter of the BN or the weight is computed, or is a graph input a caller may feed;
2. the BN runs in training mode;
3. the producer's output has other readers or is a graph output (its value would change);
4. the producer is none of Conv, ConvTranspose, Gemm, MatMul;
5. the channels do not fit (MatMul on more than two axes; a Gemm whose C is a full matrix);
6. the folded weight would not be finite.

A weight or bias that other nodes share is copied, so they keep theirs.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from quantkit.graph.program import Array
from quantkit.graph.surgery import (
    add_constant,
    bypass,
    constant_array,
    known_dimension,
    replace_constant_input,
    replace_node,
    sole_consumer,
)
from quantkit.passes.note import PassNote

Float64Array = npt.NDArray[np.float64]
_DEFAULT_EPSILON = 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """What a BN does at inference: ``y = factor * x + offset`` per channel (axis 1)."""

    factor: Float64Array
    offset: Float64Array


def fold_batch_norm(model: ir.Model) -> list[PassNote]:
    """Fold every BatchNormalization that can be folded; one note per BN."""
    notes: list[PassNote] = []
    for node in tuple(model.graph):
        if node.op_type != "BatchNormalization" or node.domain != "":
            continue
        affine, reason = batch_norm_affine(node)
        producer = node.inputs[0].producer() if node.inputs[0] is not None else None
        if affine is not None:
            reason = _producer_refusal(producer, node)
        if affine is not None and reason is None:
            assert producer is not None
            reason = _fold(producer, affine)
        if reason is None:
            assert producer is not None
            if len(node.outputs) > 1:
                node.resize_outputs(1)
            folded = node.inputs[0]
            assert folded is not None
            name = node.outputs[0].name
            bypass(node, folded)
            folded.name = name  # a name keeps its meaning: the value is the BN's output now
            message = f"folded into {producer.name} ({producer.op_type})"
            notes.append(_note(node, True, message))
        else:
            notes.append(_note(node, False, reason))
    return notes


def batch_norm_affine(node: ir.Node) -> tuple[Affine | None, str | None]:
    """The BN as one multiplication and one addition per channel, or why it is not."""
    if "training_mode" in node.attributes and node.attributes["training_mode"].as_int():
        return None, "runs in training mode"
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        return None, "its running statistics are read"
    arrays = [constant_array(value) for value in node.inputs[1:5]]
    for name, value, array in zip(
        ("scale", "B", "mean", "var"), node.inputs[1:5], arrays, strict=True
    ):
        if array is None:
            kind = "a graph input" if value is not None and value.is_graph_input() else "computed"
            return None, f"its {name} is {kind}, not a constant"
    gamma, beta, mean, variance = (np.asarray(array, np.float64) for array in arrays)
    epsilon = (
        node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else _DEFAULT_EPSILON
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = gamma / np.sqrt(variance + epsilon)
    if not np.isfinite(factor).all():
        return None, "a variance is not positive"
    return Affine(factor, beta - mean * factor), None


def _producer_refusal(producer: ir.Node | None, node: ir.Node) -> str | None:
    if producer is None:
        return "follows the graph input, not a Conv or Gemm"
    if producer.domain != "" or producer.op_type not in _FOLDERS:
        return f"follows {producer.name} ({producer.op_type}), not a Conv or Gemm"
    if sole_consumer(producer.outputs[0]) is not node:
        return f"the output of {producer.name} has other readers or is a graph output"
    weight = producer.inputs[1]
    if constant_array(weight) is None:
        kind = "a graph input" if weight is not None and weight.is_graph_input() else "computed"
        return f"the weight of {producer.name} is {kind}"
    if len(producer.inputs) > 2 and producer.inputs[2] is not None:
        bias = producer.inputs[2]
        if constant_array(bias) is None:
            return f"the bias of {producer.name} is not a constant"
    return None


def _fold(producer: ir.Node, affine: Affine) -> str | None:
    """Change the producer's weight and bias; the reason where that is not possible."""
    weight = constant_array(producer.inputs[1])
    assert weight is not None
    bias = constant_array(producer.inputs[2]) if len(producer.inputs) > 2 else None
    folded = _FOLDERS[producer.op_type](producer, np.asarray(weight, np.float64), bias, affine)
    if isinstance(folded, str):
        return folded
    with np.errstate(over="ignore"):
        new_weight, new_bias = (array.astype(weight.dtype) for array in folded)
    if not (np.isfinite(new_weight).all() and np.isfinite(new_bias).all()):
        return f"the folded weight of {producer.name} would not be finite"
    _store(producer, new_weight, new_bias)
    return None


def _store(producer: ir.Node, weight: Array, bias: Array) -> None:
    replace_constant_input(producer, 1, weight, f"{producer.name}.weight")
    if producer.op_type == "MatMul":
        # On two axes Gemm is MatMul with a bias.
        graph = producer.graph
        assert isinstance(graph, ir.Graph)
        inputs = [*producer.inputs, add_constant(graph, f"{producer.name}.bias", bias)]
        replace_node(producer, ir.node("Gemm", inputs, name=producer.name))
    else:
        replace_constant_input(producer, 2, bias, f"{producer.name}.bias")
        if producer.op_type == "Gemm":
            producer.attributes["beta"] = ir.AttrFloat32("beta", 1.0)


def _fold_conv(
    node: ir.Node, weight: Float64Array, bias: Array | None, affine: Affine
) -> tuple[Float64Array, Float64Array] | str:
    if weight.shape[0] != affine.factor.size:
        return f"{affine.factor.size} channels for a weight of shape {weight.shape}"
    old = 0.0 if bias is None else np.asarray(bias, np.float64)
    factor = affine.factor.reshape(-1, *[1] * (weight.ndim - 1))
    return weight * factor, old * affine.factor + affine.offset


def _fold_conv_transpose(
    node: ir.Node, weight: Float64Array, bias: Array | None, affine: Affine
) -> tuple[Float64Array, Float64Array] | str:
    group = node.attributes["group"].as_int() if "group" in node.attributes else 1
    channels_in, channels_per_group, *kernel = weight.shape
    if group * channels_per_group != affine.factor.size:
        return f"{affine.factor.size} channels for a weight of shape {weight.shape}, group {group}"
    old = 0.0 if bias is None else np.asarray(bias, np.float64)
    grouped = weight.reshape(group, channels_in // group, channels_per_group, *kernel)
    factor = affine.factor.reshape(group, 1, channels_per_group, *[1] * len(kernel))
    return (grouped * factor).reshape(weight.shape), old * affine.factor + affine.offset


def _fold_gemm(
    node: ir.Node, weight: Float64Array, bias: Array | None, affine: Affine
) -> tuple[Float64Array, Float64Array] | str:
    transposed = "transB" in node.attributes and node.attributes["transB"].as_int()
    axis = 0 if transposed else 1
    if weight.shape[axis] != affine.factor.size:
        return f"{affine.factor.size} channels for a weight of shape {weight.shape}"
    beta = node.attributes["beta"].as_float() if "beta" in node.attributes else 1.0
    old = np.zeros(affine.factor.size) if bias is None else beta * np.asarray(bias, np.float64)
    if old.ndim == 2 and old.shape[0] != 1:
        return f"the C of {node.name} is a matrix of shape {old.shape}, not one row"
    old = np.broadcast_to(old.reshape(-1), affine.factor.shape)
    factor = affine.factor[:, None] if transposed else affine.factor[None, :]
    return weight * factor, old * affine.factor + affine.offset


def _fold_matmul(
    node: ir.Node, weight: Float64Array, bias: Array | None, affine: Affine
) -> tuple[Float64Array, Float64Array] | str:
    source = node.inputs[0]
    if weight.ndim != 2 or source is None or source.shape is None or len(source.shape) != 2:
        return f"{node.name} multiplies more than two axes: its channels are not the BN's"
    if known_dimension(node.outputs[0], 1) not in (None, affine.factor.size):
        return f"{affine.factor.size} channels for a weight of shape {weight.shape}"
    return weight * affine.factor[None, :], affine.offset


_FOLDERS = {
    "Conv": _fold_conv,
    "ConvTranspose": _fold_conv_transpose,
    "Gemm": _fold_gemm,
    "MatMul": _fold_matmul,
}


def _note(node: ir.Node, applied: bool, message: str) -> PassNote:
    return PassNote("fold_batch_norm", node.name or "", node.op_type, applied, message)
