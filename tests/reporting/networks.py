"""Small networks, quantized, for the tests of evaluation and reporting."""

from pathlib import Path

import numpy as np
import onnx_ir as ir

import quantkit
from quantkit.config import QuantConfig
from quantkit.graph.program import Array
from tests.small_networks import float_model

SHAPE = (3, 6, 6)

CLASSIFIER = """(float[N, 3, 6, 6] x, float[8, 3, 3, 3] w1, float[8] b1, float[8, 1, 3, 3] w2,
    float[8] b2, float[7, 8] w3, float[7] b3) => (float[N, 7] scores) {
    [first] h1 = Conv (x, w1, b1)
    [first_relu] r1 = Relu (h1)
    [second] h2 = Conv <group = 8> (r1, w2, b2)
    [second_relu] r2 = Relu (h2)
    [pool] p = GlobalAveragePool (r2)
    [flat] f = Flatten (p)
    [last] scores = Gemm <transB = 1> (f, w3, b3)
}"""

SOFTMAX = CLASSIFIER.replace("scores) {", "probabilities) {").replace(
    "b3)\n}", "b3)\n    [softmax] probabilities = Softmax <axis = 1> (scores)\n}"
)

REGRESSOR = """(float[N, 3, 6, 6] x, float[1, 3, 6, 6] w, float[1] b) => (float[N, 1, 1, 1] y) {
    [conv] y = Conv (x, w, b)
}"""

TWO_OUTPUTS = """(float[N, 3, 6, 6] x, float[4, 3, 3, 3] w1, float[2, 4, 1, 1] w2)
    => (float[N, 4, 4, 4] features, float[N, 2, 4, 4] map) {
    [first] features = Conv (x, w1)
    [second] map = Conv (features, w2)
}"""

# What no integer kernel runs, in the middle.
WITH_ISLAND = """(float[N, 3, 6, 6] x, float[4, 3, 3, 3] w1, float[4, 4, 1, 1] w2)
    => (float[N, 4, 4, 4] y) {
    [first] h = Conv (x, w1)
    [island] e = Shrink (h)
    [second] y = Conv (e, w2)
}"""

ONLY_ISLANDS = "(float[N, 3, 6, 6] x) => (float[N, 3, 6, 6] y) {\n    [island] y = Shrink (x)\n}"


def samples(count: int, seed: int = 1) -> Array:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, *SHAPE)).astype(np.float32)


def write(
    folder: Path,
    text: str,
    *,
    config: QuantConfig | None = None,
    constants: dict[str, Array] | None = None,
) -> tuple[Path, Path]:
    """The float and the quantized file."""
    floating, quantized = folder / "float.onnx", folder / "int8.onnx"
    ir.save(float_model(text, constants=constants), floating)
    quantkit.quantize(floating, samples(16, seed=2), config=config).save(quantized)
    return floating, quantized


def uneven_first_weight() -> dict[str, Array]:
    """One channel reaches 500 times as far as the others."""
    weight = np.random.default_rng(0).normal(0.0, 0.2, (8, 3, 3, 3))
    weight[0] *= 500.0
    return {"w1": weight}
