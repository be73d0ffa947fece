"""Scale and zero point of the Q/DQ nodes of a file, checked."""

import numpy as np
import onnx_ir as ir

from quantkit.errors import ModelError, NonFiniteRangeError, ShapeMismatchError
from quantkit.graph.program import Array
from quantkit.graph.surgery import constant_array, known_dimension
from quantkit.numerics.affine import IntegerArray, QuantizedTensor, QuantParams, quantize

# onnxruntime's own versions of the two ops mean the same.
_DOMAINS = ("", "com.microsoft")
_FLOAT = ir.DataType.FLOAT
_HALF_FLOATS = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_CODES = frozenset(
    {
        ir.DataType.INT8,
        ir.DataType.UINT8,
        ir.DataType.INT16,
        ir.DataType.UINT16,
        ir.DataType.INT32,
    }
)
# Well-formed codes that no integer kernel takes.
_OTHER_CODES = frozenset(
    kind for kind in ir.DataType if kind.name.startswith(("FLOAT8", "FLOAT4", "INT4", "UINT4"))
) | frozenset(kind for kind in ir.DataType if kind.name in ("INT2", "UINT2"))


def is_quantize(node: ir.Node | None) -> bool:
    """Whether the node is a QuantizeLinear."""
    return node is not None and node.op_type == "QuantizeLinear" and node.domain in _DOMAINS


def is_dequantize(node: ir.Node | None) -> bool:
    """Whether the node is a DequantizeLinear."""
    return node is not None and node.op_type == "DequantizeLinear" and node.domain in _DOMAINS


def check_node(node: ir.Node) -> None:
    """Refuse a Q or DQ node of a file that is malformed.

    Raises:
        ModelError: It is malformed, or its scale or zero point is computed; it is named.
    """
    if is_quantize(node) and _declared_codes(node) == ir.DataType.INT32:
        raise ModelError(f"node {node.name!r}: QuantizeLinear has no int32 codes")
    if obstacle(node) is None:
        read_params(node)


def obstacle(node: ir.Node) -> str | None:
    """What keeps a well-formed Q or DQ node from being :class:`QuantParams`, or None.

    Raises:
        ModelError: The node is malformed.
    """
    _check_types(node)
    if _integer(node, "block_size"):
        return f"blocks of {_integer(node, 'block_size')} values"
    codes = _declared_codes(node)
    if codes in _OTHER_CODES:
        return f"{codes.name.lower()} codes"
    real = _declared_real(node)
    return f"{real.name.lower()} values" if real in _HALF_FLOATS else None


def pair_params(quantize_node: ir.Node, dequantize_node: ir.Node) -> QuantParams:
    """The parameters that both nodes of a pair have.

    Raises:
        ModelError: One of them is malformed, or they differ; the node is named.
    """
    params = read_params(quantize_node)
    other = read_params(dequantize_node, params.dtype)
    codes = quantize_node.outputs[0].name
    if other.dtype != params.dtype:
        raise ModelError(
            f"node {dequantize_node.name!r}: its zero point is {other.dtype}, the codes {codes!r} "
            f"are {params.dtype}"
        )
    if not other.equals(params):
        raise ModelError(
            f"node {dequantize_node.name!r}: its scale and zero point are not those with which "
            f"{codes!r} was quantized"
        )
    return params


def read_params(node: ir.Node, dtype: np.dtype[np.integer] | None = None) -> QuantParams:
    """Scale and zero point of a Q or DQ node.

    Args:
        node: The node, without an :func:`obstacle`.
        dtype: Of the codes, where the node does not tell; None: uint8.

    Raises:
        ModelError: They are missing, computed, or do not fit each other or the tensor.
    """
    scale, zero = _constant(node, 1, "scale"), _constant(node, 2, "zero point")
    assert scale is not None
    declared = _declared_codes(node)
    code_dtype = dtype or np.dtype(np.uint8)
    if declared is not None:
        code_dtype = declared.numpy()
    if not scale.size:
        raise ModelError(f"node {node.name!r}: its scale is empty")
    axis = None if scale.size == 1 else _axis(node, scale.size)
    shape = (-1,) if axis is not None else ()
    if scale.ndim > 1 or (zero is not None and zero.ndim > 1):
        stated = [array.shape for array in (scale, zero) if array is not None]
        raise ModelError(
            f"node {node.name!r}: its scale (and zero point) must be a scalar or a vector, got "
            f"shape {' and '.join(map(str, stated))}"
        )
    if zero is not None and zero.size != scale.size:
        raise ModelError(f"node {node.name!r}: {zero.size} zero points for {scale.size} scales")
    unusable = scale[~(np.isfinite(scale) & (scale > 0))]
    if unusable.size:
        tensor = node.inputs[0].name if node.inputs[0] is not None else None
        raise ModelError(
            f"node {node.name!r}: scale of {tensor!r} is {float(unusable[0])}; a scale must be "
            "finite and greater than 0"
        )
    zeros = np.zeros(scale.shape, np.int32) if zero is None else zero.astype(np.int32)
    try:
        return QuantParams(scale.reshape(shape), zeros.reshape(shape), code_dtype, axis)
    except (ShapeMismatchError, NonFiniteRangeError, ValueError) as error:
        raise ModelError(f"node {node.name!r}: {error}") from error


