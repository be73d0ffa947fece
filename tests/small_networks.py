"""Small float networks as ONNX text, random constants, and the way to a quantized model.

Graph inputs whose name does not start with ``x`` become random constants: weights of rank 2 and
more are normal with a variance that keeps the magnitude, vectors are small, and names with ``var``
are positive.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import onnx_ir as ir

from quantkit.calibration.table import CalibrationTable
from quantkit.config import QuantConfig
from quantkit.graph.ort_session import open_session
from quantkit.graph.program import Array
from quantkit.passes.prepare import Prepared, prepare
from quantkit.pipeline import calibrate
from quantkit.plan import make_plan
from quantkit.quantized_model.model import QuantizedModel, quantize_model
from quantkit.quantized_model.qdq_reader import read_qdq

OPSET = 17
CALIBRATION_SEED, CALIBRATION_SAMPLES = 7, 6


@dataclass(frozen=True, eq=False)
class Network:
    """A float network.

    Attributes:
        text: The body of a graph ``(inputs) => (outputs) { nodes }``.
        input_shape: Of every input, without the batch.
        kept_float: Op types that no integer kernel runs here.
        float_in_onnxruntime: Op types that onnxruntime runs in floats, between Q and DQ.
        constants: Arrays that are not random, by name.
    """

    text: str
    input_shape: tuple[int, ...]
    kept_float: frozenset[str] = frozenset()
    float_in_onnxruntime: frozenset[str] = frozenset()
    constants: Mapping[str, Array] = field(default_factory=dict)

    def model(self, seed: int = 0) -> ir.Model:
        return float_model(self.text, seed, self.constants)

    def feeds(self, batch: int, seed: int = 1) -> dict[str, Array]:
        return random_feeds(self.model(), self.input_shape, batch, seed)


def float_model(
    text: str, seed: int = 0, constants: Mapping[str, Array] | None = None, opset: int = OPSET
) -> ir.Model:
    header = f'<ir_version: 8, opset_import: ["": {opset}]>\nnetwork '
    model = ir.from_onnx_text(header + text)
    rng = np.random.default_rng(seed)
    for value in tuple(model.graph.inputs):
        name = value.name
        assert name is not None
        if name.startswith("x"):
            continue
        array = random_constant(
            rng, name, tuple(d for d in value.shape or () if isinstance(d, int))
        )
        array = np.asarray((constants or {}).get(name, array), np.float32)
        model.graph.inputs.remove(value)
        value.const_value = ir.tensor(array, name=name)
        value.shape = ir.Shape(array.shape)
        model.graph.register_initializer(value)
    return model


def random_constant(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
    if len(shape) > 1:
        fan_in = np.prod(shape[1:]) if len(shape) > 2 else max(shape)
        return rng.normal(0.0, 1.0 / np.sqrt(fan_in), shape)
    if "var" in name:
        return rng.uniform(0.5, 2.0, shape)
    return rng.normal(1.0 if "gamma" in name else 0.0, 0.2, shape)


def random_feeds(
    model: ir.Model, input_shape: tuple[int, ...], batch: int, seed: int
) -> dict[str, Array]:
    """Normal values; sample i has its own magnitude, so that ranges come from few samples."""
    rng = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for value in model.graph.inputs:
        size = (batch, *[1] * len(input_shape))
        magnitude = rng.uniform(0.5, 1.5, size)
        x = rng.normal(0.0, 1.0, (batch, *input_shape)) * magnitude
        feeds[str(value.name)] = x.astype(np.float32)
    return feeds


def calibration_feeds(network: Network) -> dict[str, Array]:
    return network.feeds(CALIBRATION_SAMPLES, seed=CALIBRATION_SEED)


def calibrated(
    model: ir.Model, input_shape: tuple[int, ...], samples: int = CALIBRATION_SAMPLES
) -> tuple[Prepared, CalibrationTable]:
    prepared = prepare(model)
    feeds = random_feeds(model, input_shape, samples, seed=CALIBRATION_SEED)
    data = [{name: array[i : i + 1] for name, array in feeds.items()} for i in range(samples)]
    return prepared, calibrate(prepared, data)


def quantized(
    network: Network, config: QuantConfig | None = None, seed: int = 0
) -> tuple[QuantizedModel, CalibrationTable]:
    prepared, table = calibrated(network.model(seed), network.input_shape)
    return quantize_model(prepared, make_plan(prepared, table, config), config), table


@cache
def quantized_network(name: str) -> QuantizedModel:
    """One of :data:`NETWORKS` with the default configuration, made once per process."""
    return quantized(NETWORKS[name])[0]


def onnxruntime_outputs(
    model: ir.Model | Path, feeds: Mapping[str, Array], fetches: tuple[str, ...] | None = None
) -> dict[str, Array]:
    return open_session(model, threads=1).run(feeds, fetches)


def read_back(model: ir.Model, folder: Path) -> QuantizedModel:
    path = folder / "read_back.onnx"
    ir.save(model, path)
    return read_qdq(path)


_MOBILE = """(float[N,3,16,16] x, float[8,3,3,3] w0, float[8] g0_gamma, float[8] g0_beta,
  float[8] g0_mean, float[8] g0_var, float[8,1,3,3] w1, float[8] b1, float[8,8,1,1] w2,
  float[8] b2, float[16,8,3,3] w3, float[5,16] w4, float[5] b4)
  => (float[N,5] y) {
  zero = Constant<value = float {0.0}>()
  six = Constant<value = float {6.0}>()
  [stem] c0 = Conv<pads = [0,0,1,1], strides = [2,2]>(x, w0)
  n0 = BatchNormalization(c0, g0_gamma, g0_beta, g0_mean, g0_var)
  r0 = Clip(n0, zero, six)
  [depthwise] c1 = Conv<pads = [1,1,1,1], group = 8>(r0, w1, b1)
  r1 = Clip(c1, zero, six)
  [project] c2 = Conv(r1, w2, b2)
  [join] s = Add(r0, c2)
  [last] c3 = Conv<strides = [2,2], pads = [1,1,1,1]>(s, w3)
  r3 = Relu(c3)
  p = GlobalAveragePool(r3)
  f = Flatten(p)
  [classes] y = Gemm<transB = 1>(f, w4, b4)
}"""

_RESIDUAL = """(float[N,4,8,8] x, float[4,4,3,3] w0, float[4] b0, float[4,2,3,3] w1)
  => (float[N,4,4,4] y) {
  c0 = Conv<pads = [1,1,1,1]>(x, w0, b0)
  [sum] s = Add(x, c0)
  [after_sum] r = Relu(s)
  c1 = Conv<pads = [2,2,2,2], dilations = [2,2], group = 2>(r, w1)
  [again] t = Add(c1, r)
  y = AveragePool<kernel_shape = [2,2], strides = [2,2]>(t)
}"""

NETWORKS: dict[str, Network] = {
    "mobile": Network(_MOBILE, (3, 16, 16)),
    "residual": Network(_RESIDUAL, (4, 8, 8)),
    "average_with_border": Network(
        """(float[N,4,9,9] x, float[4,4,1,1] w) => (float[N,4,5,5] y) {
          c = Conv(x, w)
          y = AveragePool<kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1]>(c)
        }""",
        (4, 9, 9),
    ),
    "matmul": Network(
        """(float[N,6,10] x, float[10,12] w0, float[12,7] w1) => (float[N,6,7] y) {
          m = MatMul(x, w0)
          r = Relu(m)
          y = MatMul(r, w1)
        }""",
        (6, 10),
    ),
    "two_activations": Network(
        """(float[N,6,10] x, float[10,10] w) => (float[N,6,6] y) {
          q = MatMul(x, w)
          t = Transpose<perm = [0,2,1]>(x)
          y = MatMul(q, t)
        }""",
        (6, 10),
    ),
    "softmax": Network(
        """(float[N,12] x, float[12,9] w, float[9] b) => (float[N,9] y) {
          g = Gemm(x, w, b)
          y = Softmax(g)
        }""",
        (12,),
    ),
    "pad": Network(
        """(float[N,3,7,7] x, float[4,3,3,3] w, float[4,4,3,3] v) => (float[N,4,7,7] y) {
          c = Conv<pads = [1,1,1,1]>(x, w)
          r = Relu(c)
          pads = Constant<value = int64[8] {0,0,1,1,0,0,1,1}>()
          p = Pad<mode = "reflect">(r, pads)
          y = Conv(p, v)
        }""",
        (3, 7, 7),
        float_in_onnxruntime=frozenset({"Pad"}),
    ),
    "max_pool": Network(
        """(float[N,3,9,9] x, float[4,3,3,3] w, float[2,4,1,1] v) => (float[N,2,5,5] y) {
          c = Conv<pads = [1,1,1,1]>(x, w)
          p = MaxPool<kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1]>(c)
          y = Conv(p, v)
        }""",
        (3, 9, 9),
    ),
    "movement": Network(
        """(float[N,4,6] x, float[12,3] v) => (float[N,2,3] y) {
          t = Transpose<perm = [0,2,1]>(x)
          narrow = Constant<value = int64[3] {0,2,12}>()
          r = Reshape(t, narrow)
          y = MatMul(r, v)
        }""",
        (4, 6),
    ),
    "several_outputs": Network(
        """(float[N,3,8,8] x, float[4,3,3,3] w, float[4,4,1,1] v, float[2,4,1,1] u)
          => (float[N,4,8,8] y, float[N,4,8,8] inner, float[N,2,8,8] z) {
          c = Conv<pads = [1,1,1,1]>(x, w)
          inner = Relu(c)
          y = Conv(inner, v)
          z = Conv(y, u)
        }""",
        (3, 8, 8),
    ),
    "output_twice_read": Network(
        """(float[N,3,8,8] x, float[3,3,3,3] w)
          => (float[N,3,8,8] y, float[N,9] z) {
          y = Conv<auto_pad = "SAME_LOWER">(x, w)
          s = Add(y, y)
          p = MaxPool<kernel_shape = [8,4], strides = [1,2]>(s)
          z = Flatten(p)
        }""",
        (3, 8, 8),
    ),
    "grouped_1d": Network(
        """(float[N,4,12] x, float[6,2,3] w, float[6] b, float[6,4] v) => (float[N,4] y) {
          c = Conv<group = 2, pads = [2,0], strides = [2]>(x, w, b)
          r = Relu(c)
          p = GlobalAveragePool(r)
          f = Flatten(p)
          y = MatMul(f, v)
        }""",
        (4, 12),
    ),
    "two_inputs": Network(
        """(float[N,3,4,4] x, float[N,3,4,4] x2, float[3,3,1,1] w) => (float[N,3,4,4] y) {
          s = Add(x, x2)
          y = Conv(s, w)
        }""",
        (3, 4, 4),
    ),
    "float_island": Network(
        """(float[N,3,8,8] x, float[4,3,1,1] w, float[4,4,1,1] v) => (float[N,4,8,8] y) {
          c = Conv(x, w)
          [island] e = Shrink<lambd = 0.0>(c)
          y = Conv(e, v)
        }""",
        (3, 8, 8),
        frozenset({"Shrink"}),
        frozenset({"Shrink"}),
    ),
    "read_by_both": Network(
        """(float[N,3,8,8] x, float[4,3,1,1] w, float[4,4,1,1] v)
          => (float[N,4,8,8] y, float[N,4,8,8] e) {
          c = Conv(x, w)
          [island] e = Shrink<lambd = 0.0>(c)
          y = Conv(c, v)
        }""",
        (3, 8, 8),
        frozenset({"Shrink"}),
        frozenset({"Shrink"}),
    ),
    "relu_read_twice": Network(
        """(float[N,3,8,8] x, float[3,3,1,1] w, float[3,3,1,1] v) => (float[N,3,8,8] y) {
          c = Conv(x, w)
          r = Relu(c)
          s = Add(c, r)
          y = Conv(s, v)
        }""",
        (3, 8, 8),
        float_in_onnxruntime=frozenset({"Relu"}),
    ),
    "clip_inside_the_range": Network(
        """(float[N,3,8,8] x, float[3,3,1,1] w, float[3,3,1,1] v) => (float[N,3,8,8] y) {
          low = Constant<value = float {0.2}>()
          high = Constant<value = float {0.5}>()
          c = Conv(x, w)
          r = Clip(c, low, high)
          y = Conv(r, v)
        }""",
        (3, 8, 8),
        float_in_onnxruntime=frozenset({"Clip"}),
    ),
    "clip_of_the_input": Network(
        """(float[N,3,8,8] x, float[3,3,1,1] w) => (float[N,3,8,8] y) {
          low = Constant<value = float {-1.0}>()
          high = Constant<value = float {0.5}>()
          r = Clip(x, low, high)
          y = Conv(r, w)
        }""",
        (3, 8, 8),
        float_in_onnxruntime=frozenset({"Clip"}),
    ),
    "relu_of_an_output": Network(
        """(float[N,3,8,8] x, float[3,3,1,1] w) => (float[N,3,8,8] y, float[N,3,8,8] z) {
          y = Conv(x, w)
          z = Relu(y)
        }""",
        (3, 8, 8),
        float_in_onnxruntime=frozenset({"Relu"}),
    ),
    "constant_operand": Network(
        """(float[N,6,10] x, float[10,12] w, float[12] b, float[12,5] v) => (float[N,6,5] y) {
          m = MatMul(x, w)
          [offset] s = Add(m, b)
          y = MatMul(s, v)
        }""",
        (6, 10),
    ),
    "squeeze_and_excitation": Network(
        """(float[N,4,8,8] x, float[8,4,3,3] w0, float[4,8,1,1] w1, float[4] b1, float[8,4,1,1] w2,
          float[3,8,1,1] w3) => (float[N,3,8,8] y) {
          c = Conv<pads = [1,1,1,1]>(x, w0)
          p = GlobalAveragePool(c)
          d = Conv(p, w1, b1)
          r = Relu(d)
          e = Conv(r, w2)
          g = Sigmoid(e)
          [gate] m = Mul(c, g)
          y = Conv(m, w3)
        }""",
        (4, 8, 8),
    ),
    "concat": Network(
        """(float[N,4,6,6] x, float[3,4,1,1] w0, float[2,4,3,3] w1, float[4,11,1,1] v)
          => (float[N,4,6,6] y) {
          a = Conv(x, w0)
          b = Conv<pads = [1,1,1,1]>(x, w1)
          s = Sigmoid(b)
          l = LeakyRelu<alpha = 0.1>(a)
          [join] j = Concat<axis = 1>(l, b, s, x)
          y = Conv(j, v)
        }""",
        (4, 6, 6),
    ),
    "hard_swish": Network(
        """(float[N,3,8,8] x, float[4,3,1,1] w, float[2,4,1,1] v) => (float[N,2,8,8] y) {
          c = Conv(x, w)
          [swish] h = HardSwish(c)
          y = Conv(h, v)
        }""",
        (3, 8, 8),
        float_in_onnxruntime=frozenset({"HardSigmoid", "Mul"}),
    ),
    "where": Network(
        """(float[N,3,4,4] x, float[3,3,1,1] w, float[3,3,1,1] v) => (float[N,3,4,4] y) {
          even = Constant<value = bool[4] {1,0,1,0}>()
          c = Conv(x, w)
          s = Where(even, c, x)
          y = Conv(s, v)
        }""",
        (3, 4, 4),
    ),
}
