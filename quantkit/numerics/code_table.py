"""Functions of 8-bit codes, tabulated: 256 entries for one code, 65,536 for a pair.

A table is made once with whatever arithmetic defines the function; looking it up is an integer
gather, exact and without a float.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from quantkit.errors import UnsupportedOpError
from quantkit.numerics.affine import FloatArray, IntegerArray, QuantParams, dequantize, quantize


def every_code(params: QuantParams) -> IntegerArray:
    """All 256 codes of an 8-bit dtype, ascending.

    Raises:
        UnsupportedOpError: The codes are wider than 8 bits.
    """
    if params.dtype.itemsize != 1:
        raise UnsupportedOpError(f"8-bit codes expected, got {params.dtype}; quantize to 8 bits")
    return np.arange(params.qmin, params.qmax + 1).astype(params.dtype)


def tabulate_unary(
    function: Callable[[FloatArray], FloatArray], x: QuantParams, y: QuantParams
) -> Callable[[IntegerArray], IntegerArray]:
    """``quantize(function(dequantize(q)))`` for every code: what a DQ-op-Q triple computes.

    Args:
        function: Elementwise function of float32 values.
        x: Parameters of the input codes, per tensor, 8 bits.
        y: Parameters of the result, per tensor.

    Returns:
        A callable from codes of any shape to codes of that shape.
    """
    table = quantize(function(dequantize(every_code(x), x)), y)
    # Indexed by the code's byte: the signed codes' negative half comes last.
    table = np.roll(table, x.qmin)
    return lambda q: table[q.view(np.uint8)]


def requantize_codes(x: QuantParams, y: QuantParams) -> Callable[[IntegerArray], IntegerArray]:
    """The same real values under other parameters; the identity where both are equal."""
    if x.equals(y):
        return lambda q: q
    return tabulate_unary(lambda value: value, x, y)


def tabulate_pairs(
    function: Callable[[IntegerArray, IntegerArray], IntegerArray], a: QuantParams, b: QuantParams
) -> Callable[[IntegerArray, IntegerArray], IntegerArray]:
    """``function`` on all 256 × 256 pairs of codes.

    Args:
        function: From codes (256, 1) and (1, 256) to codes (256, 256).
        a: Parameters of the first operand's codes, 8 bits.
        b: Parameters of the second operand's codes, 8 bits.

    Returns:
        A callable from two code arrays to codes of their broadcast shape.
    """
    table = function(every_code(a)[:, None], every_code(b)[None, :])
    table = np.roll(table, (a.qmin, b.qmin), axis=(0, 1)).reshape(-1)

    def look_up(a_q: IntegerArray, b_q: IntegerArray) -> IntegerArray:
        index: npt.NDArray[np.uint16] = a_q.view(np.uint8).astype(np.uint16)
        index <<= 8
        codes: IntegerArray = table[index | b_q.view(np.uint8)]
        return codes

    return look_up
