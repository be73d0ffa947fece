"""What a layer's codes are before rounding, and which of them lie exactly on a half.

On a half two right arithmetics may differ by one code: onnxruntime rounds halves to even,
fixed-point arithmetic away from zero, and an arithmetic that rounds on the way may fall on either
side. Whoever compares codes of its own needs to know which differences are of that kind.

The op's float form is evaluated in float64, in codes: ``v = y / s_y + z_y``.

- A product (Conv, Gemm, MatMul, Mul ...) gets ``q_x - z_x`` as its input, ``s_w * (q_w - z_w)`` as
  its weight and ``s_w * q_b`` as its bias. Each is exact, and so are the sums ``A`` as long as the
  accumulator stays below ``2**29``: all terms are multiples of a 24-bit scale. ``v`` is on a half
  ``h`` where ``A * s_x`` equals ``h * s_y``; both products are compared without rounding, as pairs
  of float64 (Dekker's product).
- Any other op gets ``s_x * (q_x - z_x)``. A sum or an average of such values, divided by ``s_y``,
  that is not on a half is at least ``2**-26`` times the ratio of the smallest to the largest scale
  away from it, the float64 evaluation is off by less than ``2**-42``: within ``2**-36`` of a half
  it is on it, for scales no more than ``2**10`` apart. The values of functions (Sigmoid, Tanh ...)
  are irrational but for a few; the same rule serves them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantkit.errors import ModelError
from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import IntegerArray, QuantParams
from quantkit.ops.contract import OPS
from quantkit.quantized_model.model import QuantizedModel

Float64Array = npt.NDArray[np.float64]

NEAR_HALF = 2.0**-12
"""Within this of a half, in codes, a value is a near tie: float32 roundings may move it across."""
NEAR_HALF_OF_16_BITS = 2.0**-6
"""The same for 16-bit codes: a float32 of up to 2^16 codes is rounded to 2^-8 of one."""
_ON_HALF = 2.0**-36
_SPLITTER = 2.0**27 + 1.0


@dataclass(frozen=True, slots=True, eq=False)
class ExactCodes:
    """One output of a layer, exactly.

    Attributes:
        codes: The exact value rounded once (halves to even, before the zero point is added, as
            QuantizeLinear does) and saturated.
        is_tie: Where it lies exactly on a half between two codes.
        is_near_tie: Where it lies within ``NEAR_HALF`` (``NEAR_HALF_OF_16_BITS``) of such a half;
            ties are among them.
    """

    codes: IntegerArray
    is_tie: npt.NDArray[np.bool_]
    is_near_tie: npt.NDArray[np.bool_]


def exact_codes(
    node: Node, model: QuantizedModel, values: Mapping[str, Array]
) -> dict[str, ExactCodes]:
    """Evaluate an integer node.

    Args:
        node: An integer node of ``model``.
        model: The quantized model.
        values: Codes of what the node reads, by name.

    Returns:
        By output, those that hold codes.

    Raises:
        UnsupportedOpError: The op has no float form for the node's attributes.
    """
    is_product = OPS[node.op_type].rule.weight is not None or node.op_type == "Mul"
    inputs = [
        _operand(position, node, model, values, is_product=is_product)
        for position in range(len(node.inputs))
    ]
    with np.errstate(all="ignore"):  # a division by zero has no exact value, and no code to judge
        results = OPS[node.op_type].float_form(node, inputs)
    if len(results) != len(node.outputs):
        raise ModelError(f"node {node.name!r}: {len(results)} of {len(node.outputs)} outputs")
    params = model.plan.params
    x_scale = float(params[node.inputs[0]].scale) if is_product else 1.0
    return {
        name: _exact(np.asarray(result, np.float64), x_scale, params[name], is_product=is_product)
        for name, result in zip(node.outputs, results, strict=True)
        if name in params
    }


def _operand(
    position: int,
    node: Node,
    model: QuantizedModel,
    values: Mapping[str, Array],
    *,
    is_product: bool,
) -> Array | None:
    name = node.inputs[position]
    if not name:
        return None
    constant = model.constants.get(name)
    if constant is None and name not in values:
        return model.prepared.program.constants[name]
    params = model.plan.params[name] if constant is None else constant.params
    codes = values[name] if constant is None else constant.data
    rule = OPS[node.op_type].rule
    if position == rule.bias:
        assert rule.weight is not None
        # The kernel adds the bias codes to its sums, whatever the file says of their scale.
        weight = node.inputs[rule.weight]
        scale = (model.constants[weight].params if weight in model.constants else params).scale
        return codes.astype(np.float64) * scale.astype(np.float64)
    scale, zero_point = params.aligned(codes.ndim)
    real = codes.astype(np.float64) - zero_point
    if not (is_product and position == 0):
        real *= scale.astype(np.float64)
    return real


def _exact(y: Float64Array, x_scale: float, params: QuantParams, *, is_product: bool) -> ExactCodes:
    y_scale, zero_point = float(params.scale), float(params.zero_point)
    scaled = np.asarray(y * x_scale)
    scaled /= y_scale
    below = np.asarray(np.floor(scaled))
    with np.errstate(invalid="ignore"):
        distance = np.asarray(scaled - below)
    distance -= 0.5
    np.abs(distance, out=distance)
    below += zero_point
    # Saturated on both sides of the half: no code depends on it.
    is_between = (below >= params.qmin) & (below < params.qmax)
    near_half = NEAR_HALF if params.dtype.itemsize == 1 else NEAR_HALF_OF_16_BITS
    is_near = (distance <= near_half) & is_between
    is_tie = np.zeros_like(is_near)
    if is_product:
        half = np.rint(2.0 * scaled[is_near]) / 2.0
        left, right = _product(y[is_near], x_scale), _product(half, y_scale)
        is_on_half = (left[0] == right[0]) & (left[1] == right[1])
        is_tie[is_near] = is_on_half & (half != np.rint(half))
    else:
        is_tie = (distance <= _ON_HALF) & is_between
    np.rint(scaled, out=scaled)
    scaled += zero_point
    np.clip(scaled, params.qmin, params.qmax, out=scaled)
    with np.errstate(invalid="ignore"):
        return ExactCodes(scaled.astype(params.dtype), is_tie, is_near)


def _product(a: Float64Array, b: float) -> tuple[Float64Array, Float64Array]:
    """``a * b`` as a float64 and its rounding error: Dekker 1971. Equal products, equal pairs."""
    product = a * b
    a_high = _SPLITTER * a
    a_high = a_high - (a_high - a)
    b_high = _SPLITTER * b
    b_high = b_high - (b_high - b)
    a_low, b_low = a - a_high, b - b_high
    error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, error
