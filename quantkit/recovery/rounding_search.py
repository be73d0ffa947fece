"""Integers near real numbers, where errors of several coordinates add up.

Minimizes ``e^T H e``, ``e = codes - target``, over integer codes, in two steps:

1. Nearest plane: one coordinate after the other is rounded, each time to where the sum is least if
   all that are left may take real values (Babai 1986, On Lovász' Lattice Reduction and the Nearest
   Lattice Point Problem; the rounding of GPTQ, Frantar et al. 2023, arXiv:2210.17323).
2. Coordinate descent: with all others held fixed, the best code of coordinate k is
   ``clip(round(q_k - (H e)_k / H_kk))``: exact, so no step ever makes the sum larger.

What a step changes is brought up to date within a block of coordinates; for all others by one
matrix product per block.
"""

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]

_BLOCK = 64
# Of the codes, so few still changed: the search is over.
_FEW = 1e-3


def nearest_plane(target: Float64Array, hessian: Float64Array, largest: int) -> Float64Array:
    """Round one coordinate after the other; the last ones make up for the first.

    With ``H = R^T R``, R upper triangular, and the codes behind k known, the best real number is
    ``target_k - sum_{j > k} R_kj e_j / R_kk``. Coordinates of large ``H_kk`` come first.

    Args:
        target: What the codes stand for, in units of a code, (group, K, O); every column is a
            problem of its own.
        hessian: Symmetric, positive definite but for coordinates that are zero, (group, K, K).
        largest: Codes stay within ``[-largest, largest]``.

    Returns:
        Codes, float64, shaped like ``target``.
    """
    order = np.argsort(np.diagonal(hessian, axis1=1, axis2=2), axis=1, kind="stable")
    groups = np.arange(len(hessian))[:, np.newaxis, np.newaxis]
    factor = _factor(hessian[groups, order[:, :, np.newaxis], order[:, np.newaxis]])
    wanted = np.take_along_axis(target, order[:, :, np.newaxis], axis=1)
    codes, error = np.empty_like(wanted), np.empty_like(wanted)
    for stop in range(wanted.shape[1], 0, -_BLOCK):
        start = max(0, stop - _BLOCK)
        pull = factor[:, start:stop, stop:] @ error[:, stop:]
        for k in reversed(range(start, stop)):
            best = wanted[:, k] - pull[:, k - start]
            codes[:, k] = np.clip(np.rint(best), -largest, largest)
            error[:, k] = codes[:, k] - wanted[:, k]
            near = factor[:, start:k, k, np.newaxis]
            pull[:, : k - start] += near * error[:, np.newaxis, k]
    found = np.empty_like(codes)
    np.put_along_axis(found, order[:, :, np.newaxis], codes, axis=1)
    return found


def _factor(hessian: Float64Array) -> Float64Array:
    """``R_kj / R_kk``; ``hessian`` is changed."""
    diagonal = np.einsum("gkk->gk", hessian)
    # A coordinate without curvature does not matter, but the factorization wants some.
    diagonal += diagonal <= 0
    factor = np.asarray(np.linalg.cholesky(hessian), np.float64).swapaxes(1, 2)
    factor /= np.diagonal(factor, axis1=1, axis2=2)[:, :, np.newaxis].copy()
    return factor


def descend(
    codes: Float64Array, target: Float64Array, hessian: Float64Array, largest: int, *, sweeps: int
) -> Float64Array:
    """Improve codes one coordinate after the other.

    Args:
        codes: Where to start: integers, float64, (group, K, O); every column is a problem of its
            own.
        target: What they stand for, in units of a code, (group, K, O).
        hessian: Symmetric, positive semidefinite, (group, K, K).
        largest: Codes stay within ``[-largest, largest]``.
        sweeps: At most how often every coordinate has its turn.

    Returns:
        Codes, shaped like ``codes``; :func:`quadratic_form` of no column is larger than before.
    """
    codes = codes.copy()
    diagonal = np.diagonal(hessian, axis1=1, axis2=2)
    # A coordinate without curvature does not matter: it stays.
    inverse = np.divide(1.0, diagonal, out=np.zeros_like(diagonal), where=diagonal > 0)
    gradient = hessian @ (codes - target)
    inner = codes.shape[1]
    for _ in range(sweeps):
        changed = 0
        for start in range(0, inner, _BLOCK):
            some = slice(start, start + _BLOCK)
            near, local = hessian[:, some, some], gradient[:, some].copy()
            before = codes[:, some].copy()
            for k in range(before.shape[1]):
                old = codes[:, start + k]
                step = inverse[:, start + k, np.newaxis] * local[:, k]
                new = np.clip(np.rint(old - step), -largest, largest)
                delta = new - old
                count = int(np.count_nonzero(delta))
                if count:
                    codes[:, start + k] = new
                    local += near[:, :, k, np.newaxis] * delta[:, np.newaxis]
                    changed += count
            moved = codes[:, some] - before
            if moved.any():
                gradient += hessian[:, :, some] @ moved
        if changed <= _FEW * codes.size:
            break
    return codes


def quadratic_form(
    codes: Float64Array, target: Float64Array, hessian: Float64Array
) -> Float64Array:
    """``e^T H e`` of every column, (group, O); arguments as for :func:`descend`."""
    error = codes - target
    form: Float64Array = np.einsum("gko,gko->go", error, hessian @ error)
    return form
