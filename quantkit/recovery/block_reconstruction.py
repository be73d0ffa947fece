"""Fit rounding, biases and activation steps of whole blocks to the float network's values.

Blocks are fitted in order: the inputs are what the network quantized so far gives, the targets are
the float network's values, so a block also makes up for errors of those before it (Li et al. 2021,
BRECQ, arXiv:2102.05426). Joined as far as gradients reach, in most networks from the input to the
logits, they are fitted together: what an error does to the network's output is then the loss.
Single blocks do not know that: on MobileNetV2 fitting them lowered each block's error and yet
raised the output's, so they are fitted joined unless asked otherwise.

A block is kept as it was unless its integer codes come nearer to the float values on samples that
it was not fitted to.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from quantkit.calibration.batches import fixed_batch
from quantkit.calibration.collector import Progress
from quantkit.calibration.dataset import Dataset
from quantkit.graph.program import Node
from quantkit.ops.parallel import available_threads
from quantkit.passes.note import PassNote
from quantkit.quantized_model.model import QuantizedModel
from quantkit.recovery.block_fitting import Samples, fit
from quantkit.recovery.block_model import learnable_of, with_block
from quantkit.recovery.block_values import (
    Values,
    alive,
    first_values,
    float_values,
    integer_values,
    most_samples,
    squared_error,
)
from quantkit.recovery.blocks import Block, cut_blocks, join_blocks
from quantkit.recovery.operation_gradients import gradient_refusal

# Of the samples, one in so many is not fitted to.
_HELD_BACK = 8
# How many samples go through joined blocks at a time, on each thread: all activations are kept.
_JOINED_CHUNK = 2


@dataclass(frozen=True, slots=True)
class _Schedule:
    """How a block is fitted.

    Attributes:
        iterations: How many.
        batch_size: Samples per iteration.
        chunk_size: Samples that go through at a time.
        seed: Of their order.
    """

    iterations: int
    batch_size: int
    chunk_size: int
    seed: int


def reconstruct_blocks(
    model: QuantizedModel,
    dataset: Dataset,
    *,
    batch_size: int = 16,
    iterations: int = 0,
    joined_iterations: int = 100,
    seed: int = 0,
    progress: Progress | None = None,
) -> QuantizedModel:
    """Fit every block whose nodes are all integer and have gradients.

    Args:
        model: The quantized model.
        dataset: Samples; one in eight only judges.
        batch_size: Samples per iteration.
        iterations: Per block; 0: blocks are only fitted joined.
        joined_iterations: Per run of joined blocks; 0: they are not joined.
        seed: Of the samples' order; the result is a function of it.
        progress: Told after every block: blocks done, blocks in all.

    Returns:
        The model with new codes of weights and biases, new scales of activations, and one note.

    Raises:
        UnreadableSampleError: Not one sample could be read.
    """
    program, kept_float = model.prepared.program, model.plan.kept_float

    def refusal(node: Node) -> str | None:
        return "it stays float" if node.name in kept_float else gradient_refusal(node, program)

    blocks = cut_blocks(program, refusal)
    joined = join_blocks(program, blocks)
    fixed = fixed_batch(program.inputs)
    passes: list[tuple[Sequence[Block], _Schedule]] = []
    for cut, count, chunk in (
        (blocks, iterations, fixed or max(1, batch_size // 2)),
        (joined, joined_iterations, fixed or _JOINED_CHUNK),
    ):
        if count:
            rounded = max(chunk, batch_size // chunk * chunk)
            passes.append((cut, _Schedule(count, rounded, chunk, seed)))
    total, done = sum(len(cut) for cut, _ in passes), 0
    sentences: list[str] = []
    for pieces, schedule in passes:
        values = first_values(model, dataset, most_samples(model, blocks, len(dataset)))
        last_use = {name: at for at, block in enumerate(pieces) for name in block.inputs}
        gains: list[float] = []
        for position, block in enumerate(pieces):
            model, outputs, gain = _reconstruct(model, block, values, schedule)
            gains += [] if gain is None else [gain]
            values = Values(
                alive({**values.real, **outputs.real}, last_use, position),
                alive({**values.codes, **outputs.codes}, last_use, position),
            )
            done += 1
            if progress is not None:
                progress(done, total)
        if gains:
            sentences.append(_sentence(pieces, gains, is_joined=pieces is joined))
    if not sentences:
        return model
    note = PassNote("block_reconstruction", "", "", True, "; ".join(sentences))
    return replace(model, notes=(*model.notes, note))


def _reconstruct(
    model: QuantizedModel, block: Block, values: Values, schedule: _Schedule
) -> tuple[QuantizedModel, Values, float | None]:
    """The model, the block's outputs, and by how many dB its error fell; None: it was left."""
    real = float_values(model, block, values.real, schedule.chunk_size)
    codes = integer_values(model, block, values.codes, schedule.chunk_size)
    unchanged = model, Values(real, codes), None
    learnable = None if block.refusal else learnable_of(model, block)
    count = len(next(iter(real.values())))
    held_back = range(0, count, _HELD_BACK)
    rows = [row for row in range(count) if row not in held_back]
    if learnable is None or not rows:
        return unchanged
    variables = fit(
        learnable,
        Samples({name: values.codes[name] for name in block.inputs}, model.plan.params, real),
        rows,
        batch_size=schedule.batch_size,
        chunk_size=schedule.chunk_size,
        iterations=schedule.iterations,
        seed=schedule.seed,
        threads=available_threads(),
    )
    candidate = with_block(model, learnable, variables)
    if candidate is None:
        return unchanged
    new_codes = integer_values(candidate, block, values.codes, schedule.chunk_size)
    before = squared_error(codes, real, model, held_back)
    after = squared_error(new_codes, real, candidate, held_back)
    if not after < before:
        return unchanged
    gain = 10 * math.log10(before / after) if after else math.inf
    return candidate, Values(real, new_codes), gain


def _sentence(blocks: Sequence[Block], gains: Sequence[float], *, is_joined: bool) -> str:
    what = "runs of joined blocks" if is_joined else "blocks"
    mean = sum(gains) / len(gains)
    return (
        f"{len(gains)} of {len(blocks)} {what} fitted to the float network's values: error on "
        f"samples held back {mean:.1f} dB lower on average"
    )
