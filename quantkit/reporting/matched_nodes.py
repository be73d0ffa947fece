"""Which nodes of two graphs are the same: by name, else by op and by what they read.

Tools rename nodes and values when they write a quantized file ("conv" -> "conv_quant"). Values of
one name are the same; so are those that pairs of nodes write: that tells what the next nodes read.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from quantkit.graph.program import Node, Program


@dataclass(frozen=True, slots=True, eq=False)
class MatchedNodes:
    """Pairs of nodes and of computed values.

    Attributes:
        graphs: Both.
        pairs: The same node in both, in the first graph's order.
        values: Value of the first graph, computed or an input -> the same of the second.
        only_first: Nodes without a partner.
        only_second: The same, of the second graph.
    """

    graphs: tuple[Program, Program]
    pairs: tuple[tuple[Node, Node], ...]
    values: Mapping[str, str]
    only_first: tuple[Node, ...]
    only_second: tuple[Node, ...]

    def read_by(self, node: Node, other: Node) -> tuple[str, str]:
        """The nodes and inputs that a pair of nodes reads from, in the first graph's names.

        Nodes of one graph alone that have one computed input are passed through: a clamp or
        normalization may be part of the node before it in the other graph.
        """
        names = {second.name: first.name for first, second in self.pairs}
        return (
            _sources(node, self.graphs[0], {alone.name for alone in self.only_first}, {}),
            _sources(other, self.graphs[1], {alone.name for alone in self.only_second}, names),
        )


def _sources(node: Node, graph: Program, alone: set[str], names: Mapping[str, str]) -> str:
    producers, single = graph.producers(), len(graph.inputs) == 1
    found = []
    for name in _computed(node, graph):
        source = producers.get(name)
        while source is not None and source.name in alone and len(_computed(source, graph)) == 1:
            name = _computed(source, graph)[0]
            source = producers.get(name)
        if source is None:
            found.append("the input" if single else name)
        else:
            position = source.outputs.index(name)
            found.append(names.get(source.name, source.name) + (f":{position}" if position else ""))
    return ", ".join(found)


def _computed(node: Node, graph: Program) -> list[str]:
    return [name for name in node.inputs if name and name not in graph.constants]


def match_nodes(first: Program, second: Program) -> MatchedNodes:
    """Pair the nodes of two graphs.

    Args:
        first: A graph.
        second: Another, of the same network or not.
    """
    values = dict(_same_values(first, second))
    named = {node.name: node for node in second.nodes}
    renamed = [node for node in second.nodes if node.name not in {n.name for n in first.nodes}]
    partners: dict[str, Node] = {}
    for node in first.nodes:
        partner = named.get(node.name)
        if partner is None:
            partner = _partner(node, renamed, values)
            if partner is None:
                continue
            renamed.remove(partner)
        partners[node.name] = partner
        for name, other in zip(node.outputs, partner.outputs, strict=False):
            if name and other:
                values.setdefault(name, other)
    taken = {partner.name for partner in partners.values()}
    return MatchedNodes(
        (first, second),
        tuple((node, partners[node.name]) for node in first.nodes if node.name in partners),
        values,
        tuple(node for node in first.nodes if node.name not in partners),
        tuple(node for node in second.nodes if node.name not in taken),
    )


def _same_values(first: Program, second: Program) -> Iterator[tuple[str, str]]:
    """Values of one name; a single input and a single output are the same whatever their name."""
    for names, others in (
        ([spec.name for spec in program.inputs] for program in (first, second)),
        ([name for node in program.nodes for name in node.outputs] for program in (first, second)),
        ([spec.name for spec in program.outputs] for program in (first, second)),
    ):
        if len(names) == len(others) == 1:
            yield names[0], others[0]
        else:
            known = set(others)
            yield from ((name, name) for name in names if name and name in known)


def _partner(node: Node, others: list[Node], values: Mapping[str, str]) -> Node | None:
    """The node of the same op that writes a value of the same name, else that reads the same."""
    same_op = [other for other in others if other.op_type == node.op_type]
    for other in same_op:
        if other.outputs[:1] == node.outputs[:1]:
            return other
    known = set(values.values())
    read = [values[name] for name in node.inputs if name in values]
    for other in same_op:
        if read and read == [name for name in other.inputs if name in known]:
            return other
    return None
