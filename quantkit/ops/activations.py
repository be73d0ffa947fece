"""Elementwise functions of one tensor, each looked up in a table with an entry per code.

``y_q = quantize(f32(f(dequantize(x_q))))``; the function is computed in float64 and rounded once
("fixed_point" stays in float64 throughout). Where it leaves the reals, infinity saturates and NaN
becomes the smallest code, as in onnxruntime's QuantizeLinear. onnxruntime has integer kernels for
LeakyRelu (the same formula) and Sigmoid (a rational approximation of its own, which the
"onnxruntime" arithmetic reproduces) and runs all others in floats, with functions of its own that
are not always correctly rounded: codes at a rounding boundary may be off by one from its.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import FloatArray, IntegerArray
from quantkit.numerics.code_table import UnaryCodes
from quantkit.numerics.requantizer import Float64Array, RealFunction
from quantkit.ops.contract import (
    OPS,
    Kernel,
    Lowering,
    Op,
    QuantRule,
    optional_input,
    real_input,
)

_erf: RealFunction = np.vectorize(math.erf, otypes=[np.float64])


class Activation(Op):
    """An elementwise function.

    Args:
        make: The function with a node's attributes.
        has_kernel: Whether onnxruntime computes it in integers.
    """

    rule = QuantRule("own")

    def __init__(self, make: Callable[[Node], RealFunction], *, has_kernel: bool = False) -> None:
        self._make = make
        self._has_kernel = has_kernel

    def has_onnxruntime_kernel(self, node: Node) -> bool:
        """Whether onnxruntime computes it in integers."""
        return self._has_kernel

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """The function, computed in float64 and rounded once."""
        return (_in_floats(self._make(node), real_input(inputs, 0)),)

    def lower(self, lowering: Lowering) -> Kernel:
        """Look the codes up."""
        return _kernel(
            lowering.arithmetic.tabulation(
                self._make(lowering.node), lowering.params(0), lowering.outputs[0]
            )
        )


class Sigmoid(Activation):
    """``1 / (1 + exp(-x))`` (ONNX Sigmoid); its range is fixed."""

    rule = QuantRule("fixed", fixed_range=(0.0, 1.0))

    def lower(self, lowering: Lowering) -> Kernel:
        """Look the codes up."""
        return _kernel(lowering.arithmetic.logistic(lowering.params(0), lowering.outputs[0]))


class Power(Op):
    """``x ** exponent`` (ONNX Pow) with one constant exponent."""

    rule = QuantRule("own", data_inputs=(0,))

    def refusal(self, node: Node, constants: Sequence[Array | None]) -> str | None:
        """Why this node cannot have an integer kernel, or None."""
        if constants[1] is None or constants[1].size != 1:
            return "its exponent is not a single constant"
        return None

    def has_onnxruntime_kernel(self, node: Node) -> bool:
        """Whether onnxruntime computes it in integers: it does not."""
        return False

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """The power; exponents of any shape."""
        exponent = optional_input(inputs, 1)
        assert exponent is not None
        return (_in_floats(lambda x: np.power(x, np.float64(exponent)), real_input(inputs, 0)),)

    def lower(self, lowering: Lowering) -> Kernel:
        """Look the codes up."""
        array = lowering.array(1)
        assert array is not None
        exponent = float(array.reshape(()))
        return _kernel(
            lowering.arithmetic.tabulation(
                lambda x: np.power(x, exponent), lowering.params(0), lowering.outputs[0]
            )
        )


def _in_floats(function: RealFunction, x: FloatArray) -> FloatArray:
    with np.errstate(all="ignore"):
        return np.asarray(function(x.astype(np.float64))).astype(x.dtype)


def _kernel(look_up: UnaryCodes) -> Kernel:
    def kernel(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
        return (look_up(inputs[0]),)

    return kernel


def _attribute(node: Node, name: str, default: float) -> float:
    """ONNX attributes are float32, and so are their defaults."""
    return float(np.float32(node.number(name, default)))


def _leaky_relu(node: Node) -> RealFunction:
    alpha = _attribute(node, "alpha", 0.01)
    return lambda x: np.where(x >= 0, x, alpha * x)


def _elu(node: Node) -> RealFunction:
    alpha = _attribute(node, "alpha", 1.0)
    return lambda x: np.where(x >= 0, x, alpha * np.expm1(x))


def _selu(node: Node) -> RealFunction:
    alpha, gamma = _attribute(node, "alpha", 1.67326319), _attribute(node, "gamma", 1.05070102)
    return lambda x: gamma * np.where(x > 0, x, alpha * np.expm1(x))


def _celu(node: Node) -> RealFunction:
    alpha = _attribute(node, "alpha", 1.0)
    return lambda x: np.maximum(x, 0.0) + np.minimum(0.0, alpha * np.expm1(x / alpha))


def _thresholded_relu(node: Node) -> RealFunction:
    alpha = _attribute(node, "alpha", 1.0)
    return lambda x: np.where(x > alpha, x, 0.0)


def _hard_sigmoid(node: Node) -> RealFunction:
    alpha, beta = _attribute(node, "alpha", 0.2), _attribute(node, "beta", 0.5)
    return lambda x: np.clip(alpha * x + beta, 0.0, 1.0)


def _swish(node: Node) -> RealFunction:
    alpha = _attribute(node, "alpha", 1.0)
    return lambda x: x / (1.0 + np.exp(-alpha * x))


def _gelu(node: Node) -> RealFunction:
    if node.text("approximate", "none") == "tanh":
        factor = math.sqrt(2.0 / math.pi)
        return lambda x: 0.5 * x * (1.0 + np.tanh(factor * (x + 0.044715 * x**3)))
    return lambda x: 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0)))


def _softplus(x: Float64Array) -> Float64Array:
    return np.logaddexp(0.0, x)


def _sigmoid(x: Float64Array) -> Float64Array:
    return 1.0 / (1.0 + np.exp(-x))


WITHOUT_ATTRIBUTES: Mapping[str, RealFunction] = {
    "Abs": np.abs,
    "Acos": np.arccos,
    "Acosh": np.arccosh,
    "Asin": np.arcsin,
    "Asinh": np.arcsinh,
    "Atan": np.arctan,
    "Atanh": np.arctanh,
    "Ceil": np.ceil,
    "Cos": np.cos,
    "Cosh": np.cosh,
    "Erf": _erf,
    "Exp": np.exp,
    "Floor": np.floor,
    "HardSwish": lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    "Log": np.log,
    "Mish": lambda x: x * np.tanh(_softplus(x)),
    "Neg": np.negative,
    "Reciprocal": np.reciprocal,
    "Round": np.rint,
    "Sign": np.sign,
    "Sin": np.sin,
    "Sinh": np.sinh,
    "Softplus": _softplus,
    "Softsign": lambda x: x / (1.0 + np.abs(x)),
    "Sqrt": np.sqrt,
    "Tan": np.tan,
    "Tanh": np.tanh,
}
"""ONNX name -> function."""

WITH_ATTRIBUTES: Mapping[str, Callable[[Node], RealFunction]] = {
    "Celu": _celu,
    "Elu": _elu,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "Selu": _selu,
    "Swish": _swish,
    "ThresholdedRelu": _thresholded_relu,
}
"""ONNX name -> the function with a node's attributes."""


def _plain(function: RealFunction) -> Callable[[Node], RealFunction]:
    return lambda _: function


for _name, _function in WITHOUT_ATTRIBUTES.items():
    OPS.register(_name)(Activation(_plain(_function)))
for _name, _make in WITH_ATTRIBUTES.items():
    OPS.register(_name)(Activation(_make))
OPS.register("LeakyRelu")(Activation(_leaky_relu, has_kernel=True))
OPS.register("Sigmoid")(Sigmoid(_plain(_sigmoid), has_kernel=True))
OPS.register("Pow")(Power())
