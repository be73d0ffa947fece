"""Exact integer matrix products, carried in float32 where exactness is proved.

A float32 holds every integer up to 2^24. A sum of products of integers is therefore exact in
float32, in whatever order BLAS adds it, while the sum of the *magnitudes* stays below 2^24:
``sum_k |w[o, k]| * max|x| < 2^24``. The bound is known per output channel from the weights, so the
inner axis is split into blocks that meet it; every block is one float32 product and the blocks are
added in int32. The result equals the pure integer product bit for bit, at some 20 times its speed.
The strict path (``strict_integer``) carries int32 throughout.
"""

from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt

from quantkit.numerics.affine import IntegerArray

Carrier = npt.NDArray[np.number]
"""Integers held exactly: int32, or float32 with magnitudes of at most 2^24."""

EXACT_FLOAT32 = 2**24

# OpenBLAS starts threads above this size. Products here are small: two threads gain a few ms per
# network on an idle machine and lose hundreds on a busy one, where they wait for each other.
_SINGLE_THREAD_MACS = 2**19 - 1


def plan_blocks(weight_q: IntegerArray, max_abs_input: int) -> tuple[slice, ...]:
    """Split the inner axis so that each block's product is exact in float32.

    Every block ``b`` satisfies ``sum_{k in b} |weight_q[..., k]| * max_abs_input < 2^24`` for each
    output channel; blocks are as long as possible.

    Args:
        weight_q: Integers, (..., K); every axis but the last enumerates output channels.
        max_abs_input: The largest magnitude an input takes.

    Returns:
        Slices of the inner axis, in order, that cover it once.

    Raises:
        OverflowError: One product alone can reach 2^24 (operands wider than 12 bits).
    """
    magnitude = np.abs(weight_q.astype(np.int64)).reshape(-1, weight_q.shape[-1])
    reach = np.cumsum(magnitude, axis=1) * max_abs_input
    blocks: list[slice] = []
    start, inner = 0, weight_q.shape[-1]
    while start < inner:
        before = reach[:, start - 1, None] if start else 0
        # The worst channel's bound grows with k, so the first k that breaks it can be searched.
        worst = (reach[:, start:] - before).max(axis=0, initial=0)
        stop = start + int(np.searchsorted(worst, EXACT_FLOAT32))
        if stop == start:
            raise OverflowError(f"one product can reach 2^24: inputs up to {max_abs_input}")
        blocks.append(slice(start, stop))
        start = stop
    return tuple(blocks) or (slice(0, inner),)


def plan_uniform_blocks(inner: int, max_abs_a: int, max_abs_b: int) -> tuple[slice, ...]:
    """:func:`plan_blocks` for two operands of which only the largest magnitudes are known."""
    length = max(1, (EXACT_FLOAT32 - 1) // max(1, max_abs_a * max_abs_b))
    return tuple(slice(k, min(k + length, inner)) for k in range(0, max(inner, 1), length))


def matmul_exact(a: Carrier, b: Carrier, blocks: tuple[slice, ...]) -> Carrier:
    """``a @ b`` of integers, exactly.

    Args:
        a: (..., M, K); int32, or float32 holding integers.
        b: (..., K, N), of the same dtype as ``a``.
        blocks: Slices of K from :func:`plan_blocks`; not needed by int32 operands.

    Returns:
        (..., M, N): float32 when one block suffices, otherwise int32 (sums modulo 2^32).
    """
    if a.dtype == np.int32:
        return _matmul_int32(a, b)
    if len(blocks) == 1:
        return _matmul_float32(a, b)
    partial = (
        _matmul_float32(a[..., block], b[..., block, :]).astype(np.int32) for block in blocks
    )
    return reduce(np.add, partial)


@dataclass(frozen=True, slots=True, eq=False)
class ConstantOperand:
    """Weights and bias of a layer, ready for exact products with activation codes.

    With the input's zero point moved into the bias, a layer is ``sum_k weight[o, k] * x_q[k] +
    bias[o]`` on the *codes*, and no pass over the input has to subtract anything.

    Attributes:
        weight: (..., O, K) int32 or float32, the weights' zero points subtracted.
        bias: int64 (..., O): ``bias - x_zero_point * sum_k weight``.
        blocks: Slices of K; see :func:`plan_blocks`.
        bias_is_exact: Whether ``sum + bias`` stays below 2^24 in magnitude, so that a float32 sum
            may take the bias without leaving float32.
    """

    weight: Carrier
    bias: npt.NDArray[np.int64]
    blocks: tuple[slice, ...]
    bias_is_exact: bool

    @classmethod
    def prepare(
        cls,
        weight: IntegerArray,
        bias: IntegerArray | None,
        x_zero_point: int,
        max_abs_input: int,
        *,
        strict_integer: bool,
    ) -> "ConstantOperand":
        """Fold the zero point and prove the carrier.

        Args:
            weight: Weights minus their zero points, (..., O, K).
            bias: int32, (..., O), or None.
            x_zero_point: Zero point of the input.
            max_abs_input: Largest magnitude of an input code.
            strict_integer: Whether to carry int32.
        """
        wide = weight.astype(np.int64)
        folded = -x_zero_point * wide.sum(axis=-1)
        if bias is not None:
            folded = folded + bias
        reach = np.abs(wide).sum(axis=-1) * max_abs_input + np.abs(folded)
        return cls(
            weight.astype(np.int32 if strict_integer else np.float32),
            folded,
            plan_blocks(weight, max_abs_input),
            bool(np.all(reach < EXACT_FLOAT32)),
        )

    def add_bias(self, total: Carrier, bias: npt.NDArray[np.int64]) -> Carrier:
        """``total + bias``, in place where float32 holds the result exactly.

        Args:
            total: Sums from :func:`matmul_exact` (overwritten).
            bias: ``self.bias`` or a part of it, shaped to broadcast against ``total``.
        """
        if total.dtype == np.float32 and not self.bias_is_exact:
            total = total.astype(np.int32)
        # int32 sums wrap: only the final accumulator has to fit.
        np.add(total, bias.astype(total.dtype), out=total)
        return total


def _matmul_float32(a: Carrier, b: Carrier) -> Carrier:
    if 1 in (a.shape[-2], b.shape[-1]):
        # BLAS would use threads for a matrix-vector product of any size that matters.
        vector_product: Carrier = np.einsum("...mk,...kn->...mn", a, b)
        return vector_product
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    out: Carrier = np.empty((*batch, a.shape[-2], b.shape[-1]), np.float32)
    _matmul_in_tiles(a, b, out)
    return out


def _matmul_in_tiles(a: Carrier, b: Carrier, out: Carrier) -> None:
    rows, columns = out.shape[-2:]
    if rows * a.shape[-1] * columns <= _SINGLE_THREAD_MACS or rows * columns == 1:
        np.matmul(a, b, out=out)
    elif rows >= columns:
        half = rows // 2
        _matmul_in_tiles(a[..., :half, :], b, out[..., :half, :])
        _matmul_in_tiles(a[..., half:, :], b, out[..., half:, :])
    else:
        half = columns // 2
        _matmul_in_tiles(a, b[..., :half], out[..., :half])
        _matmul_in_tiles(a, b[..., half:], out[..., half:])


def _matmul_int32(a: Carrier, b: Carrier) -> Carrier:
    # einsum's integer loops are 2 to 3 times as fast as matmul's where the rows of b are long.
    product: Carrier = np.einsum("...mk,...kn->...mn", a, b)
    return product
