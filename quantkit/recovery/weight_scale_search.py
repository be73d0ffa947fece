"""Weight scales of least squared error, from the weights alone.

``s = argmin sum_k (w_k - s * clip(round(w_k / s), -qmax, qmax))^2`` among fractions of
``max|w| / qmax``, per output channel, or per tensor over all of them: a smaller scale rounds more
finely and cuts the largest weights off (Nagel et al. 2021, A White Paper on Neural Network
Quantization, arXiv:2106.08295, section 3.1).
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from quantkit.config import QuantConfig
from quantkit.graph.program import Array
from quantkit.ops.contract import OPS
from quantkit.ops.parallel import available_threads, for_each
from quantkit.passes.prepare import Prepared
from quantkit.plan import QuantPlan
from quantkit.quantized_model.constants import weight_rows
from quantkit.quantized_model.model import weight_and_bias

Float64Array = npt.NDArray[np.float64]

_FRACTIONS = np.linspace(0.5, 1.0, 51)[::-1]
# What is worked on at once stays in the cache.
_BLOCK_NUMBERS = 2**16


def search_weight_scales(
    prepared: Prepared, plan: QuantPlan, config: QuantConfig
) -> Mapping[str, Float64Array]:
    """Scales for the weights of a plan's integer nodes.

    Args:
        prepared: The prepared float graph.
        plan: Which of its nodes are integer.
        config: Whether scales are per channel, and the largest codes.

    Returns:
        By weight name, one scale per row of :func:`weight_rows`, for :func:`quantize_model`, which
        raises those with which a bias or a sum would not fit.
    """
    arrays = prepared.program.constants
    scales: dict[str, Float64Array] = {}

    def search(job: tuple[str, Array, int, bool, int]) -> None:
        name, weight, axis, per_channel, largest = job
        scales[name] = searched_scales(weight_rows(weight, axis), largest, per_row=per_channel)

    jobs: list[tuple[str, Array, int, bool, int]] = []
    for node in prepared.program.nodes:
        if node.name in plan.kept_float:
            continue
        name, _ = weight_and_bias(node)
        if name not in arrays or not np.isfinite(arrays[name]).all():
            continue
        weight, op = arrays[name], OPS[node.op_type]
        per_channel = config.per_channel and op.has_channel_scales(node, weight.ndim)
        axis = op.weight_axis(node, weight.ndim)
        jobs.append((name, weight, axis, per_channel, config.weight_qmax(node.name)))
    for_each(search, jobs, available_threads())
    return scales


def searched_scales(rows: Float64Array, largest: int, *, per_row: bool) -> Float64Array:
    """The best of 51 scales from ``max|w| / largest`` down to half of it; of equals the largest.

    Args:
        rows: Weights, (rows, K), finite.
        largest: Codes stay within ``[-largest, largest]``.
        per_row: Whether every row has a scale of its own, or all have one.

    Returns:
        (rows,); 0 for a row of zeros.
    """
    natural = np.abs(rows).max(axis=1, initial=0.0) / largest
    if not per_row:
        natural = np.full_like(natural, natural.max(initial=0.0))
    errors = np.empty((len(_FRACTIONS), len(rows)))
    height = max(1, _BLOCK_NUMBERS // max(1, rows.shape[1]))
    for start in range(0, len(rows), height):
        some = slice(start, start + height)
        # A row of zeros has no error with any scale.
        steps = np.where(natural[some] > 0, natural[some], 1.0)[:, np.newaxis]
        scaled = rows[some] / steps
        for position, fraction in enumerate(_FRACTIONS):
            codes = np.rint(scaled / fraction)
            np.clip(codes, -largest, largest, out=codes)
            codes *= fraction
            codes -= scaled
            errors[position, some] = np.einsum("rk,rk->r", codes, codes) * steps[:, 0] ** 2
    if not per_row:
        errors = np.broadcast_to(errors.sum(axis=1, keepdims=True), errors.shape)
    scales: Float64Array = natural * _FRACTIONS[errors.argmin(axis=0)]
    return scales
