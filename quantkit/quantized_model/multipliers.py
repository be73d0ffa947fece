"""The real multipliers of requantization, in both arithmetics' form.

``M = s_x * s_w / s_y`` takes the accumulator of a convolution or matrix product to the output's
codes: a float32 in onnxruntime's arithmetic, an int32 mantissa and a shift in the fixed-point one.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantkit.graph.program import Node
from quantkit.numerics.affine import QuantParams
from quantkit.numerics.fixed_point import FixedPointMultiplier
from quantkit.numerics.float32_requantize import float32_multiplier
from quantkit.quantized_model.model import QuantizedModel, weight_and_bias


@dataclass(frozen=True, slots=True, eq=False)
class Multipliers:
    """One multiplier per output channel, or one for all.

    Attributes:
        float32: ``f32(f32(s_x * s_w) / s_y)``, ``()`` or ``(C,)``.
        fixed_point: Of the float64 quotient, shaped alike.
    """

    float32: npt.NDArray[np.float32]
    fixed_point: FixedPointMultiplier


def accumulator_multipliers(node: Node, model: QuantizedModel) -> Multipliers | None:
    """The multipliers of an integer node; None where it requantizes no products.

    Gemm's ``alpha`` joins the input's scale, in float32. A node whose output is int32 hands its
    accumulators on as they are.
    """
    weight_name, _ = weight_and_bias(node)
    if not weight_name:
        return None
    y = model.plan.params[node.outputs[0]]
    if y.dtype == np.int32:
        return None
    x_scale = operand_params(node.inputs[0], model).scale
    if node.op_type == "Gemm":
        x_scale = np.asarray(x_scale * np.float32(node.number("alpha", 1.0)))
    w_scale = operand_params(weight_name, model).scale
    product = x_scale.astype(np.float64) * w_scale.astype(np.float64)
    return Multipliers(
        np.asarray(float32_multiplier(x_scale, w_scale, y.scale)),
        FixedPointMultiplier.from_real(product / y.scale.astype(np.float64)),
    )


def operand_params(name: str, model: QuantizedModel) -> QuantParams:
    """Parameters of a value, or of a constant that has codes."""
    tensor = model.constants.get(name)
    return model.plan.params[name] if tensor is None else tensor.params
