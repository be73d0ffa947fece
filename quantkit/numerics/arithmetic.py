"""The named requantization arithmetics that the kernels are written against.

- ``onnxruntime``: float32 multipliers, halves to even; the codes of onnxruntime's CPU kernels.
- ``fixed_point``: int32 multipliers and shifts; the codes of TFLite, CMSIS-NN and other integer
  hardware. At most 1 code from ``onnxruntime`` per op, given equal inputs.

Every method runs once, when a node is lowered, and may use floats; what it returns is called with
integer arrays at run time. With ``strict_integer`` those callables hold no float array, not even
as a temporary.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from quantkit.numerics.affine import QuantParams
from quantkit.numerics.fixed_point_arithmetic import FixedPointArithmetic
from quantkit.numerics.onnxruntime_arithmetic import OnnxruntimeArithmetic
from quantkit.numerics.requantizer import (
    AverageRequantizer,
    CodeAddition,
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

    def addition(self, a: QuantParams, b: QuantParams, y: QuantParams) -> CodeAddition:
        """Codes of the sum of two tensors."""

    def softmax(self, x: QuantParams, y: QuantParams, *, strict_integer: bool) -> RowSoftmax:
        """Codes of the softmax of rows."""


ARITHMETICS: Mapping[str, Arithmetic] = {
    arithmetic.name: arithmetic for arithmetic in (OnnxruntimeArithmetic(), FixedPointArithmetic())
}
