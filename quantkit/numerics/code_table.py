"""Functions of codes, tabulated: an entry per code, or 65,536 for the pairs of 8-bit codes.

A table is made once with whatever arithmetic defines the function; looking it up is an integer
gather, exact and without a float.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from quantkit.errors import UnsupportedOpError
from quantkit.numerics.affine import FloatArray, IntegerArray, QuantParams, dequantize, quantize

UnaryCodes = Callable[[IntegerArray], IntegerArray]
"""Codes of any shape -> codes of that shape."""

PairedCodes = Callable[[IntegerArray, IntegerArray], IntegerArray]
"""(codes, codes) -> codes of their broadcast shape."""


def every_code(params: QuantParams) -> IntegerArray:
    """All codes of a dtype of 8 or 16 bits, ascending.

    Raises:
        UnsupportedOpError: The codes are wider than 16 bits.
    """
    if params.dtype.itemsize > 2:
        raise UnsupportedOpError(
            f"codes of 8 or 16 bits expected, got {params.dtype}; quantize to those"
        )
    return np.arange(params.qmin, params.qmax + 1).astype(params.dtype)


def tabulate_unary(
    function: Callable[[FloatArray], FloatArray], x: QuantParams, y: QuantParams
) -> UnaryCodes:
    """``quantize(f32(function(dequantize(q))))`` of every code: what a DQ-op-Q triple computes.

    Where the function leaves the reals its code is what onnxruntime's QuantizeLinear makes of it:
    infinity saturates, and NaN (a logarithm or root of a negative number) becomes the smallest
    code.

    Args:
        function: Elementwise function of float32 values.
        x: Parameters of the input codes, per tensor, 8 or 16 bits.
        y: Parameters of the result, per tensor.
    """
    with np.errstate(all="ignore"):
        real = np.asarray(function(dequantize(every_code(x), x)), np.float32)
        table = quantize(np.where(np.isnan(real), -np.inf, real), y)
    return look_up(table, x)


def look_up(table: IntegerArray, x: QuantParams) -> UnaryCodes:
    """The function whose values at the ascending codes of ``x`` are ``table``."""
    # Indexed by the code's bits: the signed codes' negative half comes last.
    index = np.dtype(f"u{x.dtype.itemsize}")
    table = np.roll(table, x.qmin)
    return lambda q: np.asanyarray(table[q.view(index)])


def requantize_codes(x: QuantParams, y: QuantParams) -> UnaryCodes:
    """The same real values under other parameters; the identity where both are equal."""
    if x.equals(y):
        return lambda q: q
    return tabulate_unary(lambda value: value, x, y)


def tabulate_pairs(function: PairedCodes, a: QuantParams, b: QuantParams) -> PairedCodes:
    """``function``, looked up where all 256 × 256 pairs of codes fit a table.

    Args:
        function: From codes to codes, with broadcasting.
        a: Parameters of the first operand's codes.
        b: Parameters of the second operand's codes.

    Returns:
        A function with the same values; ``function`` itself where codes have 16 bits.
    """
    if a.dtype.itemsize > 1 or b.dtype.itemsize > 1:
        return function
    table = function(every_code(a)[:, None], every_code(b)[None, :])
    table = np.roll(table, (a.qmin, b.qmin), axis=(0, 1)).reshape(-1)

    def look_up_pair(a_q: IntegerArray, b_q: IntegerArray) -> IntegerArray:
        index: npt.NDArray[np.uint16] = a_q.view(np.uint8).astype(np.uint16)
        index <<= 8
        return np.asanyarray(table[index | b_q.view(np.uint8)])

    return look_up_pair
