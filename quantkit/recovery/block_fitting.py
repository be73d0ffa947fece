"""Learn the variables of a block by gradient descent.

Loss: the squared error of the block's outputs. Optimizer: Adam (Kingma and Ba 2015,
arXiv:1412.6980) with a learning rate that falls to 0 along a cosine.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from quantkit.graph.program import Array
from quantkit.numerics.affine import QuantParams
from quantkit.ops.parallel import for_each
from quantkit.recovery.block_gradients import block_backward, run_block
from quantkit.recovery.block_variables import Learnable, Variables
from quantkit.reference.arrays import FloatArray

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Inputs of a block and what shall come out.

    Attributes:
        codes: By input name, (N, ...).
        params: What the codes mean; an input without is real values.
        targets: By output name, (N, ...).
    """

    codes: Mapping[str, Array]
    params: Mapping[str, QuantParams]
    targets: Mapping[str, FloatArray]

    def inputs(self, rows: Sequence[int]) -> dict[str, FloatArray]:
        """Real inputs of these samples."""
        return {
            name: _real(codes[rows], self.params.get(name)) for name, codes in self.codes.items()
        }


def _real(codes: Array, params: QuantParams | None) -> FloatArray:
    if params is None:
        return np.asarray(codes, np.float32)
    real = codes.astype(np.float32)
    real -= np.float32(params.zero_point)
    real *= params.scale
    return real


def fit(
    block: Learnable,
    samples: Samples,
    rows: Sequence[int],
    *,
    batch_size: int,
    chunk_size: int,
    iterations: int,
    seed: int,
    threads: int,
) -> Variables:
    """Learn the variables of a block.

    Args:
        block: The block.
        samples: Inputs and targets.
        rows: The samples to learn from.
        batch_size: Samples per iteration.
        chunk_size: Samples that go through the block at a time; the order in which their gradients
            are added up does not depend on threads.
        iterations: How many.
        seed: Of the samples' order.
        threads: How many chunks are worked on at the same time.
    """
    variables, rates = block.start(), block.rates()
    first = {name: np.zeros_like(array) for name, array in variables.items()}
    second = {name: np.zeros_like(array) for name, array in variables.items()}
    order = _endless_order(rows, batch_size, np.random.default_rng(seed))
    for iteration in range(iterations):
        gradient = _batch_gradient(block, samples, next(order), variables, chunk_size, threads)
        # The mean of the factor is 1 / iterations, so that rates say how far a variable can go.
        factor = (1.0 + math.cos(math.pi * iteration / iterations)) / iterations
        for name, g in gradient.items():
            first[name] += (1 - _BETA_1) * (g - first[name])
            second[name] += (1 - _BETA_2) * (g * g - second[name])
            mean = first[name] / (1 - _BETA_1 ** (iteration + 1))
            square = second[name] / (1 - _BETA_2 ** (iteration + 1))
            variables[name] -= (rates[name] * factor) * mean / (np.sqrt(square) + _EPSILON)
        for name in block.roundings:
            np.clip(variables[name], 0.0, 1.0, out=variables[name])
    return variables


def _endless_order(
    rows: Sequence[int], batch_size: int, rng: np.random.Generator
) -> Iterator[list[int]]:
    waiting: list[int] = []
    while True:
        while len(waiting) < batch_size:
            waiting += [rows[index] for index in rng.permutation(len(rows))]
        yield waiting[:batch_size]
        waiting = waiting[batch_size:]


def _batch_gradient(
    block: Learnable,
    samples: Samples,
    rows: Sequence[int],
    variables: Variables,
    chunk_size: int,
    threads: int,
) -> Variables:
    operands = block.operands(variables)
    chunks = [rows[start : start + chunk_size] for start in range(0, len(rows), chunk_size)]
    found: list[Variables] = [{} for _ in chunks]

    def work(position: int) -> None:
        chunk = chunks[position]
        activations = run_block(block.nodes, samples.inputs(chunk), operands)
        grad_outputs = {
            name: activations.values[name] - samples.targets[name][chunk] for name in block.outputs
        }
        gradients = block_backward(block.nodes, activations, grad_outputs, operands)
        found[position] = block.gradients(gradients, variables)

    for_each(work, range(len(chunks)), threads)
    total = found[0]
    for other in found[1:]:
        for name, gradient in other.items():
            total[name] = total[name] + gradient
    return total
