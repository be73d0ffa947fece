"""How much memory a network's activations take at most, by their life spans in the graph's order.

A value lives from the node that makes it (an input: from the start) to the last node that reads it
(an output: to the end). While a node runs, what it reads and what it writes are all alive. An
absorbed clamp has no buffer of its own: its producer writes the clamped values. Scratch memory of
kernels, constants and buffers that an engine shares or copies are not counted.
"""

from collections.abc import Mapping

import numpy as np

from quantkit.graph.cost import StaticShapes
from quantkit.graph.program import Program


def peak_activation_bytes(
    program: Program,
    clamps: Mapping[str, str],
    codes: Mapping[str, np.dtype[np.generic]] | None = None,
) -> int | None:
    """Most bytes of activations alive at a time, for one sample.

    Args:
        program: The graph; nodes in the order they run.
        clamps: Absorbed clamps: their names -> the nodes that absorb them.
        codes: dtype of the codes of quantized values, by name; others have their own dtype.

    Returns:
        None where a shape is unknown. A dynamic batch is 1.
    """
    shapes, codes = StaticShapes(program), codes or {}
    specs = {**program.specs, **{spec.name: spec for spec in program.inputs}}
    buffer: dict[str, str] = {}
    for node in program.nodes:
        if node.name in clamps:
            buffer[node.outputs[0]] = buffer.get(node.inputs[0], node.inputs[0])
    inputs = {spec.name for spec in program.inputs}
    outputs = {buffer.get(name, name) for name in program.output_names()}
    steps = [
        (
            {buffer.get(name, name) for name in node.inputs if name not in program.constants}
            - {""},
            {buffer.get(name, name) for name in node.outputs} - {""},
        )
        for node in program.nodes
    ]
    last_read = {name: at for at, (read, _) in enumerate(steps) for name in read}
    sizes: dict[str, int] = {}
    for name in inputs.union(*(written for _, written in steps)):
        shape = shapes.of(name)
        # Strings and values of unknown type have no fixed size.
        if shape is None or specs[name].dtype.kind in "OV":
            return None
        dtype = codes.get(name, specs[name].dtype)
        sizes[name] = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    alive = {name for name in inputs if name in last_read or name in outputs}
    peak = sum(sizes[name] for name in alive)
    for at, (_, written) in enumerate(steps):
        alive |= written
        peak = max(peak, sum(sizes[name] for name in alive))
        alive = {name for name in alive if name in outputs or last_read.get(name, -1) > at}
    return peak
