"""The callables an arithmetic hands to the kernels: integers in, integers out."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from quantkit.numerics.affine import IntegerArray
from quantkit.numerics.integer_gemm import Carrier

Number = TypeVar("Number", bound=np.generic)

EVERY_CHANNEL = slice(None)


class Requantizer(Protocol):
    """Turns accumulators into codes, ``clamp(round(accumulator * M) + zero_point)``."""

    def __call__(
        self, accumulator: Carrier, out: IntegerArray, channels: slice = EVERY_CHANNEL
    ) -> None:
        """Write the codes of ``accumulator`` to ``out``.

        Args:
            accumulator: int32, or float32 holding integers of at most 24 bits; is overwritten.
            out: Codes of the output's dtype, shaped like ``accumulator``; may be a view.
            channels: Which of the output channels the accumulator holds.
        """


AverageRequantizer = Callable[[IntegerArray, int], IntegerArray]
"""(int32 or int64 sums of codes, how many codes each sum holds) -> codes of the averages."""

WindowAverage = Callable[[Sequence[IntegerArray], npt.NDArray[np.int64]], IntegerArray]
"""(the taps of all windows in scan order, how many of them count, per window) -> codes.

A tap is an array shaped like the output; a padded position holds the zero point.
"""

Float64Array = npt.NDArray[np.float64]
RealFunction = Callable[[Float64Array], Float64Array]
"""An elementwise function, in float64; used when a node is lowered, to fill a table."""

RowSoftmax = Callable[[IntegerArray], IntegerArray]
"""Codes (rows, length) -> codes of each row's softmax."""


def along_channels(
    parameter: npt.NDArray[Number], channels: slice, axis: int, ndim: int
) -> npt.NDArray[Number]:
    """One number per channel (or one for all), shaped to broadcast against an array.

    Args:
        parameter: ``()`` or ``(C,)``.
        channels: The channels the array holds.
        axis: The array's channel axis.
        ndim: The array's number of axes.
    """
    if parameter.ndim == 0:
        return parameter
    shape = [1] * ndim
    shape[axis] = -1
    return parameter[channels].reshape(shape)
