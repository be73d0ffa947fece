"""Round weights so that their layer's output stays, not so that each weight does.

Minimizes ``tr((W_q - W) C (W_q - W)^T)`` over the codes of every layer: AdaRound's objective (Nagel
et al. 2020, Up or Down?, arXiv:2004.10568, (13)), with C the covariance of the layer's inputs in
the quantized network, since the bias takes the mean: ``b_q = b + (W - W_q) E[x]``. AdaRound relaxes
the choice and follows gradients; here the codes are searched one coordinate at a time
(:mod:`quantkit.recovery.rounding_search`), which is exact in every coordinate and repeats.

Both sides of the objective have the same inputs. Fitting every layer to the *float* network's
values at once ruins networks: each layer corrects the same error again, and chases clipping.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from quantkit.calibration.collector import Progress
from quantkit.calibration.dataset import Dataset
from quantkit.errors import ConfigError
from quantkit.graph.program import Node
from quantkit.numerics.affine import QuantizedTensor
from quantkit.ops.parallel import available_threads, for_each
from quantkit.passes.note import PassNote
from quantkit.quantized_model.constants import accumulator_max, quantize_bias
from quantkit.quantized_model.model import QuantizedModel, node_bound, weight_and_bias
from quantkit.recovery.gram_matrices import (
    InputMoments,
    gram_bytes,
    input_moments,
    weight_matrices,
)
from quantkit.recovery.rounding_search import descend, nearest_plane, quadratic_form

Float64Array = npt.NDArray[np.float64]

_SWEEPS = 4
# Added to the diagonal of C, K / inputs times it at least: in directions that few samples show,
# weights stay where they are.
_RIDGE_OF_OWN, _RIDGE_OF_MEAN, _RIDGE_OF_SQUARE = 1e-2, 1e-4, 1e-9
# What the sums of one pass over the samples may take.
_SUMS_BYTES = 192 * 1024 * 1024
# Larger layers are searched one at a time: each takes several times its sums.
_LARGE_BYTES = 32 * 1024 * 1024
_REDUCED_QMAX, _QMAX = 64, 127


@dataclass(frozen=True, slots=True, eq=False)
class _Rounded:
    """New codes of one layer.

    Attributes:
        weight: Codes.
        bias: Codes, where there is a bias.
        gain_db: By how much the squared error that its weights cause fell on the samples.
    """

    weight: QuantizedTensor
    bias: QuantizedTensor | None
    gain_db: float


def learn_rounding(
    model: QuantizedModel,
    dataset: Dataset,
    *,
    num_samples: int = 128,
    threads: int = 0,
    progress: Progress | None = None,
) -> QuantizedModel:
    """Choose the codes of weights by the inputs that their layers get.

    Conv, Gemm and MatMul by a matrix are rounded; other layers, and those whose Gram matrices would
    not fit in 192 MiB, are left as they are. Networks with more than that are done in several
    passes, the first layers first.

    Args:
        model: The quantized model; scales stay.
        dataset: The samples.
        num_samples: At most how many of them, evenly spaced.
        threads: How many to use; 0: one per core. The result does not depend on it.
        progress: Told after every batch: samples done, samples in all, over all passes.

    Returns:
        The model with new codes of weights and biases and one note.

    Raises:
        ConfigError: ``num_samples`` is below 1.
        UnreadableSampleError: Not one sample could be read.
    """
    if num_samples < 1:
        raise ConfigError(f"the number of samples must be at least 1, got {num_samples}")
    count = min(num_samples, len(dataset))
    chosen = dataset.take([index * len(dataset) // count for index in range(count)])
    passes = list(_passes(model))
    gains: list[float] = []
    for position, nodes in enumerate(passes):

        def tell(done: int, total: int, before: int = position) -> None:
            if progress is not None:
                progress(before * total + done, len(passes) * total)

        moments = input_moments(model, nodes, chosen, threads=threads, progress=tell)
        model = _with_rounded(model, nodes, moments, threads or available_threads(), gains)
    if not gains:
        return model
    layers = "1 layer" if len(gains) == 1 else f"{len(gains)} layers"
    message = (
        f"weights of {layers} rounded for their inputs: the squared error they cause in their "
        f"layer's output fell by {sum(gains) / len(gains):.1f} dB on average"
        f"{_left_out(model)}"
    )
    note = PassNote("learned_rounding", "", "", True, message)
    return replace(model, notes=(*model.notes, note))


def _passes(model: QuantizedModel) -> Iterator[list[Node]]:
    """The layers to be rounded, in order, cut into what one pass can hold."""
    nodes: list[Node] = []
    held = 0
    for node in model.prepared.program.nodes:
        size = _sums_bytes(node, model)
        if not 0 < size <= _SUMS_BYTES:
            continue
        if held + size > _SUMS_BYTES:
            yield nodes
            nodes, held = [], 0
        nodes.append(node)
        held += size
    if nodes:
        yield nodes


def _left_out(model: QuantizedModel) -> str:
    """A word on the integer layers with weights that this step does not round."""
    names = [
        node.name
        for node in model.prepared.program.nodes
        if node.name not in model.plan.kept_float
        and weight_and_bias(node)[0] in model.constants
        and not 0 < _sums_bytes(node, model) <= _SUMS_BYTES
    ]
    if not names:
        return ""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"; left as they are (too large, or transposed): {names[0]}{more}"


def _sums_bytes(node: Node, model: QuantizedModel) -> int:
    """What the sums of a layer take; 0 for what is no such layer."""
    if node.name in model.plan.kept_float:
        return 0
    arrays = model.prepared.program.constants
    weight, _ = weight_and_bias(node)
    if weight not in arrays or node.inputs[0] in arrays:
        return 0
    params = model.constants[weight].params
    if params.dtype != np.int8 or params.zero_point.any():
        return 0
    return gram_bytes(node, arrays[weight])


def _with_rounded(
    model: QuantizedModel,
    nodes: Sequence[Node],
    moments: dict[str, InputMoments],
    threads: int,
    gains: list[float],
) -> QuantizedModel:
    found: dict[str, _Rounded] = {}

    def search(node: Node) -> None:
        # Each is needed once: what it takes is free for the next.
        rounded = _rounded(model, node, moments.pop(node.name))
        if rounded is not None:
            found[node.name] = rounded

    known = [node for node in nodes if node.name in moments]
    large = [node for node in known if _sums_bytes(node, model) > _LARGE_BYTES]
    for_each(search, [node for node in known if node not in large], threads)
    for_each(search, large, 1)
    constants, bounds = dict(model.constants), dict(model.accumulator_bounds)
    for node in nodes:
        rounded = found.get(node.name)
        if rounded is None:
            continue
        weight_name, bias_name = weight_and_bias(node)
        new = {**constants, weight_name: rounded.weight}
        if rounded.bias is not None:
            new[bias_name] = rounded.bias
        bound = node_bound(node, model.prepared.program, model.plan, new)
        if bound is not None and bound <= accumulator_max(model.plan.params[node.inputs[0]]):
            constants, bounds[node.name] = new, bound
            gains.append(rounded.gain_db)
    return replace(model, constants=constants, accumulator_bounds=bounds)


def _rounded(model: QuantizedModel, node: Node, moments: InputMoments) -> _Rounded | None:
    """Better codes of one layer, or None where none were found."""
    arrays = model.prepared.program.constants
    weight_name, bias_name = weight_and_bias(node)
    weight, coded = arrays[weight_name], model.constants[weight_name]
    scale, _ = coded.params.aligned(weight.ndim)
    steps = np.broadcast_to(scale.astype(np.float64), weight.shape)
    unit = _matrices(node, steps)[:, 0]  # one scale per output: the same along K
    target = _matrices(node, weight / steps)
    before = _matrices(node, coded.data.astype(np.float64))
    hessian = moments.covariance  # changed: nobody else reads it
    if not bias_name:
        hessian += moments.mean[:, :, np.newaxis] * moments.mean[:, np.newaxis, :]
    ridge = _add_ridge(hessian, moments)
    largest = _REDUCED_QMAX if np.abs(before).max(initial=0) <= _REDUCED_QMAX else _QMAX
    after = _search(before, target, hessian, largest)

    codes = np.empty(weight.shape, coded.data.dtype)
    view = weight_matrices(node, codes)
    assert view is not None
    view[...] = after
    error_before, error_after = (
        unit**2
        * (
            quadratic_form(each, target, hessian)
            - (ridge[:, :, np.newaxis] * np.square(each - target)).sum(axis=1)
        )
        for each in (before, after)
    )
    bias: QuantizedTensor | None = None
    if bias_name:
        means = moments.mean[:, np.newaxis, :]
        real = _per_output(arrays[bias_name], unit.shape)
        shift_before = (means @ (before - target))[:, 0] * unit
        shift_after = (means @ (after - target))[:, 0] * unit
        x_params = model.plan.params[node.inputs[0]]
        bias = quantize_bias((real - shift_after).reshape(-1), x_params, coded.params)
        old = _per_output(model.constants[bias_name].dequantize(), unit.shape)
        new = _per_output(bias.dequantize(), unit.shape)
        error_before += (shift_before + old - real) ** 2
        error_after += (shift_after + new - real) ** 2
    total_before, total_after = float(error_before.sum()), float(error_after.sum())
    if not 0 < total_after < total_before:
        return None
    gain_db = 10 * math.log10(total_before / total_after)
    return _Rounded(QuantizedTensor(codes, coded.params), bias, gain_db)


def _search(
    before: Float64Array, target: Float64Array, hessian: Float64Array, largest: int
) -> Float64Array:
    """Per output what was found, or the codes there are where those are as good."""
    start = nearest_plane(target, hessian, largest)
    found = descend(start, target, hessian, largest, sweeps=_SWEEPS)
    is_better = quadratic_form(found, target, hessian) < quadratic_form(before, target, hessian)
    best: Float64Array = np.where(is_better[:, np.newaxis], found, before)
    return best


def _add_ridge(hessian: Float64Array, moments: InputMoments) -> Float64Array:
    """Make ``hessian`` positive definite, in place; what was added to its diagonal, (group, K)."""
    diagonal = np.einsum("gkk->gk", hessian)
    own = np.maximum(diagonal, 0.0)
    # Of fewer inputs than taps, correlations are chance: what fits them harms other samples.
    ridge: Float64Array = max(_RIDGE_OF_OWN, hessian.shape[1] / moments.count) * own
    ridge += _RIDGE_OF_MEAN * own.mean(axis=1, keepdims=True)
    # What is left of a constant input is the rounding error of its square.
    ridge += _RIDGE_OF_SQUARE * np.square(moments.mean).max(axis=1, keepdims=True)
    diagonal += ridge
    return ridge


def _matrices(node: Node, array: npt.NDArray[np.number]) -> Float64Array:
    matrices = weight_matrices(node, array)
    assert matrices is not None
    return np.ascontiguousarray(matrices, np.float64)


def _per_output(bias: npt.NDArray[np.number], shape: tuple[int, ...]) -> Float64Array:
    """A bias of one number per output, or one for all, as (group, O / group)."""
    flat = np.broadcast_to(bias.reshape(-1), (math.prod(shape),))
    return np.asarray(flat, np.float64).reshape(shape)
