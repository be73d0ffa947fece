"""What Conv, Gemm and MatMul ask of their operands."""

import numpy as np
import numpy.typing as npt

from quantkit.errors import ShapeMismatchError, UnsupportedOpError
from quantkit.graph.program import Node
from quantkit.numerics.affine import IntegerArray, QuantizedTensor, QuantParams


def require_8_bit_input(node: Node, params: QuantParams) -> None:
    """Refuse wide activations: int32 sums are only proved for 8-bit codes.

    Raises:
        UnsupportedOpError: The activation's codes are wider than 8 bits, or it is per channel.
    """
    if params.dtype.itemsize != 1 or params.is_per_channel:
        raise UnsupportedOpError(
            f"{node.name} ({node.op_type}): the integer kernel takes 8-bit activations quantized "
            f"per tensor, got {params.dtype} with axis {params.axis}"
        )


def centered_weight(weight: QuantizedTensor) -> npt.NDArray[np.int16]:
    """``weight_q - zero_point``, shaped like the codes; zero points of other tools' models go here.

    Raises:
        UnsupportedOpError: The weight's codes are wider than 8 bits.
    """
    if weight.data.dtype.itemsize != 1:
        raise UnsupportedOpError(f"weights have 8-bit codes, got {weight.data.dtype}")
    shape = [1] * weight.data.ndim
    if weight.params.axis is not None:
        shape[weight.params.axis] = -1
    zero_point = weight.params.zero_point.astype(np.int16).reshape(shape)
    return weight.data.astype(np.int16) - zero_point


def constant_bias(bias: QuantizedTensor | None, shape: tuple[int, ...]) -> IntegerArray | None:
    """The bias's int32 codes, whose scale is ``s_x * s_w`` by definition, in a given shape.

    Raises:
        ShapeMismatchError: The codes are not int32, or do not fit the shape.
    """
    if bias is None:
        return None
    if bias.data.dtype != np.int32:
        raise ShapeMismatchError(f"a bias has int32 codes, got {bias.data.dtype}")
    if bias.data.size not in (1, int(np.prod(shape))):
        raise ShapeMismatchError(f"a bias of shape {bias.data.shape} does not fit {shape}")
    return np.broadcast_to(bias.data.reshape(-1), (int(np.prod(shape)),)).reshape(shape)
