"""Peaks counted by hand, and a brute force that asks of every value at every node."""

import numpy as np
import onnx_ir as ir
import pytest

from quantkit.graph.activation_memory import peak_activation_bytes
from quantkit.graph.model_io import program_of
from quantkit.graph.program import Program
from quantkit.passes.prepare import prepare
from tests.small_networks import NETWORKS, float_model

UINT8 = np.dtype(np.uint8)


def program(text: str) -> Program:
    return prepare(float_model(text)).program


# x: 3 * 16 = 48 values, h and r: 4 * 16 = 64, y: 2 * 16 = 32.
CHAIN = """(float[N,3,4,4] x, float[4,3,1,1] w, float[2,4,1,1] v) => (float[N,2,4,4] y) {
    [first] h = Conv(x, w)
    [clamp] r = Relu(h)
    [last] y = Conv(r, v)
}"""


def test_a_chain() -> None:
    found = prepare(float_model(CHAIN))
    # first: x and h; last: h and y.
    assert peak_activation_bytes(found.program, found.clamps) == 4 * (48 + 64)
    # Codes of one byte but for the input, whose values are floats.
    codes = dict.fromkeys(("h", "r", "y"), UINT8)
    assert peak_activation_bytes(found.program, found.clamps, codes) == 4 * 48 + 64
    # A clamp that is not absorbed writes a buffer of its own.
    assert peak_activation_bytes(found.program, {}) == 4 * (64 + 64)


def test_a_skip_connection_keeps_its_value_alive() -> None:
    text = """(float[N,2,4,4] x, float[8,2,1,1] w, float[2,8,1,1] v) => (float[N,2,4,4] y) {
        h = Conv(x, w)
        p = Conv(h, v)
        y = Add(p, x)
    }"""
    # While the second Conv runs: x (32), h (128) and p (32).
    assert peak_activation_bytes(program(text), {}) == 4 * (32 + 128 + 32)


def test_outputs_live_to_the_end_and_unused_inputs_never() -> None:
    text = """(float[N,4] x, float[N,100] x2, float[4,4] w) => (float[N,4] a, float[N,4] y) {
        a = MatMul(x, w)
        b = MatMul(a, w)
        y = MatMul(b, w)
    }"""
    # a, b and y at the last node.
    assert peak_activation_bytes(program(text), {}) == 4 * 12


def test_an_unknown_shape_is_told() -> None:
    text = "(float[N,3,H,W] x) => (float[N,3,H,W] y) {\n y = Sigmoid(x)\n}"
    assert peak_activation_bytes(program(text), {}) is None


@pytest.mark.parametrize("name", NETWORKS)
def test_brute_force(name: str) -> None:
    found = prepare(NETWORKS[name].model())
    graph = found.program
    own = {
        node.outputs[0]: node.inputs[0] for node in graph.nodes if node.name in found.clamps
    }  # a clamp's output lies where its input does
    sizes = {
        spec.name: 4 * int(np.prod([d if isinstance(d, int) else 1 for d in spec.shape or ()]))
        for spec in (*graph.specs.values(), *graph.inputs)
    }

    def home(value: str) -> str:
        while value in own:
            value = own[value]
        return value

    def is_alive(value: str, at: int) -> bool:
        names = [name for name in sizes if home(name) == value]
        made = [i for i, node in enumerate(graph.nodes) if value in node.outputs]
        start = made[0] if made else -1
        reads = [i for i, node in enumerate(graph.nodes) if set(names) & set(node.inputs)]
        end = max(reads, default=start)
        if set(names) & graph.output_names():
            end = len(graph.nodes)
        return start <= at <= end

    values = {home(name) for name in sizes if name not in graph.constants}
    expected = max(
        sum(sizes[value] for value in values if is_alive(value, at))
        for at in range(len(graph.nodes))
    )
    assert peak_activation_bytes(graph, found.clamps) == expected


def test_the_graph_is_only_read() -> None:
    model = float_model(CHAIN)
    before = ir.to_proto(model).SerializeToString()
    peak_activation_bytes(program_of(model), {})
    assert ir.to_proto(model).SerializeToString() == before