def constant_codes(node: ir.Node, codes: Array, params: QuantParams) -> QuantizedTensor:
    """The constant that a DequantizeLinear stands for.

    Raises:
        ModelError: Codes and parameters do not fit, or there are no codes.
    """
    if not codes.size:
        raise ModelError(f"node {node.name!r}: its constant of shape {codes.shape} is empty")
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


def real_constant(node: ir.Node, codes: Array) -> Array:
    """What a DequantizeLinear with an :func:`obstacle` makes of constant codes.

    ``(q - zero_point) * scale``, where scale and zero point of a block hold for ``block_size``
    consecutive codes along the axis (ONNX DequantizeLinear-21).

    Returns:
        Real values in the type of the scale.

    Raises:
        ModelError: Codes, scale and zero point do not fit each other.
    """
    scale, zero = _constant(node, 1, "scale"), _constant(node, 2, "zero point")
    assert scale is not None
    block = _integer(node, "block_size")
    axis = _axis(node, None) if block or scale.size > 1 else 0
    expected = list(codes.shape)
    if block:
        expected[axis] = -(-expected[axis] // block)
    if block and scale.shape != tuple(expected):
        raise ModelError(
            f"node {node.name!r}: blocks of {block} need scales of shape {tuple(expected)}, got "
            f"{scale.shape}"
        )

    def spread(parameter: Array) -> Array:
        wide = parameter.astype(np.float32)
        if block:
            return np.take(np.repeat(wide, block, axis), range(codes.shape[axis]), axis)
        shape = [1] * codes.ndim
        if wide.size > 1:
            shape[axis] = -1
        return wide.reshape(shape)

    try:
        centred = codes.astype(np.float32) - (0 if zero is None else spread(zero))
        real = (centred * spread(scale)).astype(scale.dtype)
    except (ValueError, IndexError) as error:
        raise ModelError(f"node {node.name!r}: {error}") from error
    if real.shape != codes.shape:
        raise ModelError(
            f"node {node.name!r}: scales of shape {scale.shape} for codes of shape {codes.shape}"
        )
    return real


def _constant(node: ir.Node, position: int, what: str) -> Array | None:
    """The scale or zero point; None for a zero point that is not there."""
    value = node.inputs[position] if position < len(node.inputs) else None
    array = constant_array(value)
    if array is not None or (value is None and position > 1):
        return array
    if value is None:
        raise ModelError(f"node {node.name!r}: its {what} is missing")
    kind = "a graph input" if value.is_graph_input() else "computed"
    raise ModelError(f"node {node.name!r}: its {what} is {kind}, not a constant")


def _check_types(node: ir.Node) -> None:
    source = node.inputs[0] if node.inputs else None
    if source is None:
        raise ModelError(f"node {node.name!r}: {node.op_type} without input")
    scale, zero = _constant(node, 1, "scale"), _constant(node, 2, "zero point")
    assert scale is not None
    if _declared_real(node) not in (_FLOAT, *_HALF_FLOATS):
        raise ModelError(f"node {node.name!r}: its scale is {scale.dtype}, not float32")
    known = source.dtype
    if is_quantize(node) and known not in (None, _FLOAT, *_HALF_FLOATS):
        raise ModelError(
            f"node {node.name!r}: QuantizeLinear of {known.name.lower()} values, not of floats"
        )
    if is_dequantize(node) and known is not None and known not in _CODES | _OTHER_CODES:
        raise ModelError(
            f"node {node.name!r}: DequantizeLinear of {known.name.lower()} values, not of codes"
        )
    codes = _declared_codes(node)
    if codes is not None and codes not in _CODES | _OTHER_CODES:
        raise ModelError(f"node {node.name!r}: its zero point is {codes.name.lower()}")
    if zero is not None and is_dequantize(node) and known is not None and known != codes:
        raise ModelError(
            f"node {node.name!r}: codes are {known.name.lower()}, the zero point is "
            f"{ir.DataType.from_numpy(zero.dtype).name.lower()}"
        )


def _declared_codes(node: ir.Node) -> ir.DataType | None:
    """The type of the codes: the zero point's, ``output_dtype``, or that of what is read."""
    zero = _constant(node, 2, "zero point")
    if zero is not None:
        return ir.DataType.from_numpy(zero.dtype)
    if is_quantize(node):
        declared = _integer(node, "output_dtype")
        return ir.DataType(declared) if declared else None
    source = node.inputs[0]
    return source.dtype if source is not None else None


def _declared_real(node: ir.Node) -> ir.DataType:
    """The type of the real values: that of the scale, or a DequantizeLinear's ``output_dtype``."""
    scale = _constant(node, 1, "scale")
    assert scale is not None
    declared = _integer(node, "output_dtype") if is_dequantize(node) else 0
    return ir.DataType(declared) if declared else ir.DataType.from_numpy(scale.dtype)


def _integer(node: ir.Node, name: str) -> int:
    return node.attributes[name].as_int() if name in node.attributes else 0


def _axis(node: ir.Node, scales: int | None) -> int:
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
    if scales is not None and channels not in (None, scales):
        raise ModelError(
            f"node {node.name!r}: {scales} scales for {channels} channels along axis {axis}"
        )
    return axis
