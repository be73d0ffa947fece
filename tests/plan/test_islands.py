"""Ops that onnxruntime computes in floats are integer only where integer nodes surround them."""

import pytest

from quantkit.plan import make_plan
from tests.small_networks import Network, calibrated

ISLAND = "onnxruntime computes it in floats, and so does a neighbour"


def kept_float(body: str) -> dict[str, str]:
    text = f"(float[N,3,4,4] x, float[3,3,1,1] w) => (float[N,3,4,4] y) {{ {body} }}"
    prepared, table = calibrated(Network(text, (3, 4, 4)).model(), (3, 4, 4))
    return dict(make_plan(prepared, table).kept_float)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("a = Conv(x, w)  [t] b = Tanh(a)  y = Conv(b, w)", {}),
        ("a = Conv(x, w)  [t] b = Tanh(a)  [r] c = Relu(b)  y = Conv(c, w)", {}),
        ("a = Conv(x, w)  [t] y = Tanh(a)", {"t": ISLAND}),
        (
            "a = Conv(x, w)  [t] b = Tanh(a)  [r] y = Relu(b)",
            {"t": ISLAND, "r": "clamps t, which stays float"},
        ),
        ("[t] a = Tanh(x)  y = Conv(a, w)", {"t": ISLAND}),
        # The input is quantized for the other convolution anyway.
        ("[t] a = Tanh(x)  b = Conv(a, w)  c = Conv(x, w)  y = Add(b, c)", {}),
        (
            "a = Conv(x, w)  [s] b = Tanh(a)  [t] c = Tanh(b)  y = Conv(c, w)",
            {"s": ISLAND, "t": ISLAND},
        ),
        # Between the two nothing else quantizes the value, so neither would be free.
        (
            "a = Conv(x, w)  [s] b = Tanh(a)  [r] c = Relu(b)  [t] d = Tanh(c)  y = Conv(d, w)",
            {"s": ISLAND, "r": "clamps s, which stays float", "t": ISLAND},
        ),
    ],
)
def test_islands(body: str, expected: dict[str, str]) -> None:
    assert kept_float(body) == expected
