"""onnxruntime's elementwise kernels on x86: QLinearAdd, QLinearMul, QLinearSigmoid.

``f32`` marks a rounding to float32, ``fma(a, b, c) = f32(a * b + c)`` rounds once. Each formula was
found by comparing all 256 × 256 pairs of codes (of Sigmoid: all codes) with onnxruntime, at
rational, random and extreme scales (10^-8 to 10^4, where it refuses nothing). Sources:
``core/mlas/lib/`` (``intrinsics/avx2/qladd_avx2``, ``qlmul``, ``logistic``).

All other pairs (codes of 16 bits or of two dtypes, Sub, Div, PRelu) onnxruntime computes in floats
between DequantizeLinear and QuantizeLinear; :mod:`~quantkit.numerics.float32_in_integers` states
that, bit for bit.
"""

from collections.abc import Callable
from itertools import zip_longest

import numpy as np
import numpy.typing as npt

from quantkit.numerics.affine import FloatArray, IntegerArray, QuantParams
from quantkit.numerics.code_table import PairedCodes, UnaryCodes, tabulate_pairs, tabulate_unary
from quantkit.numerics.float32_in_integers import (
    Float32Integers,
    dequantizer_in_integers,
    quantizer_in_integers,
)

Float32Array = npt.NDArray[np.float32]

# Numerator and denominator of MLAS's rational approximation, highest power of x^2 first.
_LOGISTIC_ALPHA = (
    4.37031012579801e-11,
    1.15627324459942e-07,
    6.08574864600143e-05,
    8.51377133304701e-03,
    2.48287947061529e-01,
)
_LOGISTIC_BETA = (
    6.10247389755681e-13,
    5.76102136993427e-09,
    6.29106785017040e-06,
    1.70198817374094e-03,
    1.16817656904453e-01,
    9.93151921023180e-01,
)
_LOGISTIC_REACH = np.float32(18.0)


def has_integer_kernel(*params: QuantParams) -> bool:
    """Whether onnxruntime takes these codes into its integer kernels: one dtype of 8 bits."""
    dtypes = {each.dtype for each in params}
    return len(dtypes) == 1 and dtypes.pop().itemsize == 1


def qlinear_add(a: QuantParams, b: QuantParams, y: QuantParams) -> PairedCodes:
    """``saturate(rint(fma(a, r_a, fma(b, r_b, z_y - fma(r_a, z_a, f32(r_b * z_b))))))``.

    ``r = f32(s / s_y)``; the subtraction rounds to float32. The sum is not symmetric: where ``a``
    has size 1 along the innermost axis, onnxruntime swaps the operands. What reaches 2^31 becomes
    the smallest code, see :func:`saturate_as_x86`. The roundings to 24 bits show where an input's
    scale is far above the output's: at 2^15, 2^17, 2^19, 2^21 and 2^23 times ``s_y`` a code is up
    to 1, 3, 16, 52 and 120 from the exact sum.
    """
    a_then_b, b_then_a = _tabulate_addition(a, b, y), _tabulate_addition(b, a, y)

    def add(a_q: IntegerArray, b_q: IntegerArray) -> IntegerArray:
        if _is_fixed_along_rows(a_q.shape, b_q.shape):
            return b_then_a(b_q, a_q)
        return a_then_b(a_q, b_q)

    return add


def qlinear_mul(a: QuantParams, b: QuantParams, y: QuantParams) -> PairedCodes:
    """``saturate(rint(f32(f32((a - z_a) * (b - z_b) * M) + z_y)))``.

    ``M = f32(f32(s_a * s_b) / s_y)``. The integer product is exact; the scaled product and the sum
    each round to float32. What reaches 2^31 becomes the smallest code, see :func:`saturate_as_x86`.
    """
    with np.errstate(all="ignore"):
        multiplier = np.float32(np.float32(a.scale * b.scale) / y.scale)

    def multiply(a_q: IntegerArray, b_q: IntegerArray) -> IntegerArray:
        product = (a_q.astype(np.int32) - a.zero_point) * (b_q.astype(np.int32) - b.zero_point)
        with np.errstate(all="ignore"):
            real = product.astype(np.float32) * multiplier + np.float32(y.zero_point)
        return saturate_as_x86(real, y)

    return tabulate_pairs(multiply, a, b)


def qlinear_sigmoid(x: QuantParams, y: QuantParams) -> UnaryCodes:
    """``quantize(clamp(f32(f32(p / q) + 1/2), 0, 1))``, MLAS's rational approximation.

    ``p = f32(v * alpha(v^2))``, ``q = beta(v^2)`` with ``v = clamp(dequantize(x), -18, 18)``: two
    polynomials in ``f32(v * v)`` by Horner's rule, an ``fma`` per step. The float op is the same
    function, so codes of 16 bits agree as well. Of 2 * 10^6 codes, at 8,000 scales, 0 differ from
    onnxruntime's; of the exact sigmoid's, correctly rounded, 12 do.
    """
    return tabulate_unary(logistic, x, y)


