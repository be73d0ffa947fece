"""Exact integer matrix products, carried in floats where exactness is proved.

A float32 holds every integer up to 2^24. A sum of products of integers is therefore exact in
float32, in whatever order BLAS adds it, while the sum of the *magnitudes* stays below 2^24:
``sum_k |w[o, k]| * max|x| < 2^24``. The bound is known per output channel from the weights, so the
inner axis is split into blocks that meet it; every block is one float32 product and the blocks are
added in int32. The result equals the pure integer product bit for bit, at some 20 times its speed.
The strict path (``strict_integer``) carries int32 throughout.

Products of 16-bit codes do the same with float64, 2^53 and int64 (:class:`SumType`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt

from quantkit.numerics.affine import IntegerArray, QuantParams

Carrier = npt.NDArray[np.number]
"""Integers held exactly: int32 or int64, or the float of a :class:`SumType` within its reach."""


@dataclass(frozen=True, slots=True)
class SumType:
    """How wide sums of products are.

    Attributes:
        integer: The accumulator's dtype; sums wrap in it.
        real: The float that carries them where that is exact.
        exact: ``real`` holds every integer up to this magnitude.
    """

    integer: np.dtype[np.signedinteger]
    real: np.dtype[np.floating]
    exact: int


INT32_SUMS = SumType(np.dtype(np.int32), np.dtype(np.float32), 2**24)
"""Of 8-bit codes."""

INT64_SUMS = SumType(np.dtype(np.int64), np.dtype(np.float64), 2**53)
"""Of products with a 16-bit factor."""

# OpenBLAS starts threads above this size, which wait for each other on a busy machine; kernels cut
# their own work for threads. Below it, it has kernels for small matrices: nothing is lost by tiles.
_TILE_MACS = 2**19 - 1
_TILE_ROWS = 32
_TILE_COLUMNS = 16


def sums_of(*factors: QuantParams) -> SumType:
    """The type of sums of products of these codes."""
    return INT32_SUMS if all(code.dtype.itemsize == 1 for code in factors) else INT64_SUMS


def plan_blocks(
    weight_q: IntegerArray, max_abs_input: int, sums: SumType = INT32_SUMS
) -> tuple[slice, ...]:
    """Split the inner axis so that each block's product is exact in ``sums.real``.

    Every block ``b`` satisfies ``sum_{k in b} |weight_q[..., k]| * max_abs_input < sums.exact`` for
    each output channel; blocks are as long as possible.

    Args:
        weight_q: Integers, (..., K); every axis but the last enumerates output channels.
        max_abs_input: The largest magnitude an input takes.
        sums: The sums' type.

    Returns:
        Slices of the inner axis, in order, that cover it once.

    Raises:
        OverflowError: One product alone can reach ``sums.exact``.
    """
    magnitude = np.abs(weight_q.astype(np.int64)).reshape(-1, weight_q.shape[-1])
    reach = np.cumsum(magnitude, axis=1) * max_abs_input
    blocks: list[slice] = []
    start, inner = 0, weight_q.shape[-1]
    while start < inner:
        before = reach[:, start - 1, None] if start else 0
        # The worst channel's bound grows with k, so the first k that breaks it can be searched.
        worst = (reach[:, start:] - before).max(axis=0, initial=0)
        stop = start + int(np.searchsorted(worst, sums.exact))
        if stop == start:
            raise OverflowError(f"one product can reach {sums.exact}: inputs up to {max_abs_input}")
        blocks.append(slice(start, stop))
        start = stop
    return tuple(blocks) or (slice(0, inner),)


def plan_uniform_blocks(
    inner: int, max_abs_a: int, max_abs_b: int, sums: SumType = INT32_SUMS
) -> tuple[slice, ...]:
    """:func:`plan_blocks` for two operands of which only the largest magnitudes are known."""
    length = max(1, (sums.exact - 1) // max(1, max_abs_a * max_abs_b))
    return tuple(slice(k, min(k + length, inner)) for k in range(0, max(inner, 1), length))


def matmul_exact(a: Carrier, b: Carrier, blocks: tuple[slice, ...]) -> Carrier:
    """``a @ b`` of integers, exactly.

    Args:
        a: (..., M, K); int32 or int64, or the float of a :class:`SumType` holding integers.
        b: (..., K, N), of the same dtype as ``a``.
        blocks: Slices of K from :func:`plan_blocks`; not needed by integer operands.

    Returns:
        (..., M, N): the operands' dtype when one block suffices, otherwise the integers that go
        with it (sums modulo 2^32 or 2^64).
    """
    if a.dtype.kind == "i":
        return _matmul_integer(a, b)
    if len(blocks) == 1:
        return _matmul_float(a, b)
    integer = (INT32_SUMS if a.dtype == np.float32 else INT64_SUMS).integer
    partial = (_matmul_float(a[..., block], b[..., block, :]).astype(integer) for block in blocks)
    return reduce(np.add, partial)


@dataclass(frozen=True, slots=True, eq=False)
class ConstantOperand:
    """Weights and bias of a layer, ready for exact products with activation codes.

    With the input's zero point moved into the bias, a layer is ``sum_k weight[o, k] * x_q[k] +
    bias[o]`` on the *codes*, and no pass over the input has to subtract anything.

    Attributes:
        weight: (..., O, K) of ``sums.integer`` or ``sums.real``, the weights' zero points
            subtracted.
        bias: int64 (..., O): ``bias - x_zero_point * sum_k weight``.
        blocks: Slices of K; see :func:`plan_blocks`.
        bias_is_exact: Whether ``sum + bias`` stays below ``sums.exact`` in magnitude, so that a
            sum in floats may take the bias and stay one.
        sums: The sums' type.
    """

    weight: Carrier
    bias: npt.NDArray[np.int64]
    blocks: tuple[slice, ...]
    bias_is_exact: bool
    sums: SumType = INT32_SUMS

    @classmethod
    def prepare(
        cls,
        weight: IntegerArray,
        bias: IntegerArray | None,
        x_zero_point: int,
        max_abs_input: int,
        *,
        strict_integer: bool,
        sums: SumType = INT32_SUMS,
    ) -> "ConstantOperand":
        """Fold the zero point and prove the carrier.

        Args:
            weight: Weights minus their zero points, (..., O, K).
            bias: Of ``sums.integer``, (..., O), or None.
            x_zero_point: Zero point of the input.
            max_abs_input: Largest magnitude of an input code.
            strict_integer: Whether to carry integers.
            sums: The sums' type.
        """
        wide = weight.astype(np.int64)
        folded = -x_zero_point * wide.sum(axis=-1)
        if bias is not None:
            folded = folded + bias
        reach = np.abs(wide).sum(axis=-1) * max_abs_input
        # A bias of 64 bits leaves no room to add to its magnitude.
        is_small = (folded > -sums.exact) & (folded < sums.exact)
        return cls(
            weight.astype(sums.integer if strict_integer else sums.real),
            folded,
            plan_blocks(weight, max_abs_input, sums),
            bool(np.all(is_small & (reach + np.abs(folded) < sums.exact))),
            sums,
        )

    def add_bias(self, total: Carrier, bias: npt.NDArray[np.int64]) -> Carrier:
        """``total + bias``, in place where the sums' float holds the result exactly.

        Args:
            total: Sums from :func:`matmul_exact` (overwritten).
            bias: ``self.bias`` or a part of it, shaped to broadcast against ``total``.
        """
        if total.dtype == self.sums.real and not self.bias_is_exact:
            total = total.astype(self.sums.integer)
        # Integer sums wrap: only the final accumulator has to fit.
        np.add(total, bias.astype(total.dtype), out=total)
        return total


def _matmul_float(a: Carrier, b: Carrier) -> Carrier:
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    out: Carrier = np.empty((*batch, a.shape[-2], b.shape[-1]), a.dtype)
    for rows, columns, tile in _tiles(a.shape[-2], a.shape[-1], b.shape[-1]):
        _matmul_tiles(a[..., rows, :], b[..., columns], out[..., rows, columns], tile)
    return out


def _tiles(rows: int, inner: int, columns: int) -> Iterator[tuple[slice, slice, tuple[int, int]]]:
    """Cut a product into parts that equal tiles fill: up to four, whole and rest of each axis.

    Yields:
        The part's rows and columns, and its tiles' numbers of rows and columns.
    """
    fits = inner * _TILE_ROWS * _TILE_COLUMNS <= _TILE_MACS
    tile_rows = min(rows, _TILE_ROWS if fits else _TILE_ROWS // 2)
    tile_columns = max(1, _TILE_MACS // max(1, inner * tile_rows))
    if _TILE_COLUMNS < tile_columns < columns:
        tile_columns -= tile_columns % _TILE_COLUMNS
    for some_rows, row_count in _whole_and_rest(rows, tile_rows):
        for some_columns, column_count in _whole_and_rest(columns, tile_columns):
            yield some_rows, some_columns, (row_count, column_count)


def _whole_and_rest(size: int, tile: int) -> list[tuple[slice, int]]:
    """The part that tiles fill and what is left, both with their tiles' size; no empty parts."""
    rest = size % tile if tile else 0
    parts = [(slice(0, size - rest), tile), (slice(size - rest, size), rest)]
    return [(part, length) for part, length in parts if part.start < part.stop]


def _matmul_tiles(a: Carrier, b: Carrier, out: Carrier, tile: tuple[int, int]) -> None:
    """``out = a @ b``, a batch of products with ``tile`` rows and columns each.

    One call: NumPy loops over the batch without the interpreter.
    """
    if 1 in tile:
        # BLAS would use threads for a matrix-vector product of any size that matters.
        np.einsum("...mk,...kn->...mn", a, b, out=out)
        return
    # Tiles down, tiles across, then the axes of a tile.
    rows, columns = tile
    down, across = out.shape[-2] // rows, out.shape[-1] // columns
    np.matmul(
        a.reshape(*a.shape[:-2], down, 1, rows, a.shape[-1]),
        np.moveaxis(b.reshape(*b.shape[:-1], 1, across, columns), -4, -2),
        out=np.moveaxis(out.reshape(*out.shape[:-2], down, rows, across, columns), -3, -2),
    )


def _matmul_integer(a: Carrier, b: Carrier) -> Carrier:
    # einsum's integer loops are 2 to 3 times as fast as matmul's where the rows of b are long.
    product: Carrier = np.einsum("...mk,...kn->...mn", a, b)
    return product
