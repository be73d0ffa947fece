"""A network cut into blocks where its graph is a single path.

Between two cuts may lie anything; with a residual sum no cut can lie inside, so residual blocks
stay whole (Li et al. 2021, BRECQ, arXiv:2102.05426, section 3.2). Along a plain chain the pieces
are joined again: up to the product that mixes the channels a depthwise layer left apart, which is
what an inverted residual or a separable convolution is, or to a few products.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from quantkit.graph.program import Node, Program
from quantkit.ops.contract import OPS

_MOST_PRODUCTS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Consecutive nodes of a network.

    Attributes:
        start: Position of the first node in the program.
        nodes: The nodes, in its order.
        inputs: Computed values (or inputs of the graph) that they read and do not make.
        outputs: Values that they make and later nodes read, and outputs of the graph.
        refusal: Why the block has no gradients, or None.
    """

    start: int
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    refusal: str | None

    @property
    def stop(self) -> int:
        """Position behind the last node."""
        return self.start + len(self.nodes)


def cut_blocks(program: Program, refusal: Callable[[Node], str | None]) -> tuple[Block, ...]:
    """Cut a program; every node belongs to one block.

    Args:
        program: The graph.
        refusal: Why a node has no gradients, or None; such a node is joined with no other piece.
    """
    blocks: list[Block] = []
    joined: list[Node] = []
    for piece in _with_followers(_pieces(program), refusal):
        is_plain = len(_products(piece)) <= 1 and not any(map(refusal, piece))
        if joined and not (is_plain and _may_grow(joined, piece, program)):
            blocks.append(_block(program, blocks, joined, refusal))
            joined = []
        joined += piece
        if not is_plain:
            blocks.append(_block(program, blocks, joined, refusal))
            joined = []
    if joined:
        blocks.append(_block(program, blocks, joined, refusal))
    return tuple(blocks)


def join_blocks(program: Program, blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Blocks that follow each other and have gradients, as one.

    Args:
        program: The graph.
        blocks: All of its blocks, in order.
    """
    runs: list[list[Block]] = []
    for block in blocks:
        if runs and block.refusal is None and runs[-1][-1].refusal is None:
            runs[-1].append(block)
        else:
            runs.append([block])
    joined: list[Block] = []
    for run in runs:
        nodes = [node for block in run for node in block.nodes]
        joined.append(_block(program, joined, nodes, lambda _: None))
        joined[-1] = replace(joined[-1], refusal=run[0].refusal)
    return tuple(joined)


def _pieces(program: Program) -> list[list[Node]]:
    """The nodes between values that alone lead on."""
    producers = {
        name: position for position, node in enumerate(program.nodes) for name in node.outputs
    }
    last_read = dict[str, int]()
    for position, node in enumerate(program.nodes):
        last_read |= {name: position for name in node.inputs if name not in program.constants}
    pieces: list[list[Node]] = [[]]
    alive = {spec.name for spec in program.inputs}
    for position, node in enumerate(program.nodes):
        pieces[-1].append(node)
        alive |= {name for name in node.outputs if name}
        alive = {name for name in alive if last_read.get(name, -1) > position}
        if len(alive) == 1 and next(iter(alive)) in producers:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _with_followers(
    pieces: Sequence[list[Node]], refusal: Callable[[Node], str | None]
) -> list[list[Node]]:
    """The pieces, each with the clamps, pools and reshapes that follow it."""
    grown: list[list[Node]] = []
    for piece in pieces:
        is_follower = not _products(piece) and len(piece) == 1 and refusal(piece[0]) is None
        if grown and is_follower and not any(map(refusal, grown[-1])):
            grown[-1] = [*grown[-1], *piece]
        else:
            grown.append(piece)
    return grown


def _may_grow(joined: Sequence[Node], piece: Sequence[Node], program: Program) -> bool:
    """Whether a block may take in the next piece of a chain."""
    added = _products(piece)
    if not added:
        return True
    products = _products(joined)
    mixed = [_mixes_channels(node, program) for node in products]
    if any(not before and after for before, after in pairwise(mixed)):
        return False
    # Where a depthwise layer follows, the block may end behind it and what mixes its channels.
    return len(products) < _MOST_PRODUCTS


def _products(nodes: Sequence[Node]) -> list[Node]:
    return [
        node
        for node in nodes
        if node.domain == "" and node.op_type in OPS and OPS[node.op_type].rule.weight is not None
    ]


def _mixes_channels(node: Node, program: Program) -> bool:
    weight = program.constants.get(node.inputs[1])
    return node.integer("group", 1) == 1 or weight is None or weight.shape[1] > 1


def _block(
    program: Program,
    before: Sequence[Block],
    nodes: Sequence[Node],
    refusal: Callable[[Node], str | None],
) -> Block:
    start = before[-1].stop if before else 0
    made = {name for node in nodes for name in node.outputs if name}
    read = dict.fromkeys(name for node in nodes for name in node.inputs if name)
    later = {name for node in program.nodes[start + len(nodes) :] for name in node.inputs}
    kept = later | program.output_names()
    reasons = (f"{node.name}: {reason}" for node in nodes if (reason := refusal(node)))
    return Block(
        start=start,
        nodes=tuple(nodes),
        inputs=tuple(name for name in read if name not in made and name not in program.constants),
        outputs=tuple(name for node in nodes for name in node.outputs if name in kept and name),
        refusal=next(reasons, None),
    )
