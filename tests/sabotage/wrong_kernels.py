"""Deliberately wrong arithmetics and lowerings; the checks of tests/ops must reject each."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from quantkit.numerics.affine import IntegerArray, QuantizedTensor, QuantParams, per_tensor
from quantkit.numerics.integer_gemm import Carrier
from quantkit.numerics.onnxruntime_arithmetic import OnnxruntimeArithmetic
from quantkit.numerics.requantizer import EVERY_CHANNEL, Requantizer, along_channels
from quantkit.ops.contract import OPS, Kernel, Lowering

Rounding = Callable[[np.ndarray[tuple[int, ...], np.dtype[np.float64]]], Carrier]


def half_away(value: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Carrier:
    return np.trunc(value + np.copysign(0.5, value))


@dataclass(frozen=True)
class WrongArithmetic(OnnxruntimeArithmetic):
    """onnxruntime's multipliers, with another rounding or a shifted zero point."""

    rounding: Rounding = np.rint
    shift: int = 0

    def accumulator_requantizer(
        self,
        x: QuantParams,
        weight: QuantParams,
        y: QuantParams,
        *,
        channel_axis: int,
        strict_integer: bool,
    ) -> Requantizer:
        multiplier = (x.scale * weight.scale) / y.scale

        def requantize(
            accumulator: Carrier, out: IntegerArray, channels: slice = EVERY_CHANNEL
        ) -> None:
            aligned = along_channels(
                np.asarray(multiplier), channels, channel_axis, accumulator.ndim
            )
            product = accumulator.astype(np.float32) * aligned
            code = self.rounding(product.astype(np.float64)) + int(y.zero_point) + self.shift
            out[...] = np.clip(code, y.qmin, y.qmax).astype(y.dtype)

        return requantize


def with_arithmetic(arithmetic: WrongArithmetic) -> Callable[[Lowering], Kernel]:
    def lower(lowering: Lowering) -> Kernel:
        return OPS[lowering.node.op_type].lower(replace(lowering, arithmetic=arithmetic))

    return lower


def _with_weight(
    change: Callable[[QuantizedTensor], QuantizedTensor],
) -> Callable[[Lowering], Kernel]:
    def lower(lowering: Lowering) -> Kernel:
        weight = lowering.codes(1)
        assert weight is not None
        inputs = (lowering.inputs[0], change(weight), *lowering.inputs[2:])
        return OPS[lowering.node.op_type].lower(replace(lowering, inputs=inputs))

    return lower


def swapped_scale_axis() -> Callable[[Lowering], Kernel]:
    """The scales of the weight's input channels taken for those of its output channels."""

    def change(weight: QuantizedTensor) -> QuantizedTensor:
        size = weight.params.scale.size
        scale = np.abs(weight.data).reshape(size, size, -1).max(axis=(0, 2)).astype(np.float32)
        return replace(
            weight, params=replace(weight.params, scale=scale * weight.params.scale.mean() / 127)
        )

    return _with_weight(change)


def transposed_taps() -> Callable[[Lowering], Kernel]:
    """Kernel rows taken for columns."""
    return _with_weight(lambda weight: replace(weight, data=weight.data.swapaxes(-1, -2).copy()))


def zero_padding() -> Callable[[Lowering], Kernel]:
    """The border filled with code 0 instead of the zero point, and the zero point ignored."""

    def lower(lowering: Lowering) -> Kernel:
        x = lowering.params(0)
        wrong = per_tensor(float(x.scale), 0, x.dtype)
        return OPS[lowering.node.op_type].lower(
            replace(lowering, inputs=(wrong, *lowering.inputs[1:]))
        )

    return lower


def without_bias() -> Callable[[Lowering], Kernel]:
    def lower(lowering: Lowering) -> Kernel:
        return OPS[lowering.node.op_type].lower(replace(lowering, inputs=lowering.inputs[:2]))

    return lower
