"""One-op cases: a node, its parameters and codes, and what onnxruntime must fuse it into."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from quantkit.graph.program import Array, AttributeValue, Node
from quantkit.numerics.affine import (
    IntegerArray,
    QuantizedTensor,
    QuantParams,
    per_channel_symmetric,
    per_tensor,
)
from quantkit.numerics.arithmetic import ARITHMETICS
from quantkit.ops.contract import Lowering

Rng = np.random.Generator
Input = QuantParams | QuantizedTensor | Array | None


@dataclass(frozen=True, eq=False, repr=False)
class Case:
    """One node with everything needed to run it.

    Attributes:
        name: For the test's identifier.
        node: The op.
        inputs: As in ``Lowering.inputs``.
        outputs: Parameters of the outputs.
        data: Codes of the activation inputs.
        fused: An op type that onnxruntime's optimized graph must hold: the kernel compared with;
            "" where it removes the op, or has no integer kernel for it.
    """

    name: str
    node: Node
    inputs: tuple[Input, ...]
    outputs: tuple[QuantParams, ...]
    data: tuple[IntegerArray, ...]
    fused: str

    def __repr__(self) -> str:
        return f"{self.node.op_type}-{self.name}"

    def lowering(
        self, arithmetic: str = "onnxruntime", *, strict_integer: bool = False
    ) -> Lowering:
        return Lowering(
            self.node, self.inputs, self.outputs, ARITHMETICS[arithmetic], strict_integer
        )

    def with_outputs(self, *outputs: QuantParams) -> "Case":
        return replace(self, outputs=outputs)


def make_node(
    op_type: str, inputs: int, attributes: dict[str, AttributeValue], version: int = 21
) -> Node:
    names = tuple(f"input_{position}" for position in range(inputs))
    return Node("node", op_type, "", version, names, ("output",), attributes)


def random_codes(rng: Rng, shape: Sequence[int], dtype: npt.DTypeLike = np.uint8) -> IntegerArray:
    info = np.iinfo(np.dtype(dtype))
    return rng.integers(int(info.min), int(info.max) + 1, shape).astype(dtype)


def random_params(
    rng: Rng, dtype: npt.DTypeLike = np.uint8, scale: float | None = None
) -> QuantParams:
    """Any zero point; a scale between 0.005 and 0.05 unless given."""
    info = np.iinfo(np.dtype(dtype))
    chosen = float(rng.uniform(0.005, 0.05)) if scale is None else scale
    return per_tensor(chosen, int(rng.integers(int(info.min), int(info.max) + 1)), dtype)


def middle_params(scale: float, dtype: npt.DTypeLike = np.uint8) -> QuantParams:
    """Parameters whose codes reach equally far to both sides."""
    return per_tensor(scale, 0 if np.iinfo(np.dtype(dtype)).min else 128, dtype)


def random_weight(
    rng: Rng, shape: Sequence[int], axis: int | None, dtype: npt.DTypeLike = np.int8
) -> QuantizedTensor:
    """Codes in [-127, 127] (uint8: with zero point 128), scales within a factor of 20."""
    is_signed = np.iinfo(np.dtype(dtype)).min < 0
    codes = rng.integers(-127, 128, shape) + (0 if is_signed else 128)
    size = () if axis is None else (shape[axis],)
    scale = np.asarray(rng.uniform(0.001, 0.02, size), np.float32)
    zero_point = np.full(size, 0 if is_signed else 128, np.int32)
    data: IntegerArray = codes.astype(dtype)
    return QuantizedTensor(data, QuantParams(scale, zero_point, data.dtype, axis))


def bias_for(rng: Rng, x: QuantParams, weight: QuantizedTensor, count: int) -> QuantizedTensor:
    scale = np.broadcast_to(x.scale * weight.params.scale, (count,)).copy()
    data = rng.integers(-20000, 20000, count).astype(np.int32)
    return QuantizedTensor(data, per_channel_symmetric(scale, np.int32, 0))


def output_params(
    rng: Rng, x: QuantParams, weight: QuantizedTensor, products: int, dtype: npt.DTypeLike
) -> QuantParams:
    """A range that a sum of ``products`` random products fills, some of it saturating."""
    spread = 105.0 * 73.0 * products**0.5 * float(x.scale) * float(np.mean(weight.params.scale))
    return replace(middle_params(4.0 * spread / 255, dtype))
