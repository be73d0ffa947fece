"""Deliberately wrong arithmetics and lowerings; the checks of tests/ops must reject each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from quantkit.graph.program import Array, AttributeValue
from quantkit.numerics.affine import IntegerArray, QuantizedTensor, QuantParams, per_tensor
from quantkit.numerics.arithmetic import ARITHMETICS
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


def shifted(by: int) -> Callable[[Lowering], Kernel]:
    """A zero point off by one; of indices, every index."""

    def lower(lowering: Lowering) -> Kernel:
        right = OPS[lowering.node.op_type].lower(lowering)

        def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
            wrong: list[IntegerArray] = []
            for codes in right(inputs):
                bounds = np.iinfo(codes.dtype)
                moved = np.clip(codes.astype(np.int64) + by, bounds.min, bounds.max)
                wrong.append(moved.astype(codes.dtype))
            return tuple(wrong)

        return kernel

    return lower


def swapped_operands() -> Callable[[Lowering], Kernel]:
    """The last two operands, both computed, taken for each other."""

    def lower(lowering: Lowering) -> Kernel:
        *others, a, b = lowering.inputs
        right = OPS[lowering.node.op_type].lower(replace(lowering, inputs=(*others, b, a)))
        return lambda inputs: right([*inputs[:-2], inputs[-1], inputs[-2]])

    return lower


def with_attributes(**changed: AttributeValue) -> Callable[[Lowering], Kernel]:
    """Other attributes: an axis, a mode, which of two equal values wins."""

    def lower(lowering: Lowering) -> Kernel:
        node = replace(lowering.node, attributes={**lowering.node.attributes, **changed})
        return OPS[node.op_type].lower(replace(lowering, node=node))

    return lower


def with_constant(position: int, change: Callable[[Array], Array]) -> Callable[[Lowering], Kernel]:
    """Another plain constant: axes, indices, starts."""

    def lower(lowering: Lowering) -> Kernel:
        inputs = list(lowering.inputs)
        constant = inputs[position]
        assert isinstance(constant, np.ndarray)
        inputs[position] = change(constant)
        return OPS[lowering.node.op_type].lower(replace(lowering, inputs=tuple(inputs)))

    return lower


def half_away_from_zero() -> Callable[[Lowering], Kernel]:
    """The other arithmetic's rounding."""
    return lambda lowering: OPS[lowering.node.op_type].lower(
        replace(lowering, arithmetic=ARITHMETICS["fixed_point"])
    )
