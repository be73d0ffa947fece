"""The float network and the quantized one side by side, node by node, all samples at each.

Every sample is a batch of its own and has values of its own: what a node does to the batch axis
does not matter. Only what later nodes read is held.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from quantkit.graph.ort_session import between, open_session
from quantkit.graph.program import Array, Program
from quantkit.integer_session import IntegerSession, Step
from quantkit.numerics.affine import quantize
from quantkit.ops.parallel import available_threads, for_each
from quantkit.quantized_model.model import QuantizedModel
from quantkit.recovery.block_values import Values, alive

Found = TypeVar("Found")


def first_values(model: QuantizedModel, feeds: Sequence[Mapping[str, Array]]) -> list[Values]:
    """The graph's inputs, of every sample."""
    params = model.plan.params
    return [
        Values(
            feed,
            {
                name: quantize(array, params[name]) if name in params else array
                for name, array in feed.items()
            },
        )
        for feed in feeds
    ]


def passed(
    model: QuantizedModel, session: IntegerSession, step: Step, values: Sequence[Values]
) -> list[Values]:
    """What a node gives in both networks, of every sample.

    Args:
        model: The quantized model.
        session: A session of it; it runs the node on codes.
        step: The node, ready to run.
        values: What it reads.
    """
    constants = model.prepared.program.constants
    read = [name for name in step.node.inputs if name and name not in constants]
    dtypes = {name: values[0].real[name].dtype for name in read}
    outputs = [name for name in step.node.outputs if name]
    real = open_session(between(model.prepared.model, dtypes, outputs), threads=1)
    return each(
        values,
        lambda _, value: Values(
            real.run({name: value.real[name] for name in dtypes}),
            session.run_step(step, value.codes),
        ),
    )


def kept(
    program: Program, position: int, values: Sequence[Values], made: Sequence[Values]
) -> list[Values]:
    """What the nodes behind a position read, of every sample.

    Args:
        program: The graph.
        position: Of the node that ran last.
        values: What there was before it.
        made: What it gave.
    """
    last_use = _last_use(program)
    return [
        Values(
            alive({**before.real, **now.real}, last_use, position),
            alive({**before.codes, **now.codes}, last_use, position),
        )
        for before, now in zip(values, made, strict=True)
    ]


def each(values: Sequence[Values], work: Callable[[int, Values], Found]) -> list[Found]:
    """What a function makes of every position and its sample, several at a time."""
    found: dict[int, Found] = {}

    def store(at: int) -> None:
        found[at] = work(at, values[at])

    for_each(store, range(len(values)), available_threads())
    return [found[at] for at in range(len(values))]


def sample_bytes(model: QuantizedModel) -> int:
    """What a sample's values take at most at a time, floats and codes, as far as shapes tell."""
    program = model.prepared.program
    last_use = _last_use(program)
    known = dict(program.specs) | {spec.name: spec for spec in program.inputs}

    def size(name: str) -> int:
        shape = known[name].shape if name in known else None
        return 5 * math.prod(d for d in (shape or ())[1:] if isinstance(d, int))

    held = {spec.name: size(spec.name) for spec in program.inputs}
    largest = sum(held.values())
    for position, node in enumerate(program.nodes):
        held |= {name: size(name) for name in node.outputs if name}
        largest = max(largest, sum(held.values()))
        held = {name: held[name] for name in held if last_use.get(name, -1) > position}
    return max(largest, 1)


def _last_use(program: Program) -> dict[str, int]:
    return {name: at for at, node in enumerate(program.nodes) for name in node.inputs if name}
