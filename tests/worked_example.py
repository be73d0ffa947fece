"""The worked example of ``docs/integers.md``: three codes of one small layer, step by step.

The scales are sums of few powers of two, so that no step before the rounding to a code rounds
anything and the numbers can be checked with pencil and paper. The codes are those of the kernels.
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from quantkit.numerics.affine import QuantizedTensor, per_tensor
from quantkit.numerics.fixed_point import (
    FixedPointMultiplier,
    multiply_by_quantized_multiplier,
    saturating_rounding_doubling_high_mul,
)
from quantkit.numerics.float32_requantize import float32_multiplier
from tests.ops.case import Case, make_node
from tests.ops.checks import onnxruntime_codes, run

X = per_tensor(3 / 64, 10, np.uint8)
WEIGHT = QuantizedTensor(np.array([[12], [-50], [7]], np.int8), per_tensor(1 / 64, 0, np.int8))
BIAS = QuantizedTensor(np.array([90], np.int32), per_tensor(3 / 64 / 64, 0, np.int32))
Y = per_tensor(1 / 32, 128, np.uint8)
REAL = float32_multiplier(X.scale, WEIGHT.params.scale, Y.scale)
MULTIPLIER = FixedPointMultiplier.from_real(REAL)
ROWS = np.array([[84, 9, 6], [40, 16, 16], [37, 16, 15]], np.uint8)
"""An ordinary value, an exact half, and a value just below a half."""

LAYER = Case("example", make_node("Gemm", 3, {}), (X, WEIGHT, BIAS), (Y,), (ROWS,), "QGemm")


def codes() -> dict[str, list[int]]:
    """By who computes them."""
    return {
        "onnxruntime itself": onnxruntime_codes(LAYER).reshape(-1).tolist(),
        **{
            arithmetic: run(LAYER, arithmetic, strict_integer=True).reshape(-1).tolist()
            for arithmetic in ("onnxruntime", "fixed_point")
        },
    }


def example_text() -> str:
    """The example as the page shows it."""
    weight, bias, z_y = WEIGHT.data.reshape(-1).tolist(), int(BIAS.data[0]), int(Y.zero_point)
    s_x, s_w, s_y = (float(params.scale) for params in (X, WEIGHT.params, Y))
    m, s = int(MULTIPLIER.mantissa), int(MULTIPLIER.shift)
    lines = [
        f"Gemm, K = 3, one output: weight = {weight}, s_w = {s_w} (1/64), bias = {bias}",
        f"s_x = {s_x} (3/64), z_x = {int(X.zero_point)}; s_y = {s_y} (1/32), z_y = {z_y}",
        f"M = s_x * s_w / s_y = {REAL} (3/128) = m * 2^(s - 31): m = {m} (3 * 2^29), s = {s}",
    ]
    found = codes()
    for row, *pair in zip(ROWS.tolist(), found["onnxruntime"], found["fixed_point"], strict=True):
        lines += ["", *_steps(row, *pair)]
    return "\n".join(lines)


def _steps(row: Sequence[int], in_float32: int, in_fixed_point: int) -> list[str]:
    weight, z_x = WEIGHT.data.reshape(-1).tolist(), int(X.zero_point)
    bias, z_y, right = int(BIAS.data[0]), int(Y.zero_point), -int(MULTIPLIER.shift)
    pairs = list(zip(weight, row, strict=True))
    terms = "".join(f" {'-' if w < 0 else '+'} {abs(w)}*({x} - {z_x})" for w, x in pairs)
    total = bias + sum(w * (x - z_x) for w, x in pairs)
    accumulator = np.array(total, np.int32)
    product = np.float32(total) * REAL
    high = saturating_rounding_doubling_high_mul(accumulator, MULTIPLIER.mantissa)
    scaled = multiply_by_quantized_multiplier(accumulator, MULTIPLIER.mantissa, MULTIPLIER.shift)
    shifted = f"({high} + {1 << (right - 1)}) >> {right} = {scaled};  + {z_y} = {in_fixed_point}"
    return [
        f"x_q = {row}: acc = {bias}{terms} = {total}",
        f"exact:        {total} * 3/128 = {float(Fraction(float(REAL)) * total)}",
        f"onnxruntime:  rint({product}) = {int(np.rint(product))};  + {z_y} = {in_float32}",
        f"fixed_point:  h = ({total}*m + 2^30) >> 31 = {high};  {shifted}",
    ]
