"""What the inputs of a layer have in common: means and Gram matrices, summed over batches.

A layer is ``y[o] = sum_k W[o, k] x[k]``, at every position of every sample; of a convolution, x is
the window there. An error e of its weights then costs ``e E[x x^T] e^T`` per output, whatever the
inputs were. Groups of channels are layers of their own.

Sums run over centred codes ``x_q - z_x``, in blocks so short that every product of a block is exact
in the float that carries it (:mod:`quantkit.numerics.integer_gemm`). The results are therefore the
same bits in whatever order, and on however many threads, the batches are added.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
import numpy.typing as npt

from quantkit.calibration.batches import Batch, fixed_batch, none_readable, readable_batches
from quantkit.calibration.collector import Progress
from quantkit.calibration.dataset import Dataset
from quantkit.graph.program import Array, Node
from quantkit.integer_session import IntegerSession, open_integer_session
from quantkit.numerics.affine import IntegerArray, QuantParams
from quantkit.numerics.integer_gemm import sums_of
from quantkit.ops.parallel import available_threads, for_each
from quantkit.ops.windows import crop_same, node_windows, pad_codes
from quantkit.quantized_model.model import QuantizedModel
from quantkit.reference.windows import Windows

Float64Array = npt.NDArray[np.float64]

# Of so many windows of a sample the others differ little; of few taps, fewer are needed.
_MOST_POSITIONS = 256
_FEWEST_POSITIONS = 64
_POSITIONS_PER_TAP = 4
_BATCH_SIZE = 8


@dataclass(frozen=True, slots=True, eq=False)
class InputMoments:
    """Moments of a layer's inputs, in real units.

    Attributes:
        mean: ``E[x]``, float64, (group, K); K is ``C / group * taps`` of a convolution.
        covariance: ``E[x x^T] - E[x] E[x]^T``, float64, (group, K, K).
        count: How many x were added up.
    """

    mean: Float64Array
    covariance: Float64Array
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """Integers held by float64, changed in place.

    Attributes:
        products: (group, K, K).
        values: (group, K).
        count: (), int64.
    """

    products: Float64Array
    values: Float64Array
    count: npt.NDArray[np.int64]
    lock: Lock


def weight_matrices(node: Node, weight: npt.NDArray[np.number]) -> npt.NDArray[np.number] | None:
    """A layer's weight as ``y = x @ matrix`` of every group: a view, (group, K, O / group).

    Args:
        node: A Conv, Gemm or MatMul.
        weight: As the node holds it.

    Returns:
        None for other ops, and for a MatMul by anything but a matrix.
    """
    if node.op_type == "Conv":
        group = node.integer("group", 1)
        return weight.reshape(group, len(weight) // group, -1).swapaxes(1, 2)
    if node.op_type == "Gemm":
        return (weight.T if node.integer("transB", 0) else weight)[np.newaxis]
    return weight[np.newaxis] if node.op_type == "MatMul" and weight.ndim == 2 else None


def input_moments(
    model: QuantizedModel,
    nodes: Sequence[Node],
    dataset: Dataset,
    *,
    threads: int = 0,
    progress: Progress | None = None,
) -> dict[str, InputMoments]:
    """Moments of the inputs that integer layers get in the quantized network.

    At most 256 positions of a sample are added up; which, is a function of the dataset alone.

    Args:
        model: The quantized model.
        nodes: Of its layers, those that :func:`weight_matrices` knows.
        dataset: The samples.
        threads: How many to use; 0: one per core. The result does not depend on it.
        progress: Told after every batch: samples done, samples in all.

    Returns:
        By node name. A layer that got no input is missing.

    Raises:
        UnreadableSampleError: Not one sample could be read.
    """
    session = open_integer_session(model, threads=1)
    wanted = {node.name: _no_sums(node, model) for node in nodes}
    size = fixed_batch(dataset.inputs) or _BATCH_SIZE
    starts = range(0, len(dataset), size)
    done: list[int] = []

    def add_samples(start: int) -> None:
        indices = range(start, min(start + size, len(dataset)))
        for batch in readable_batches(dataset.take(indices), size):
            _add_batch(session, batch, start, wanted)
        done.append(len(indices))
        if progress is not None:
            progress(sum(done), len(dataset))

    for_each(add_samples, starts, threads or available_threads())
    moments: dict[str, InputMoments] = {}
    for node in nodes:
        # Sums that are not needed any more make room.
        sums = wanted.pop(node.name)
        if sums.count:
            moments[node.name] = _moments(sums, model.plan.params[node.inputs[0]])
    if nodes and not moments:
        raise none_readable(dataset)
    return moments


def gram_bytes(node: Node, weight: Array) -> int:
    """What the sums of a layer take, or 0 where :func:`weight_matrices` does not know it."""
    matrices = weight_matrices(node, weight)
    return 0 if matrices is None else 8 * len(matrices) * matrices.shape[1] ** 2


def _no_sums(node: Node, model: QuantizedModel) -> _Sums:
    matrices = weight_matrices(node, model.prepared.program.constants[node.inputs[1]])
    assert matrices is not None
    group, inner, _ = matrices.shape
    return _Sums(
        np.zeros((group, inner, inner)), np.zeros((group, inner)), np.zeros((), np.int64), Lock()
    )


def _moments(sums: _Sums, x_params: QuantParams) -> InputMoments:
    scale, count = float(x_params.scale), int(sums.count)
    mean = sums.values / count
    covariance = sums.products / count - mean[:, :, np.newaxis] * mean[:, np.newaxis, :]
    return InputMoments(mean * scale, covariance * scale**2, count)


def _add_batch(
    session: IntegerSession, batch: Batch, seed: int, wanted: Mapping[str, _Sums]
) -> None:
    remaining = len(wanted)
    padded = len(next(iter(batch.arrays.values())))
    for step, values, _ in session.run_steps(batch.arrays):
        if step.node.name not in wanted:
            continue
        x_q = values[step.node.inputs[0]]
        if len(x_q) == padded and not step.node.integer("transA", 0):
            x_q = x_q[: len(batch.names)]
        weight = session.constants[step.node.inputs[1]]
        x_params = session.params[step.node.inputs[0]]
        _add(_columns(step.node, x_q, weight, x_params, seed), x_params, wanted[step.node.name])
        remaining -= 1
        if not remaining:
            return


def _add(columns: IntegerArray, x_params: QuantParams, sums: _Sums) -> None:
    """Add the inputs of one batch, codes (group, K, inputs)."""
    carrier = sums_of(x_params)
    length = max(1, (carrier.exact - 1) // x_params.reach**2)
    for start in range(0, columns.shape[-1], length):
        block = columns[..., start : start + length].astype(carrier.real)
        block -= carrier.real.type(x_params.zero_point)
        products = block @ block.swapaxes(1, 2)
        values = block.sum(axis=2, dtype=np.float64)
        with sums.lock:
            np.add(sums.products, products, out=sums.products)
            np.add(sums.values, values, out=sums.values)
            sums.count[...] += block.shape[2]


def _columns(
    node: Node, x_q: IntegerArray, weight: Array, x_params: QuantParams, seed: int
) -> IntegerArray:
    """Codes of some of the layer's inputs, (group, K, inputs)."""
    if node.op_type == "Conv":
        return _windows_of(node, x_q, weight.shape, int(x_params.zero_point), seed)
    if node.integer("transA", 0):
        x_q = x_q.T
    samples, inner = len(x_q), x_q.shape[-1]
    rows = x_q.reshape(samples, -1, inner) if x_q.ndim > 1 else x_q.reshape(1, 1, inner)
    chosen = rows[:, _positions(rows.shape[1], inner, seed)]
    return chosen.reshape(1, -1, inner).swapaxes(1, 2)


