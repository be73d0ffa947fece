"""What the products (Conv, ConvTranspose, Gemm, MatMul) ask of their operands and outputs."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from quantkit.errors import ShapeMismatchError, UnsupportedOpError
from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import IntegerArray, QuantizedTensor, QuantParams
from quantkit.numerics.integer_gemm import INT32_SUMS, Carrier, ConstantOperand, sums_of
from quantkit.numerics.requantizer import EVERY_CHANNEL, Requantizer
from quantkit.ops.contract import Lowering

# Scales of 1 / s and s, each rounded to float32, do not quite multiply to 1.
_UNIT_TOLERANCE = 2.0**-22
_LARGEST_RANK = 3


def spatial_weight_refusal(node: Node, constants: Sequence[Array | None]) -> str | None:
    """Why a Conv or ConvTranspose with this weight cannot have an integer kernel, or None."""
    weight = constants[1]
    if weight is None:
        return "the weight is computed, not a constant"
    if not 1 <= weight.ndim - 2 <= _LARGEST_RANK:
        return f"{weight.ndim - 2} spatial dimensions are not supported (1 to 3 are)"
    if len(node.inputs) > 2 and node.inputs[2] and constants[2] is None:
        return "the bias is computed, not a constant"
    return None


def require_factor(node: Node, params: QuantParams) -> None:
    """Refuse activations that no product is proved for.

    Raises:
        UnsupportedOpError: The activation's codes are wider than 16 bits, or it is per channel.
    """
    if params.dtype.itemsize > 2 or params.is_per_channel:
        raise UnsupportedOpError(
            f"{node.name} ({node.op_type}): the integer kernel takes activations of 8 or 16 bits "
            f"quantized per tensor, got {params.dtype} with axis {params.axis}"
        )


def centered_weight(node: Node, weight: QuantizedTensor | None) -> npt.NDArray[np.int16]:
    """``weight_q - zero_point``, shaped like the codes; zero points of other tools' models go here.

    Raises:
        UnsupportedOpError: The weight has no codes, or they are wider than 8 bits.
    """
    if weight is None:
        raise UnsupportedOpError(f"{node.name} ({node.op_type}): the weight must be constant codes")
    if weight.data.dtype.itemsize != 1:
        raise UnsupportedOpError(
            f"{node.name} ({node.op_type}): weights have 8-bit codes, got {weight.data.dtype}; "
            "quantize them to int8"
        )
    _, zero_point = weight.params.aligned(weight.data.ndim)
    return weight.data.astype(np.int16) - zero_point.astype(np.int16)


def constant_bias(
    bias: QuantizedTensor | None, shape: tuple[int, ...], x: QuantParams
) -> IntegerArray | None:
    """The bias's codes, whose scale is ``s_x * s_w`` by definition, in a given shape.

    Args:
        bias: int32 codes, or also int64 codes where the input has 16 bits.
        shape: What the codes must fill; a single code fills anything.
        x: Parameters of the input.

    Raises:
        ShapeMismatchError: The codes are too wide, or do not fit the shape.
    """
    if bias is None:
        return None
    widest = sums_of(x).integer
    if bias.data.dtype not in (np.int32, widest):
        raise ShapeMismatchError(f"a bias has {widest} codes, got {bias.data.dtype}")
    if bias.data.size not in (1, int(np.prod(shape))):
        raise ShapeMismatchError(f"a bias of shape {bias.data.shape} does not fit {shape}")
    return np.broadcast_to(bias.data.reshape(-1), (int(np.prod(shape)),)).reshape(shape)


def constant_operand(lowering: Lowering, weight: IntegerArray) -> ConstantOperand:
    """The weight and bias (input 2) of a node, ready for products with the codes of input 0.

    Args:
        lowering: The node's.
        weight: Weights minus their zero points, (..., O, K).

    Raises:
        UnsupportedOpError: The input's codes have more than 16 bits, or it is per channel.
        ShapeMismatchError: The bias does not fit.
    """
    x = lowering.params(0)
    require_factor(lowering.node, x)
    return ConstantOperand.prepare(
        weight,
        constant_bias(lowering.codes(2), weight.shape[:-1], x),
        int(x.zero_point),
        max(abs(x.qmin), x.qmax),
        strict_integer=lowering.strict_integer,
        sums=sums_of(x),
    )


def sum_requantizer(lowering: Lowering, *, channel_axis: int, alpha: float = 1.0) -> Requantizer:
    """From the sums of products of inputs 0 and 1 to output 0.

    An int32 output means the sums themselves (ConvInteger, MatMulInteger): its scale is the product
    of the factors' scales, its zero point 0; the sums wrap as int32.

    Args:
        lowering: The node's.
        channel_axis: The accumulator's channel axis, counted from the front or the back.
        alpha: What the sums are multiplied by, > 0; joins the first factor's scale, in float32.

    Raises:
        UnsupportedOpError: The output's codes are wider than 16 bits and not the sums.
    """
    node, y = lowering.node, lowering.outputs[0]
    x, weight = _params(lowering.inputs[0]), _params(lowering.inputs[1])
    x = replace(x, scale=np.asarray(x.scale * np.float32(alpha)))
    if y.dtype.itemsize <= 2 and not y.is_per_channel:
        return lowering.arithmetic.accumulator_requantizer(
            x, weight, y, channel_axis=channel_axis, strict_integer=lowering.strict_integer
        )
    unit = np.max(np.abs(x.scale.astype(np.float64) * weight.scale / y.scale - 1.0))
    is_sums = y.dtype == INT32_SUMS.integer and sums_of(x, weight) == INT32_SUMS
    if not is_sums or y.zero_point.any() or unit > _UNIT_TOLERANCE:
        raise UnsupportedOpError(
            f"{node.name} ({node.op_type}): the output has 8 or 16 bits quantized per tensor, or "
            "is the int32 sums of 8-bit inputs, with the product of their scales and zero point 0; "
            f"got {y.dtype} with scale {y.scale} and zero point {y.zero_point}, of {x.dtype} times "
            f"{weight.dtype} with scales {x.scale} and {np.max(weight.scale)}"
        )
    return _copy_sums


def _params(operand: object) -> QuantParams:
    params = operand.params if isinstance(operand, QuantizedTensor) else operand
    assert isinstance(params, QuantParams)
    return params


def _copy_sums(accumulator: Carrier, out: IntegerArray, channels: slice = EVERY_CHANNEL) -> None:
    np.copyto(out, accumulator, casting="unsafe")
