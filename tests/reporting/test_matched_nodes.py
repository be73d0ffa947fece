"""Nodes are found by name, by what they write, by what they read."""

from quantkit.graph.model_io import program_of
from quantkit.graph.program import Program
from quantkit.reporting.matched_nodes import match_nodes
from tests.small_networks import float_model


def program(nodes: str) -> Program:
    return program_of(float_model(f"(float[N,4] x) => (float[N,4] y) {{ {nodes} }}"))


CHAIN = program("[a] h = Relu(x) [b] i = Neg(h) [c] j = Neg(i) [d] y = Add(h, j)")


def names(first: Program, second: Program) -> list[tuple[str, str]]:
    return [(one.name, other.name) for one, other in match_nodes(first, second).pairs]


def test_by_name() -> None:
    assert names(CHAIN, CHAIN) == [(name, name) for name in "abcd"]


def test_renamed_nodes_and_values_keep_their_places() -> None:
    other = program("[q] h2 = Relu(x) [r] i2 = Neg(h2) [s] j2 = Neg(i2) [t] y = Add(h2, j2)")
    assert names(CHAIN, other) == [("a", "q"), ("b", "r"), ("c", "s"), ("d", "t")]
    found = match_nodes(CHAIN, other)
    assert {**found.values} == {"x": "x", "h": "h2", "i": "i2", "j": "j2", "y": "y"}


def test_what_is_written_comes_before_what_is_read() -> None:
    first = program("[a] h = Neg(x) [b] i = Neg(x) [c] y = Add(h, i)")
    second = program("[q] i = Neg(x) [p] h = Neg(x) [c] y = Add(h, i)")
    assert names(first, second) == [("a", "p"), ("b", "q"), ("c", "c")]


def test_nodes_of_one_alone_are_passed_through() -> None:
    shorter = program("[a] h = Relu(x) [c] j = Neg(h) [d] y = Add(h, j)")
    found = match_nodes(CHAIN, shorter)
    assert [node.name for node in found.only_first] == ["b"]
    assert found.only_second == ()
    pairs = {first.name: found.read_by(first, second) for first, second in found.pairs}
    assert pairs == {"a": ("the input",) * 2, "c": ("a", "a"), "d": ("a, c",) * 2}


def test_another_input_is_seen() -> None:
    other = program("[a] h = Relu(x) [b] i = Neg(h) [c] j = Neg(i) [d] y = Add(i, j)")
    found = match_nodes(CHAIN, other)
    read = {first.name: found.read_by(first, second) for first, second in found.pairs}
    assert read["d"] == ("a, c", "b, c")
