"""LayerNormalization of codes, with integers only.

With ``c = q - z_x`` and n values per row, ``d = n * c - sum(c)`` and ``V = n * sum(c^2) -
sum(c)^2`` are exact integers, and the input's scale cancels but for epsilon:

    ``(x - mean) / sqrt(variance + epsilon) = d / sqrt(V + E)``,  ``E = epsilon * n^2 / s_x^2``.

The kernel computes, all in int64:

1. ``r = isqrt((V + E) * 4^k)``, E rounded to an integer, k the largest with ``(V + E) * 4^k <
   2^62``: a root of 30 or 31 bits.
2. ``t = floor((d * 2^(k + 19) + r // 2) / r)``: the normalized value in units of 2^-19.
3. ``y_q = saturate(z_y + floor((t * G + B + 2^(g + 18)) / 2^(g + 19)))`` with ``G =
   rint(2^g * gamma / s_y)``, ``B = rint(2^(g + 19) * beta / s_y)`` and the largest ``g <= 23`` for
   which ``|G| <= 2^30``.

E moves the root by at most ``1 / (4 V)`` of itself, r by 2^-29 and t by 2^-20, so before its one
rounding to a code y_q is exact to ``2^-19 * |gamma| / s_y + 2^-23 * |t|`` codes, where the row is
not constant. Sums fit for rows of ``n * (|c| bound) < 2^31``: 2^23 values of 8 bits, 2^15 of 16.

onnxruntime 1.32 normalizes dequantized values: at most 1 code away.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from quantkit.errors import UnsupportedOpError
from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import IntegerArray, QuantParams
from quantkit.ops.contract import OPS, Kernel, Lowering, Op, QuantRule, optional_input, real_input
from quantkit.ops.weights import require_factor

Int64Array = npt.NDArray[np.int64]

_SCALE, _BIAS = 1, 2
_ROOT_BITS = 62
_NORMALIZED_BITS = 19
_FACTOR_BITS = 30
_LARGEST_SHIFT = 23


class LayerNormalization(Op):
    """``(x - mean) / sqrt(variance + epsilon) * scale + bias`` (ONNX LayerNormalization)."""

    rule = QuantRule("own", data_inputs=(0,))

    def refusal(self, node: Node, constants: Sequence[Array | None]) -> str | None:
        """Why this node cannot have an integer kernel, or None."""
        if any(node.outputs[1:]):
            return "the mean or the deviation is asked for"
        for name, constant in zip(node.inputs[1:], constants[1:], strict=True):
            if name and constant is None:
                return f"its input {name!r} (the scale or bias) is computed, not a constant"
        return None

    def has_onnxruntime_kernel(self, node: Node) -> bool:
        """Never: onnxruntime normalizes dequantized values."""
        return False

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Float normalization; statistics in float32 (``stash_type`` 1)."""
        x = real_input(inputs, 0)
        axes = _axes(node, x.ndim)
        mean = x.mean(axis=axes, keepdims=True)
        variance = np.square(x - mean).mean(axis=axes, keepdims=True)
        y = (x - mean) / np.sqrt(variance + np.float32(node.number("epsilon", 1e-5)))
        y = y * real_input(inputs, _SCALE)
        bias = optional_input(inputs, _BIAS)
        return (y if bias is None else y + bias,)

    def lower(self, lowering: Lowering) -> Kernel:
        """Exact sums, an integer root and one division per value."""
        node, x, y = lowering.node, lowering.params(0), lowering.outputs[0]
        require_factor(node, x)
        scale = lowering.array(_SCALE)
        assert scale is not None
        factor, offset, shift = _affine(scale, lowering.array(_BIAS), y)
        relative_epsilon = Fraction(node.number("epsilon", 1e-5)) / Fraction(float(x.scale)) ** 2
        zero_point = int(x.zero_point)
        reach = max(x.qmax - zero_point, zero_point - x.qmin)

        def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
            axes = _axes(node, inputs[0].ndim)
            count = math.prod(inputs[0].shape[axis] for axis in axes)
            if count * reach >= 2**31:
                raise UnsupportedOpError(f"{node.name}: rows of {count} values do not fit int64")
            centered = inputs[0].astype(np.int64) - zero_point
            total = np.asarray(np.sum(centered, axis=axes, keepdims=True))
            squares = np.asarray(np.sum(centered * centered, axis=axes, keepdims=True))
            epsilon = max(1, min(round(relative_epsilon * count**2), 2**61))
            deviation, up = _scaled_root(count * squares - total * total, epsilon)
            normalized = ((count * centered - total) << (up + _NORMALIZED_BITS)) + (deviation >> 1)
            normalized //= deviation
            code = normalized * factor + offset
            code += 1 << (shift - 1)
            code >>= shift
            code += int(y.zero_point)
            return (np.clip(code, y.qmin, y.qmax).astype(y.dtype),)

        return kernel


def _axes(node: Node, ndim: int) -> tuple[int, ...]:
    return tuple(range(node.integer("axis", -1) % ndim, ndim))


def _affine(scale: Array, bias: Array | None, y: QuantParams) -> tuple[Int64Array, Int64Array, int]:
    """The factor G, the offset B and the right shift of step 3."""
    factor = scale.astype(np.float64) / float(y.scale)
    largest = float(np.abs(factor).max(initial=0))
    # Below -19 nothing would be left to shift; every code but that of 0 is saturated there.
    up = min(_LARGEST_SHIFT, _FACTOR_BITS - max(math.frexp(largest)[1], 0))
    up = max(up, 1 - _NORMALIZED_BITS)
    shift = up + _NORMALIZED_BITS
    limit = 2.0**_FACTOR_BITS
    whole = np.clip(np.rint(np.ldexp(factor, up)), -limit, limit).astype(np.int64)
    offset = np.zeros((), np.float64) if bias is None else bias.astype(np.float64) / float(y.scale)
    # |t * G| stays below 2^60.5 and a shift below 43: what is clipped here saturates in any case.
    offset = np.clip(np.rint(np.ldexp(offset, shift)), -(2.0**61), 2.0**61)
    return whole, offset.astype(np.int64), shift


def _scaled_root(variance: Int64Array, epsilon: int) -> tuple[Int64Array, Int64Array]:
    """``isqrt((variance + epsilon) * 4^k)`` and k, the largest that keeps it below 2^62."""
    radicand = np.minimum(variance, 2**62 - 1 - epsilon) + epsilon
    up = np.zeros_like(radicand)
    for step in (16, 8, 4, 2, 1):
        fits = (radicand >> (_ROOT_BITS - 2 * step)) == 0
        radicand = np.where(fits, radicand << (2 * step), radicand)
        up += step * fits
    return integer_square_root(radicand), up


def integer_square_root(value: Int64Array) -> Int64Array:
    """``floor(sqrt(value))`` of int64 in [0, 2^62), bit by bit."""
    root = np.zeros_like(value)
    for bit in range(_ROOT_BITS // 2 - 1, -1, -1):
        larger = root + (1 << bit)
        root = np.where(larger * larger <= value, larger, root)
    return root


OPS.register("LayerNormalization")(LayerNormalization())
