"""The named requantization arithmetics that the kernels are written against.

- ``onnxruntime``: float32 multipliers, halves to even; the codes of onnxruntime's CPU kernels.
- ``fixed_point``: int32 multipliers and shifts; the codes of TFLite, CMSIS-NN and other integer
  hardware. At most 1 code from ``onnxruntime`` per op, given equal inputs of 8 bits; beyond that,
  Add and Sub where an input's scale is more than 2^15 times the output's (codes of 16 bits: 2^8).

Every method runs once, when a node is lowered, and may use floats; what it returns is called with
integer arrays at run time. With ``strict_integer`` those callables hold no float array, not even
as a temporary.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from quantkit.numerics.affine import QuantParams
from quantkit.numerics.code_table import PairedCodes, UnaryCodes
from quantkit.numerics.fixed_point_arithmetic import FixedPointArithmetic
from quantkit.numerics.onnxruntime_arithmetic import OnnxruntimeArithmetic
from quantkit.numerics.requantizer import (
    AverageRequantizer,
    RealFunction,
    Requantizer,
    RowSoftmax,
    WindowAverage,
)


class Arithmetic(Protocol):
    """How sums of integers become codes again; one strategy per named arithmetic."""

    @property
    def name(self) -> str:
        """The name users type."""

    def accumulator_requantizer(
        self,
        x: QuantParams,
        weight: QuantParams,
        y: QuantParams,
        *,
        channel_axis: int,
        strict_integer: bool,
    ) -> Requantizer:
        """Codes of a convolution's or matrix product's int32 sums: ``s_x * s_w / s_y * acc``."""

    def average_requantizer(self, x: QuantParams, y: QuantParams) -> AverageRequantizer:
        """Codes of the average of a whole channel, its size known only at run time."""

    def window_average(
        self, x: QuantParams, y: QuantParams, counts: Sequence[int], *, strict_integer: bool
    ) -> WindowAverage:
        """Codes of the averages of pooling windows of ``counts`` taps."""

    def tabulation(self, function: RealFunction, x: QuantParams, y: QuantParams) -> UnaryCodes:
        """Codes of any elementwise function."""

    def logistic(self, x: QuantParams, y: QuantParams) -> UnaryCodes:
        """Codes of ``1 / (1 + exp(-x))``."""

    def rescaling(self, x: QuantParams, y: QuantParams) -> UnaryCodes:
        """Codes of the same real values under other parameters."""

    def addition(self, a: QuantParams, b: QuantParams, y: QuantParams) -> PairedCodes:
        """Codes of the sum of two tensors."""

    def subtraction(self, a: QuantParams, b: QuantParams, y: QuantParams) -> PairedCodes:
        """Codes of the difference of two tensors."""

    def multiplication(self, a: QuantParams, b: QuantParams, y: QuantParams) -> PairedCodes:
        """Codes of the elementwise product of two tensors."""

    def division(self, a: QuantParams, b: QuantParams, y: QuantParams) -> PairedCodes:
        """Codes of the elementwise quotient of two tensors."""

    def leaky_product(self, x: QuantParams, slope: QuantParams, y: QuantParams) -> PairedCodes:
        """Codes of ``x`` where it is at least 0, of ``x * slope`` elsewhere (PRelu)."""

    def softmax(self, x: QuantParams, y: QuantParams, *, strict_integer: bool) -> RowSoftmax:
        """Codes of the softmax of rows."""


ARITHMETICS: Mapping[str, Arithmetic] = {
    arithmetic.name: arithmetic for arithmetic in (OnnxruntimeArithmetic(), FixedPointArithmetic())
}
