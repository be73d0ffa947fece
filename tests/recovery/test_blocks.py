import pytest

from quantkit.graph.program import Node, Program
from quantkit.passes.prepare import prepare
from quantkit.recovery.blocks import Block, cut_blocks, join_blocks
from tests.small_networks import NETWORKS, Network

SEPARABLE = Network(
    """(float[N,3,8,8] x, float[4,3,3,3] w0, float[4,1,3,3] w1, float[8,4,1,1] w2,
      float[8,1,3,3] w3, float[8,8,1,1] w4) => (float[N,8,2,2] y) {
      [c0] a = Conv(x, w0)
      [r0] b = Relu(a)
      [c1] c = Conv<group = 4>(b, w1)
      [c2] d = Conv(c, w2)
      [r2] e = Relu(d)
      [c3] f = Conv<group = 8>(e, w3)
      [c4] y = Conv(f, w4)
    }""",
    (3, 8, 8),
)


def no_refusal(node: Node) -> str | None:
    return None


def names(blocks: tuple[Block, ...]) -> list[list[str]]:
    return [[node.name for node in block.nodes] for block in blocks]


def check_covered(program: Program, blocks: tuple[Block, ...]) -> None:
    assert [node for block in blocks for node in block.nodes] == list(program.nodes)
    assert [block.start for block in blocks[1:]] == [block.stop for block in blocks[:-1]]


def test_chains_are_cut_behind_separable_convolutions() -> None:
    program = prepare(SEPARABLE.model()).program
    blocks = cut_blocks(program, no_refusal)
    assert names(blocks) == [["c0", "r0", "c1", "c2", "r2"], ["c3", "c4"]]
    check_covered(program, blocks)
    assert [(block.inputs, block.outputs) for block in blocks] == [
        (("x",), ("e",)),
        (("e",), ("y",)),
    ]


def test_residual_blocks_stay_whole() -> None:
    program = prepare(NETWORKS["mobile"].model()).program
    blocks = cut_blocks(program, no_refusal)
    of_node = {node.name: position for position, block in enumerate(blocks) for node in block.nodes}
    assert of_node["depthwise"] == of_node["project"] == of_node["join"]
    assert of_node["stem"] < of_node["depthwise"] < of_node["last"]
    check_covered(program, blocks)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_network_is_covered(name: str) -> None:
    program = prepare(NETWORKS[name].model()).program
    blocks = cut_blocks(program, no_refusal)
    check_covered(program, blocks)
    outputs = {value for block in blocks for value in block.outputs}
    assert {spec.name for spec in program.outputs} <= outputs | {i.name for i in program.inputs}
    check_covered(program, join_blocks(program, blocks))


def test_refused_nodes_part_the_joined_blocks() -> None:
    program = prepare(SEPARABLE.model()).program
    blocks = cut_blocks(program, lambda node: "no" if node.name == "c1" else None)
    joined = join_blocks(program, blocks)
    assert names(joined) == [["c0", "r0"], ["c1"], ["c2", "r2", "c3", "c4"]]
    assert [block.refusal for block in joined] == [None, "c1: no", None]
