"""Tiny models as ONNX text; weights are arrays handed over by name."""

from collections.abc import Mapping

import numpy as np
import onnx.parser
import onnx_ir as ir

from quantkit.graph.program import Array

PICTURE = "float[N,3,8,8] x"


def network(
    body: str,
    weights: Mapping[str, Array],
    *,
    inputs: str = PICTURE,
    outputs: str = "float[N,C,H,W] y",
    opset: int = 17,
    ir_version: int = 8,
) -> ir.Model:
    """A model of one graph; every name in ``weights`` is an initializer."""
    text = (
        f'<ir_version: {ir_version}, opset_import: ["" : {opset}, "com.microsoft" : 1]>\n'
        f"network ({inputs}) => ({outputs}) {{\n{body}\n}}"
    )
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(
        ir.to_proto(ir.tensor(array, name=name)) for name, array in weights.items()
    )
    return ir.from_proto(proto)


def normal(*shape: int, seed: int = 0, dtype: type[np.floating] = np.float32) -> Array:
    """Weights drawn from a normal distribution."""
    values: Array = np.random.default_rng((seed, *shape)).standard_normal(shape).astype(dtype)
    return values


def batch_norm_weights(
    channels: int, *, prefix: str = "", dtype: type[np.floating] = np.float32
) -> dict[str, Array]:
    """``gamma, beta, mean, variance``: some factors negative, one variance near epsilon."""
    rng = np.random.default_rng(channels)
    variance = rng.uniform(0.05, 4.0, channels)
    variance[0] = 1e-3
    return {
        f"{prefix}gamma": rng.uniform(-2, 2, channels).astype(dtype),
        f"{prefix}beta": rng.standard_normal(channels).astype(dtype),
        f"{prefix}mean": rng.standard_normal(channels).astype(dtype),
        f"{prefix}variance": variance.astype(dtype),
    }


def conv_bn_relu6() -> ir.Model:
    """Conv, BatchNormalization, ReLU6, depthwise Conv with bias, Add: a MobileNetV2 block."""
    return network(
        """
        [conv] c = Conv <pads = [1, 1, 1, 1]> (x, w)
        [bn] n = BatchNormalization (c, gamma, beta, mean, variance)
        [relu6] r = Clip (n, low, high)
        [depthwise] d = Conv <group = 4, pads = [1, 1, 1, 1]> (r, w2, b2)
        [add] y = Add (d, r)
        """,
        {
            "w": normal(4, 3, 3, 3),
            **batch_norm_weights(4),
            "low": np.array(0, np.float32),
            "high": np.array(6, np.float32),
            "w2": normal(4, 1, 3, 3),
            "b2": normal(4),
        },
    )


def view_chain() -> ir.Model:
    """PyTorch's ``x.view(x.size(0), -1)`` before a linear layer, and a Dropout."""
    return network(
        """
        [shape] s = Shape (x)
        [zero] z = Constant <value_int = 0> ()
        [gather] n = Gather <axis = 0> (s, z)
        [axes] a = Constant <value_ints = [0]> ()
        [unsqueeze] u = Unsqueeze (n, a)
        [rest] m = Constant <value_ints = [-1]> ()
        [concat] t = Concat <axis = 0> (u, m)
        [view] f = Reshape (x, t)
        [dropout] k = Dropout (f)
        [linear] y = Gemm <transB = 1, alpha = 0.5, beta = 2.0> (k, w, b)
        """,
        {"w": normal(10, 192), "b": normal(10)},
        outputs="float[N,10] y",
    )


def pad_and_shared_weight() -> ir.Model:
    """A zero Pad before a Conv; two Convs share a weight; a BatchNormalization on the input."""
    return network(
        """
        [bn] n = BatchNormalization (x, gamma, beta, mean, variance)
        [pad] p = Pad (n, pads)
        [conv1] c = Conv (p, w)
        [relu] r = Relu (c)
        [conv2] d = Conv <pads = [1, 1, 1, 1]> (r, w)
        [identity] y = Identity (d)
        """,
        {
            "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
            "w": normal(3, 3, 3, 3),
            **batch_norm_weights(3),
        },
    )


GOLDEN_MODELS = {
    "conv_bn_relu6": conv_bn_relu6,
    "view_chain": view_chain,
    "pad_and_shared_weight": pad_and_shared_weight,
}
