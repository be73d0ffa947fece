"""Slice, Split, Gather, Expand and Tile: choose or repeat values; codes move, parameters stay."""

from itertools import pairwise, zip_longest

import numpy as np

from quantkit.errors import ShapeMismatchError
from quantkit.graph.program import Array, Node
from quantkit.ops.contract import OPS
from quantkit.ops.movement import Constants, Movement, optional, required

_NO_END = (2**31 - 1, 2**63 - 1)


def slice_values(x: Array, node: Node, constants: Constants) -> Array:
    """ONNX Slice since opset 10; starts and ends beyond the axis are clamped, as Python does.

    Unlike in Python, a start before the first value means the first one backwards too; and so does
    an end of the largest int32 or int64 mean all that there is, as in onnxruntime.
    """
    starts, ends = required(node, constants, 0), required(node, constants, 1)
    axes = optional(constants, 2) or tuple(range(len(starts)))
    steps = optional(constants, 3) or (1,) * len(starts)
    index = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        start = max(start, -x.shape[axis])
        index[axis] = slice(start, None if end in _NO_END else end, step)
    return x[tuple(index)]


def split(x: Array, node: Node, constants: Constants) -> list[Array]:
    """ONNX Split: sizes from the input (opset 13) or attribute, otherwise equal parts.

    Since opset 18 the last of the equal parts may be smaller, or empty.
    """
    axis, parts = node.integer("axis", 0), len(node.outputs)
    total = x.shape[axis]
    sizes = optional(constants, 0) or node.integers("split", ())
    if not sizes:
        largest = -(-total // node.integer("num_outputs", parts))
        begins = [min(part * largest, total) for part in range(parts + 1)]
        sizes = tuple(end - begin for begin, end in pairwise(begins))
    if sum(sizes) != total or len(sizes) != parts:
        raise ShapeMismatchError(
            f"{node.name}: {parts} parts of sizes {list(sizes)} do not split {total} values"
        )
    return np.split(x, np.cumsum(sizes[:-1]), axis)


def gather(x: Array, node: Node, constants: Constants) -> Array:
    """ONNX Gather with constant indices; negative ones count from the back."""
    indices = constants[0]
    assert indices is not None
    return np.take(x, indices, axis=node.integer("axis", 0))


def expand(x: Array, node: Node, constants: Constants) -> Array:
    """ONNX Expand: broadcast both ways."""
    given = required(node, constants, 0)
    sizes = zip_longest(reversed(x.shape), reversed(given), fillvalue=1)
    return np.broadcast_to(x, tuple(b if a == 1 else a for a, b in sizes)[::-1])


def tile(x: Array, node: Node, constants: Constants) -> Array:
    """ONNX Tile: repeat the whole tensor along every axis."""
    return np.tile(x, required(node, constants, 0))


OPS.register("Slice")(Movement(slice_values))
OPS.register("Split")(Movement(split))
OPS.register("Gather")(Movement(gather))
OPS.register("Expand")(Movement(expand))
OPS.register("Tile")(Movement(tile))
