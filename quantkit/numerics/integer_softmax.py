"""Softmax of integer codes with integers only.

``y = saturate(round(N * e / sum(e)) + zero_point)`` with ``e = round(2^24 * exp(s_x * (q - max)))``
from a table of 256 entries (65,536 for codes of 16 bits), ``N = 1 / s_y`` as a multiple of 2^-16,
and one integer division that rounds halves up. The table's rounding moves a probability by at most
``length * 2^-25``. Exact up to 2^20 classes.
"""

import numpy as np

from quantkit.numerics.affine import IntegerArray, QuantParams
from quantkit.numerics.code_table import every_code
from quantkit.numerics.requantizer import RowSoftmax

_EXPONENTIAL_BITS = 24
_SCALE_BITS = 16
# Beyond it every probability that the table does not round to 0 saturates 16 bits.
_LARGEST_INVERSE_SCALE = 2.0**20


def integer_softmax(x: QuantParams, y: QuantParams, inverse_scale: float) -> RowSoftmax:
    """Tabulate the exponentials of ``x``; the callable holds no float.

    Args:
        x: Parameters of the input codes, 8 or 16 bits, per tensor.
        y: Parameters of the probabilities.
        inverse_scale: ``1 / s_y`` as the arithmetic has it; rounded to a multiple of 2^-16.

    Returns:
        A callable from codes (rows, length) to codes (rows, length).
    """
    distance = np.arange(every_code(x).size, dtype=np.float64)
    with np.errstate(under="ignore"):
        exponential = np.rint(np.exp(-float(x.scale) * distance) * 2.0**_EXPONENTIAL_BITS)
    table = exponential.astype(np.int64)
    factor = round(2.0**_SCALE_BITS * min(inverse_scale, _LARGEST_INVERSE_SCALE))
    zero_point = int(y.zero_point)

    def softmax(x_q: IntegerArray) -> IntegerArray:
        wide = x_q.astype(np.int64)
        weight = table[wide.max(axis=-1, keepdims=True) - wide]
        total = weight.sum(axis=-1, keepdims=True) << _SCALE_BITS
        rounded = (2 * weight * factor + total) // (2 * total)
        codes: IntegerArray = np.clip(rounded + zero_point, y.qmin, y.qmax).astype(y.dtype)
        return codes

    return softmax
