"""Inputs, scales and zero points of QOperator nodes, checked."""

import numpy as np
import onnx_ir as ir

from quantkit.errors import ModelError, UnsupportedModelError
from quantkit.graph.program import Array
from quantkit.graph.surgery import add_constant, constant_array, known_dimension
from quantkit.quantized_model.code_movement import CodeParams, dequantized, graph_of
from quantkit.quantized_model.qoperator_forms import Triple

_CONV_WEIGHT = 3


def stated_params(node: ir.Node, triple: Triple) -> CodeParams:
    """Scale and zero point at these positions; without a zero point it is 0.

    Raises:
        ModelError: One of them is computed, or the scale is missing.
    """
    at, scale_at, zero_at = triple
    scale, zero_point = present_input(node, scale_at), optional_input(node, zero_at)
    for value, position in ((scale, scale_at), (zero_point, zero_at)):
        if value is not None and constant_array(value) is None:
            raise ModelError(
                f"node {node.name!r} ({node.op_type}): its input {position}, {value.name!r}, must "
                "be a constant: scales and zero points that are computed are not supported"
            )
    if zero_point is None:
        codes = optional_input(node, at)
        dtype = codes.dtype.numpy() if codes is not None and codes.dtype else np.dtype(np.uint8)
        zeros = np.zeros(array_of(scale).shape, dtype)
        zero_point = add_constant(graph_of(node), f"{node.name}_zero_point", zeros)
    return CodeParams(scale, zero_point)


def require_one_scale(node: ir.Node, what: str, params: CodeParams) -> None:
    """Activations have one scale.

    Args:
        node: The node that states it.
        what: Which activation it is, for the error.
        params: As stated.

    Raises:
        UnsupportedModelError: There are several; the node is named.
    """
    count = array_of(params.scale).size
    if count > 1:
        raise UnsupportedModelError(
            f"node {node.name!r} ({node.op_type}): {what} has {count} scales; activations have one"
        )
    _require_shapes(node, what, params, None)


def require_weight_shapes(node: ir.Node, position: int, params: CodeParams) -> None:
    """A scale per channel is a vector; that of a matrix product may be a row instead.

    Args:
        node: A product.
        position: Of the weight.
        params: As stated.

    Raises:
        ModelError: onnxruntime would refuse the shape; the node is named.
    """
    weight = present_input(node, position)
    columns = known_dimension(weight, -1) if "MatMul" in node.op_type else None
    _require_shapes(node, f"its weight {weight.name!r}", params, columns)


def _require_shapes(node: ir.Node, what: str, params: CodeParams, columns: int | None) -> None:
    for name, value in (("scale", params.scale), ("zero point", params.zero_point)):
        shape = array_of(value).shape if value is not None else ()
        if 0 in shape:
            raise ModelError(f"node {node.name!r} ({node.op_type}): the {name} of {what} is empty")
        is_row = columns is not None and shape == (1,) * (len(shape) - 1) + (columns,)
        if len(shape) > 1 and not is_row:
            raise ModelError(
                f"node {node.name!r} ({node.op_type}): the {name} of {what} has shape {shape}; a "
                "scalar or a vector is needed"
            )


def per_channel_alike(graph: ir.Graph, params: CodeParams) -> CodeParams:
    """A weight may have a scale per channel and one zero point for all, or the reverse.

    Both become vectors: a matrix product's may be rows.
    """
    assert params.zero_point is not None
    scale, zero_point = array_of(params.scale), array_of(params.zero_point)
    is_alike = scale.size == zero_point.size and max(scale.ndim, zero_point.ndim) < 2
    if is_alike or (scale.size != zero_point.size and 1 not in (scale.size, zero_point.size)):
        return params
    size = max(scale.size, zero_point.size)
    scales = np.broadcast_to(scale.reshape(-1), size)
    zeros = np.broadcast_to(zero_point.reshape(-1), size)
    return CodeParams(
        add_constant(graph, f"{params.scale.name}_per_channel", scales),
        add_constant(graph, f"{params.scale.name}_zero_point_per_channel", zeros),
    )


def dequantized_bias(
    node: ir.Node, position: int, params: list[CodeParams], alpha: float = 1.0
) -> ir.Value:
    """int32 codes at ``alpha * s_x * s_w``, in float32, as onnxruntime scales the accumulator.

    Raises:
        ModelError: The bias is computed, or does not fit the weight; the node is named.
    """
    graph, codes = graph_of(node), present_input(node, position)
    array = constant_array(codes)
    if array is None:
        raise ModelError(f"node {node.name!r}: its bias {codes.name!r} is computed, not a constant")
    weight = constant_array(present_input(node, _CONV_WEIGHT))
    if node.op_type == "QLinearConv" and weight is not None and array.shape != weight.shape[:1]:
        raise ModelError(
            f"node {node.name!r}: its bias has shape {array.shape} for {weight.shape[0]} output "
            "channels; export the model again"
        )
    x_scale, weight_scale = (array_of(one.scale) for one in params)
    with np.errstate(under="ignore", over="ignore"):
        scale = np.asarray(np.float32(alpha) * x_scale.reshape(()) * weight_scale, np.float32)
    if scale.size > 1 and array.size == 1:
        array = np.full(scale.size, array.reshape(()))
        codes = add_constant(graph, f"{codes.name}_per_channel", array)
    stated = CodeParams(
        add_constant(graph, f"{codes.name}_scale", scale),
        add_constant(graph, f"{codes.name}_zero_point", np.zeros(scale.shape, np.int32)),
    )
    return dequantized(node, position, codes, stated, array.ndim - 1 if scale.size > 1 else None)


def fold_alpha(node: ir.Node, params: list[CodeParams], alpha: float) -> tuple[CodeParams, float]:
    """QGemm's alpha as part of the weight's scale, where that gives the same multiplier.

    Returns:
        The weight's parameters, and the alpha that is left for the Gemm.
    """
    x_scale, weight_scale = (array_of(one.scale) for one in params)
    with np.errstate(under="ignore", over="ignore"):
        scaled = np.asarray(np.float32(alpha) * weight_scale, np.float32)
        # onnxruntime multiplies in this order (quant_gemm.cc).
        multiplier = np.float32(alpha) * x_scale.reshape(()) * weight_scale
        is_same = np.array_equal(x_scale.reshape(()) * scaled, multiplier)
    if alpha == 1.0 or not is_same:
        return params[1], alpha
    name = f"{params[1].scale.name}_alpha"
    return CodeParams(add_constant(graph_of(node), name, scaled), params[1].zero_point), 1.0


def present_input(node: ir.Node, position: int) -> ir.Value:
    """The input at ``position``.

    Raises:
        ModelError: It is missing; the node is named.
    """
    value = optional_input(node, position)
    if value is None:
        raise ModelError(f"node {node.name!r} ({node.op_type}): its input {position} is missing")
    return value


def optional_input(node: ir.Node, position: int | None) -> ir.Value | None:
    """The input at ``position``, or None where absent."""
    if position is None or position >= len(node.inputs):
        return None
    return node.inputs[position]


def array_of(value: ir.Value) -> Array:
    """The array of a value that is known to be a constant."""
    array = constant_array(value)
    assert array is not None
    return array
