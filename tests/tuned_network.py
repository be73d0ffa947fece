"""A network with one layer that 8 bits ruin, and samples that it tells apart."""

import numpy as np
import onnx_ir as ir

from quantkit.config import QuantConfig
from quantkit.graph.program import Array
from tests.models import network, normal

CULPRIT = "conv2"
LAYERS = ("conv1", "conv2", "conv3", "linear")
# Recovery steps would take the plant away.
CONFIG = QuantConfig(
    per_channel=False,
    cross_layer_equalization=False,
    linear_edge_equalization=False,
    high_bias_absorption=False,
    weight_scale_search=False,
    bias_correction=False,
)


def planted_network() -> ir.Model:
    """``conv2`` has one weight of 1000 that is multiplied by 0: floats do not notice it.

    The scale of the tensor does, so all its other weights become 0.
    """
    bias = np.zeros(6, np.float32)
    bias[0] = -100.0
    w2 = normal(6, 6, 3, 3) * np.float32(0.15)
    w2[0, 0, 0, 0] = 1000.0
    return network(
        """
        [conv1] c1 = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
        [relu1] r1 = Relu (c1)
        [conv2] c2 = Conv <pads = [1, 1, 1, 1]> (r1, w2)
        [relu2] r2 = Relu (c2)
        [conv3] c3 = Conv <pads = [1, 1, 1, 1]> (r2, w3)
        [add] a = Add (c3, r2)
        [mean] m = GlobalAveragePool (a)
        [flat] f = Flatten (m)
        [linear] y = Gemm <transB = 1> (f, w4)
        """,
        {
            "w1": normal(6, 3, 3, 3) * np.float32(0.2),
            "b1": bias,
            "w2": w2,
            "w3": normal(6, 6, 3, 3, seed=1) * np.float32(0.15),
            "w4": normal(4, 6),
        },
        outputs="float[N,4] y",
    )


def samples(count: int = 24) -> Array:
    """(count, 3, 8, 8), each of its own kind."""
    rng = np.random.default_rng(5)
    found: Array = (rng.normal(size=(count, 3, 8, 8)) + rng.normal(size=(count, 3, 1, 1))).astype(
        np.float32
    )
    return found