def _windows_of(
    node: Node, x_q: IntegerArray, shape: tuple[int, ...], zero_point: int, seed: int
) -> IntegerArray:
    group, kernel_shape = node.integer("group", 1), shape[2:]
    x_q = crop_same(node, x_q, kernel_shape)
    windows = node_windows(node, x_q.shape[2:], kernel_shape)
    inner = math.prod(shape[1:])
    positions = _positions(math.prod(windows.output_shape), inner, seed)
    cells = pad_codes(x_q, windows, zero_point).reshape(*x_q.shape[:2], -1)
    # Every cell is there: "clip" only spares the check.
    taken = np.take(cells, _cells(windows, positions).reshape(-1), axis=2, mode="clip")
    by_tap = np.moveaxis(taken.reshape(*x_q.shape[:2], -1, len(positions)), 0, 2)
    return np.ascontiguousarray(by_tap).reshape(group, inner, -1)


def _cells(windows: Windows, positions: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Where every tap of some windows lies in the padded input without axes, (taps, positions)."""
    starts = np.unravel_index(positions, windows.output_shape)
    taps = np.unravel_index(np.arange(math.prod(windows.kernel_shape)), windows.kernel_shape)
    cells = np.zeros((len(taps[0]), len(positions)), np.intp)
    for axis, size in enumerate(windows.padded_shape):
        reads = taps[axis][:, np.newaxis] * windows.dilations[axis]
        cells = cells * size + reads + starts[axis] * windows.strides[axis]
    return cells


def _positions(count: int, inner: int, seed: int) -> npt.NDArray[np.intp]:
    most = min(max(_POSITIONS_PER_TAP * inner, _FEWEST_POSITIONS), _MOST_POSITIONS)
    if count <= most:
        return np.arange(count)
    # Drawn, not evenly spaced: a step that divides the width would see some columns only.
    return np.sort(np.random.default_rng((seed, count)).choice(count, most, replace=False))