def logistic(x: FloatArray) -> Float32Array:
    """The float32 function that :func:`qlinear_sigmoid` tabulates."""
    value = np.clip(np.asarray(x, np.float32), -_LOGISTIC_REACH, _LOGISTIC_REACH)
    square = value * value
    numerator = _polynomial(square, _LOGISTIC_ALPHA) * value
    quotient = numerator / _polynomial(square, _LOGISTIC_BETA)
    return np.asarray(np.clip(quotient + np.float32(0.5), 0.0, 1.0), np.float32)


def pairwise_in_float32(
    function: Callable[[Float32Integers, Float32Integers], Float32Integers],
    a: QuantParams,
    b: QuantParams,
    y: QuantParams,
) -> PairedCodes:
    """``quantize(function(dequantize(a), dequantize(b)))``, each step rounded to float32."""
    a_real, b_real = dequantizer_in_integers(a), dequantizer_in_integers(b)
    quantize = quantizer_in_integers(y)

    def compute(a_q: IntegerArray, b_q: IntegerArray) -> IntegerArray:
        return quantize(function(a_real(a_q), b_real(b_q)))

    return tabulate_pairs(compute, a, b)


def saturate_as_x86(real: Float32Array, y: QuantParams) -> IntegerArray:
    """``saturate(rint(real))``, but the smallest code for NaN and from 2^31 on.

    The instruction that converts to int32 (``cvtps2dq``) gives -2^31 for what int32 does not hold.
    Only scales that differ by a factor of 10^4 (Mul) or 2^22 (Add, AveragePool) and more get there.
    All other kernels clamp before they convert: equal at every scale tried, from 10^-25 to 10^30.
    """
    rounded = np.rint(real)
    is_int32 = rounded < np.float32(2.0**31)
    code = np.where(is_int32, np.clip(rounded, y.qmin, y.qmax), y.qmin)
    return code.astype(y.dtype)


def fused_multiply_add(a: Float32Array, b: Float32Array, c: Float32Array) -> Float32Array:
    """``f32(a * b + c)`` rounded once.

    A float64 holds the product of two float32 exactly. Their sum is rounded to odd (inexact
    results get an odd last bit), which keeps the second rounding from seeing a false tie.
    """
    product, addend = np.float64(a) * np.float64(b), np.float64(c)
    total = np.asarray(product + addend)
    # Knuth's TwoSum: total + error is the exact sum.
    virtual = total - product
    error = (product - (total - virtual)) + (addend - virtual)
    is_even = (total.view(np.int64) & 1) == 0
    towards = np.where(error > 0, np.inf, -np.inf)
    odd = np.where((error != 0) & is_even, np.nextafter(total, towards), total)
    return odd.astype(np.float32)


def _tabulate_addition(a: QuantParams, b: QuantParams, y: QuantParams) -> PairedCodes:
    def add(a_q: IntegerArray, b_q: IntegerArray) -> IntegerArray:
        with np.errstate(all="ignore"):
            ratio_a, ratio_b = a.scale / y.scale, b.scale / y.scale
            zero_a, zero_b = a.zero_point.astype(np.float32), b.zero_point.astype(np.float32)
            offset = np.float32(y.zero_point) - fused_multiply_add(
                ratio_a, zero_a, ratio_b * zero_b
            )
            inner = fused_multiply_add(b_q.astype(np.float32), ratio_b, offset)
            return saturate_as_x86(fused_multiply_add(a_q.astype(np.float32), ratio_a, inner), y)

    return tabulate_pairs(add, a, b)


def _is_fixed_along_rows(a_shape: tuple[int, ...], b_shape: tuple[int, ...]) -> bool:
    """Whether ``a`` has size 1 along the axis where onnxruntime begins to broadcast.

    Of the axes that both have it is the last one where not both have size 1; else the first of
    them, or beside a tensor of no axes the other's last one.
    """
    shared = max(min(len(a_shape), len(b_shape)), 1)
    pairs = list(zip_longest(reversed(a_shape), reversed(b_shape), fillvalue=1))[:shared]
    return next((a_size == 1 for a_size, b_size in pairs if max(a_size, b_size) > 1), True)


def _polynomial(square: Float32Array, coefficients: tuple[float, ...]) -> Float32Array:
    total = np.full(square.shape, coefficients[0], np.float32)
    for coefficient in coefficients[1:]:
        total = fused_multiply_add(total, square, np.asarray(coefficient, np.float32))
    return total
