"""Which Relu and Clip nodes their producers absorb."""

import numpy as np
import pytest

from tests.models import network, normal
from tests.passes.checks import assert_prepared, notes_of

WEIGHTS = {
    "w": normal(4, 3, 1, 1),
    "low": np.array(0, np.float32),
    "high": np.array(6, np.float32),
    "one": np.array(1, np.float32),
}
TWO = "float[N,C,H,W] y, float[N,D,K,L] z"
ONE = "float[N,C,H,W] y"


@pytest.mark.parametrize(
    ("body", "clamps"),
    [
        ("[c] a = Conv (x, w)\n[r] y = Relu (a)", {"r": "c"}),
        ("[c] a = Conv (x, w)\n[r] y = Clip (a, low, high)", {"r": "c"}),
        ("[c] a = Conv (x, w)\n[r] y = Clip (a)", {"r": "c"}),
        ("[c] a = Conv (x, w)\n[r] y = Clip (a, , high)", {"r": "c"}),
        ("[c] a = Add (x, x)\n[r] y = Relu (a)", {"r": "c"}),
        (
            "[c] a = Conv (x, w)\n[r] b = Relu (a)\n[s] y = Clip (b, low, one)",
            {"r": "c", "s": "c"},
        ),
        ("[c] a = Conv (x, w)\n[i] b = Identity (a)\n[r] y = Relu (b)", {"r": "c"}),
    ],
)
def test_absorbed(body: str, clamps: dict[str, str]) -> None:
    prepared = assert_prepared(network(body, WEIGHTS))
    assert prepared.clamps == clamps
    assert all(note.applied for note in notes_of(prepared, "mark_clamps"))


@pytest.mark.parametrize(
    ("body", "outputs", "reason"),
    [
        ("[r] y = Relu (x)", ONE, "follows the graph input"),
        (
            "[c] a = Conv (x, w)\n[r] y = Relu (a)\nz = Neg (a)",
            TWO,
            "the output of c has other readers or is a graph output",
        ),
        (
            "[c] z = Conv (x, w)\n[r] y = Relu (z)",
            TWO,
            "the output of c has other readers or is a graph output",
        ),
        (
            "[c] a = Conv (x, w)\nm = ReduceMax <keepdims = 0> (x)\n[r] y = Clip (a, low, m)",
            ONE,
            "its bounds are computed",
        ),
        (
            "[p] a = MaxPool <kernel_shape = [2, 2]> (x)\n[r] y = Relu (a)",
            ONE,
            "p (MaxPool) has no range of its own",
        ),
        ("[t] a = Shrink (x)\n[r] y = Relu (a)", ONE, "t (Shrink) has no range of its own"),
        (
            "[s] a = Softmax <axis = 1> (x)\n[r] y = Clip (a, low, one)",
            ONE,
            "s (Softmax) has no range of its own",
        ),
        (
            "[g] a = com.microsoft.Gelu (x)\n[r] y = Relu (a)",
            ONE,
            "g (Gelu) has no range of its own",
        ),
    ],
)
def test_refused(body: str, outputs: str, reason: str) -> None:
    prepared = assert_prepared(network(body, WEIGHTS, outputs=outputs), absolute=1e-6)
    assert prepared.clamps == {}
    (note,) = notes_of(prepared, "mark_clamps")
    assert (note.applied, note.message) == (False, reason)


def test_an_output_in_the_middle_of_a_chain() -> None:
    body = "[c] a = Conv (x, w)\n[r] z = Relu (a)\n[s] y = Clip (z, low, one)"
    prepared = assert_prepared(network(body, WEIGHTS, outputs=TWO))
    assert prepared.clamps == {"r": "c"}


def test_bounds_a_caller_may_feed_are_refused() -> None:
    model = network("[c] a = Conv (x, w)\n[r] y = Clip (a, low, high)", WEIGHTS)
    model.graph.inputs.append(model.graph.initializers["high"])
    prepared = assert_prepared(model)
    assert notes_of(prepared, "mark_clamps")[0].message == "its bounds are computed"
