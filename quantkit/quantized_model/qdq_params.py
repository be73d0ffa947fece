"""Scale and zero point of the Q/DQ nodes of a file, checked."""

import numpy as np
import onnx_ir as ir

from quantkit.errors import ModelError, NonFiniteRangeError, ShapeMismatchError
from quantkit.graph.program import Array
from quantkit.graph.surgery import constant_array, known_dimension
from quantkit.numerics.affine import IntegerArray, QuantizedTensor, QuantParams, quantize

# onnxruntime's own versions of the two ops mean the same.
_DOMAINS = ("", "com.microsoft")


def is_quantize(node: ir.Node | None) -> bool:
    """Whether the node is a QuantizeLinear."""
    return node is not None and node.op_type == "QuantizeLinear" and node.domain in _DOMAINS


def is_dequantize(node: ir.Node) -> bool:
    """Whether the node is a DequantizeLinear."""
    return node.op_type == "DequantizeLinear" and node.domain in _DOMAINS


def pair_params(quantize_node: ir.Node, dequantize_node: ir.Node) -> QuantParams:
    """The parameters that both nodes of a pair have.

    Raises:
        ModelError: One of them is malformed, or they differ; the node is named.
    """
    params = read_params(quantize_node)
    if not read_params(dequantize_node, params.dtype).equals(params):
        raise ModelError(
            f"node {dequantize_node.name!r}: its scale and zero point are not those of the "
            f"QuantizeLinear before it, {quantize_node.name!r}"
        )
    return params


def read_params(node: ir.Node, dtype: np.dtype[np.integer] | None = None) -> QuantParams:
    """Scale and zero point of a Q or DQ node.

    Args:
        node: The node.
        dtype: Of the codes, where neither a zero point nor a constant tells; None: uint8.

    Raises:
        ModelError: They are missing, computed, or do not fit each other or the tensor.
    """
    scale = constant_array(node.inputs[1] if len(node.inputs) > 1 else None)
    if scale is None:
        raise ModelError(f"node {node.name!r}: its scale is missing or computed, not a constant")
    zero_value = node.inputs[2] if len(node.inputs) > 2 else None
    zero = constant_array(zero_value)
    if zero_value is not None and zero is None:
        raise ModelError(f"node {node.name!r}: its zero point is computed, not a constant")
    code_dtype = _code_dtype(node, zero) or dtype or np.dtype(np.uint8)
    axis = None if scale.size == 1 else _axis(node, scale.size)
    shape = (-1,) if axis is not None else ()
    if zero is not None and zero.size != scale.size:
        raise ModelError(f"node {node.name!r}: {zero.size} zero points for {scale.size} scales")
    zeros = np.zeros(scale.shape, np.int32) if zero is None else zero.astype(np.int32)
    try:
        return QuantParams(
            scale.astype(np.float32).reshape(shape), zeros.reshape(shape), code_dtype, axis
        )
    except (ShapeMismatchError, NonFiniteRangeError, ValueError) as error:
        raise ModelError(f"node {node.name!r}: {error}") from error


def constant_codes(node: ir.Node, codes: Array, params: QuantParams) -> QuantizedTensor:
    """The constant that a DequantizeLinear stands for.

    Raises:
        ModelError: Codes and parameters do not fit.
    """
    try:
        return QuantizedTensor(codes, params)
    except ShapeMismatchError as error:
        raise ModelError(f"node {node.name!r}: {error}") from error


def quantized_constant(node: ir.Node, real: Array, params: QuantParams) -> QuantizedTensor:
    """The constant that a DequantizeLinear of a QuantizeLinear of a constant stands for.

    Raises:
        ModelError: Constant and parameters do not fit, or the constant holds NaN.
    """
    try:
        codes: IntegerArray = quantize(np.asarray(real, np.float32), params)
    except (ValueError, IndexError, NonFiniteRangeError) as error:
        raise ModelError(f"node {node.name!r}: {error}") from error
    return constant_codes(node, codes, params)


def _code_dtype(node: ir.Node, zero: Array | None) -> np.dtype[np.integer] | None:
    codes = constant_array(node.inputs[0]) if is_dequantize(node) else None
    if zero is not None:
        if codes is not None and codes.dtype != zero.dtype:
            raise ModelError(
                f"node {node.name!r}: codes are {codes.dtype}, the zero point is {zero.dtype}"
            )
        return zero.dtype
    if codes is not None:
        return codes.dtype
    if "output_dtype" in node.attributes and node.attributes["output_dtype"].as_int():
        return ir.DataType(node.attributes["output_dtype"].as_int()).numpy()
    return None


def _axis(node: ir.Node, scales: int) -> int:
    """The channel axis, counted from the front where the rank is known, with as many channels."""
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
    source = node.inputs[0]
    rank = len(source.shape) if source is not None and source.shape is not None else None
    if rank is None:
        return axis
    if not -rank <= axis < rank:
        raise ModelError(f"node {node.name!r}: axis {axis} of a tensor with {rank} axes")
    axis %= rank
    channels = known_dimension(source, axis)
    if channels not in (None, scales):
        raise ModelError(
            f"node {node.name!r}: {scales} scales for {channels} channels along axis {axis}"
        )
    return axis
