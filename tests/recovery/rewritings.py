"""Networks for the steps that rewrite them before quantization, and what must hold afterwards."""

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from quantkit.calibration.table import CalibrationTable
from quantkit.graph.ort_session import open_session, with_outputs
from quantkit.graph.program import Array
from quantkit.passes.prepare import Prepared, prepare
from quantkit.pipeline import calibrate
from quantkit.recovery.channel_changes import UNCHANGED
from quantkit.recovery.draft import Draft
from tests.small_networks import float_model, random_feeds

SAMPLES = 8
_RELATIVE = 1e-5


@dataclass(frozen=True, eq=False)
class Case:
    """A network of which some values can be scaled.

    Attributes:
        text: As in ``tests.small_networks``. Rows of weights named w and columns of weights named
            m differ by three orders of magnitude.
        input_shape: Without the batch.
        groups: The values of every group that can be scaled.
        constants: Arrays that are not random.
    """

    text: str
    input_shape: tuple[int, ...]
    groups: tuple[str, ...]
    constants: dict[str, Array] = field(default_factory=dict)

    def draft(self, seed: int = 0) -> Draft:
        return draft_of(self.model(seed), self.input_shape)

    def model(self, seed: int = 0) -> ir.Model:
        model = float_model(self.text, seed, self.constants)
        rng = np.random.default_rng(seed)
        for name, value in sorted(model.graph.initializers.items()):
            if name in self.constants or value.const_value is None or name[0] not in "wm":
                continue
            array = value.const_value.numpy()
            axis = 0 if name[0] == "w" else 1
            shape = [size if i == axis else 1 for i, size in enumerate(array.shape)]
            uneven = array * 10.0 ** rng.uniform(-2.5, 0.5, shape)
            value.const_value = ir.tensor(uneven.astype(np.float32), name=name)
        return model


def samples(draft: Draft, input_shape: tuple[int, ...]) -> list[dict[str, Array]]:
    feeds = random_feeds(draft.prepared.model, input_shape, SAMPLES, seed=7)
    return [{name: array[i : i + 1] for name, array in feeds.items()} for i in range(SAMPLES)]


def draft_of(model: ir.Model, input_shape: tuple[int, ...]) -> Draft:
    prepared = prepare(model)
    feeds = random_feeds(model, input_shape, SAMPLES, seed=7)
    return Draft(prepared, table_of(prepared, feeds))


def table_of(prepared: Prepared, feeds: dict[str, Array]) -> CalibrationTable:
    data = [{name: array[i : i + 1] for name, array in feeds.items()} for i in range(SAMPLES)]
    return calibrate(prepared, data)


def all_values(prepared: Prepared, feeds: dict[str, Array]) -> dict[str, Array]:
    names = [name for node in prepared.program.nodes for name in node.outputs if name]
    found: dict[str, Array] = {}
    session = open_session(with_outputs(prepared.model, names), threads=1)
    for index in range(SAMPLES):
        sample = {name: array[index : index + 1] for name, array in feeds.items()}
        for name, value in session.run(sample, names).items():
            array = np.atleast_1d(value)
            found[name] = np.concatenate([found[name], array]) if name in found else array
    return found


def check_rewritten(before: Draft, after: Draft, input_shape: tuple[int, ...]) -> None:
    """Outputs stay, values change as is said, the table is that of the new network."""
    feeds = random_feeds(before.prepared.model, input_shape, SAMPLES, seed=7)
    old, new = (all_values(draft.prepared, feeds) for draft in (before, after))
    for spec in before.prepared.program.outputs:
        assert_close(new[spec.name], old[spec.name])
    assert old.keys() == new.keys()
    for name, array in old.items():
        if array.dtype == np.float32:
            assert_close(new[name], after.changes.get(name, UNCHANGED).applied(array))
    check_table(after, table_of(after.prepared, feeds))


def assert_close(found: Array, expected: Array) -> None:
    """Within 1e-5 of the channel's largest value, and of the whole for what cancels out."""
    assert found.shape == expected.shape
    largest = np.abs(expected).max(initial=0.0)
    np.testing.assert_allclose(found, expected, rtol=_RELATIVE, atol=_RELATIVE * largest)


def check_table(draft: Draft, fresh: CalibrationTable) -> None:
    """Minima, maxima and means per channel are those of calibrating the network anew."""
    assert draft.table.statistics.keys() == fresh.statistics.keys()
    for name, expected in fresh.statistics.items():
        found = draft.table.statistics[name]
        assert found.sample_count == expected.sample_count
        if found.channels is None or expected.channels is None:
            assert found.channels is expected.channels
            continue
        reach = np.maximum(np.abs(expected.channels.minimum), np.abs(expected.channels.maximum))
        # What was shifted has lost digits: of all that the network holds 1e-5 are certain.
        tolerance = _RELATIVE * np.maximum(reach, reach.max())
        pairs = (
            (found.channels.minimum, expected.channels.minimum),
            (found.channels.maximum, expected.channels.maximum),
            (found.channels.means(SAMPLES), expected.channels.means(SAMPLES)),
        )
        for ours, theirs in pairs:
            assert (np.abs(ours - theirs) <= tolerance + 2**-31).all(), name
        assert found.minimum == found.channels.minimum.min()
        assert found.maximum == found.channels.maximum.max()
        if name in draft.changes:
            assert name in draft.ranges


CASES: dict[str, Case] = {
    "relu": Case(
        """(float[N,3,6,6] x, float[5,3,3,3] w0, float[5] g_gamma, float[5] g_beta, float[5] g_mean,
          float[5] g_var, float[4,5,3,3] w1, float[4] b1) => (float[N,4,6,6] y) {
          c = Conv<pads = [1,1,1,1]>(x, w0)
          n = BatchNormalization(c, g_gamma, g_beta, g_mean, g_var)
          r = Relu(n)
          y = Conv<pads = [1,1,1,1]>(r, w1, b1)
        }""",
        (3, 6, 6),
        ("n r",),
    ),
    "depthwise_relu6": Case(
        """(float[N,3,6,6] x, float[6,3,3,3] w0, float[6] b0, float[12,1,3,3] w1, float[12] b1,
          float[4,12,1,1] w2) => (float[N,4,6,6] y) {
          zero = Constant<value = float {0.0}>()
          six = Constant<value = float {6.0}>()
          c = Conv<pads = [1,1,1,1]>(x, w0, b0)
          r = Clip(c, zero, six)
          d = Conv<pads = [1,1,1,1], group = 6>(r, w1, b1)
          s = Clip(d, zero, six)
          y = Conv(s, w2)
        }""",
        (3, 6, 6),
        ("c r", "d s"),
    ),
    "grouped": Case(
        """(float[N,4,6,6] x, float[6,2,3,3] w0, float[6] b0, float[4,3,1,1] w1, float[2,2,1,1] w2)
          => (float[N,2,6,6] y) {
          c = Conv<pads = [1,1,1,1], group = 2>(x, w0, b0)
          r = LeakyRelu<alpha = 0.1>(c)
          d = Conv<group = 2>(r, w1)
          y = Conv<group = 2>(d, w2)
        }""",
        (4, 6, 6),
        ("c r", "d"),
        {"w2": np.ones((2, 2, 1, 1))},
    ),
    "gemm": Case(
        """(float[N,6] x, float[5,6] w0, float[1,5] b0, float[5,7] m1, float[7] b1, float[3,7] w2)
          => (float[N,3] y) {
          c = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(x, w0, b0)
          r = Relu(c)
          d = Gemm<alpha = 2.0, beta = 0.5>(r, m1, b1)
          y = Gemm<transB = 1>(d, w2)
        }""",
        (6,),
        ("c r", "d"),
    ),
    "flatten": Case(
        """(float[N,3,4,4] x, float[4,3,1,1] w0, float[4] b0, float[64,5] m1, float[5] b1)
          => (float[N,5] y) {
          c = Conv(x, w0, b0)
          r = Relu(c)
          f = Flatten(r)
          y = Gemm(f, m1, b1)
        }""",
        (3, 4, 4),
        ("c r f",),
    ),
    "reshape": Case(
        """(float[N,3,4,4] x, float[4,3,1,1] w0, float[5,64] w1) => (float[N,5] y) {
          c = Conv(x, w0)
          shape = Constant<value = int64[2] {0,-1}>()
          f = Reshape(c, shape)
          r = Relu(f)
          y = Gemm<transB = 1>(r, w1)
        }""",
        (3, 4, 4),
        ("c f r",),
    ),
    "flatten_then_conv": Case(
        """(float[1,3,4,4] x, float[4,3,1,1] w0, float[6,32,1,1] w1) => (float[1,6,1,1] y) {
          c = Conv(x, w0)
          f = Flatten(c)
          axes = Constant<value = int64[2] {2,3}>()
          u = Unsqueeze(f, axes)
          y = Conv<group = 2>(u, w1)
        }""",
        (3, 4, 4),
        ("c f u",),
    ),
    "pooling": Case(
        """(float[N,3,8,8] x, float[4,3,3,3] w0, float[4,4,3,3] w1, float[5,4] w2)
          => (float[N,5] y) {
          c = Conv<pads = [1,1,1,1]>(x, w0)
          p = MaxPool<kernel_shape = [3,3], pads = [1,1,1,1], strides = [2,2]>(c)
          d = Conv(p, w1)
          a = AveragePool<kernel_shape = [2,2], pads = [1,1,0,0]>(d)
          g = GlobalAveragePool(a)
          f = Flatten(g)
          y = Gemm<transB = 1>(f, w2)
        }""",
        (3, 8, 8),
        ("c p", "d a g f"),
    ),
    "prelu": Case(
        """(float[N,3,4,4] x, float[4,3,1,1] w0, float[4,1,1] slope, float[2,4,1,1] w1)
          => (float[N,2,4,4] y) {
          c = Conv(x, w0)
          r = PRelu(c, slope)
          y = Conv(r, w1)
        }""",
        (3, 4, 4),
        ("c r",),
    ),
    "residual": Case(
        """(float[N,4,6,6] x, float[4,4,1,1] w0, float[4] b0, float[4,4,3,3] w1, float[4,1,3,3] w2,
          float[4,4,1,1] w3, float[3,4,1,1] w4) => (float[N,3,6,6] y) {
          c = Conv(x, w0, b0)
          d = Conv<pads = [1,1,1,1]>(c, w1)
          s = Add(c, d)
          e = Conv<pads = [1,1,1,1], group = 4>(s, w2)
          t = Sub(s, e)
          h = Conv(t, w3)
          u = Sum(t, h, c)
          y = Conv(u, w4)
        }""",
        (4, 6, 6),
        ("c d s e t h u",),
    ),
    "constant_operand": Case(
        """(float[N,3,4,4] x, float[4,3,1,1] w0, float[4,1,1] b0, float[2,4,1,1] w1)
          => (float[N,2,4,4] y) {
          c = Conv(x, w0)
          s = Add(c, b0)
          y = Conv(s, w1)
        }""",
        (3, 4, 4),
        (),
    ),
    "broadcast": Case(
        """(float[N,3,4,4] x, float[4,3,1,1] w0, float[1,3,1,1] w1, float[2,4,1,1] w2)
          => (float[N,2,4,4] y) {
          c = Conv(x, w0)
          d = Conv(x, w1)
          s = Add(c, d)
          y = Conv(s, w2)
        }""",
        (3, 4, 4),
        (),
    ),
    "other_ops": Case(
        """(float[N,3,4,4] x, float[4,3,1,1] w0, float[4,3,1,1] w1, float[4,3,1,1] w2,
          float[4,3,1,1] w3, float[8,4,1,1] w4, float[4,8,1,1] w5, float[4,4,2,2] w6,
          float[2,4,1,1] w7) => (float[N,2,5,5] y) {
          a = Conv(x, w0)
          b = Conv(x, w1)
          g = Sigmoid(b)
          m = Mul(a, g)
          c = Conv(x, w2)
          j = Concat<axis = 1>(m, c)
          k = Conv(j, w5)
          h = HardSwish(k)
          t = ConvTranspose(h, w6)
          y = Conv(t, w7)
        }""",
        (3, 4, 4),
        (),
    ),
    "several_readers": Case(
        """(float[N,3,6,6] x, float[4,3,1,1] w0, float[4,4,3,3] w1, float[4,1,3,3] w2,
          float[3,4] w3, float[2,4,1,1] w4, float[2,4,1,1] w5)
          => (float[N,2,4,4] y, float[N,2,4,4] v, float[N,3] z) {
          c = Conv(x, w0)
          r = Relu(c)
          d = Conv(r, w1)
          e = Conv<group = 4>(r, w2)
          p = GlobalAveragePool(r)
          f = Flatten(p)
          z = Gemm<transB = 1>(f, w3)
          y = Conv(d, w4)
          v = Conv(e, w5)
        }""",
        (3, 6, 6),
        ("c r p f", "d", "e"),
    ),
    "graph_output": Case(
        """(float[N,3,6,6] x, float[4,3,1,1] w0, float[2,4,1,1] w1)
          => (float[N,4,6,6] r, float[N,2,6,6] y) {
          c = Conv(x, w0)
          r = Relu(c)
          y = Conv(r, w1)
        }""",
        (3, 6, 6),
        (),
    ),
    "lower_bound": Case(
        """(float[N,3,6,6] x, float[4,3,1,1] w0, float[2,4,1,1] w1) => (float[N,2,6,6] y) {
          low = Constant<value = float {-1.0}>()
          c = Conv(x, w0)
          r = Clip(c, low)
          y = Conv(r, w1)
        }""",
        (3, 6, 6),
        (),
    ),
    "computed_bound": Case(
        """(float[N,3,6,6] x, float[4,3,1,1] w0, float[2,4,1,1] w1) => (float[N,2,6,6] y) {
          zero = Constant<value = float {0.0}>()
          c = Conv(x, w0)
          one = Constant<value = float {1.0}>()
          high = RandomUniformLike<low = 2.0, high = 2.0>(one)
          r = Clip(c, zero, high)
          y = Conv(r, w1)
        }""",
        (3, 6, 6),
        (),
    ),
    "shared": Case(
        """(float[N,4,6,6] x, float[4,4,3,3] w0, float[4] b0) => (float[N,4,6,6] y) {
          zero = Constant<value = float {0.0}>()
          nine = Constant<value = float {9.0}>()
          c = Conv<pads = [1,1,1,1]>(x, w0, b0)
          r = Clip(c, zero, nine)
          d = Conv<pads = [1,1,1,1]>(r, w0, b0)
          s = Clip(d, zero, nine)
          y = Conv<pads = [1,1,1,1]>(s, w0, b0)
        }""",
        (4, 6, 6),
        ("c r", "d s"),
    ),
    "one_dimension": Case(
        """(float[N,3,9] x, float[4,3,3] w0, float[4,1,3] w1, float[5,4,1] w2) => (float[N,5,5] y) {
          c = Conv(x, w0)
          r = Relu(c)
          d = Conv<group = 4>(r, w1)
          y = Conv(d, w2)
        }""",
        (3, 9),
        ("c r", "d"),
    ),
    "three_dimensions": Case(
        """(float[N,2,4,4,4] x, float[3,2,3,3,3] w0, float[2,3,1,1,1] w1)
          => (float[N,2,2,2,2] y) {
          c = Conv(x, w0)
          r = Relu(c)
          y = Conv(r, w1)
        }""",
        (2, 4, 4, 4),
        ("c r",),
    ),
    "dynamic_sizes": Case(
        """(float[N,3,H,W] x, float[4,3,3,3] w0, float[4,4,3,3] w1, float[4,4,1,1] w2,
          float[5,4] w3) => (float[N,5] y) {
          c = Conv<pads = [1,1,1,1]>(x, w0)
          r = Relu(c)
          d = Conv<pads = [1,1,1,1]>(r, w1)
          s = Relu(d)
          t = Conv(s, w2)
          g = GlobalAveragePool(t)
          f = Flatten(g)
          y = Gemm<transB = 1>(f, w3)
        }""",
        (3, 6, 6),
        ("c r", "d s", "t g f"),
    ),
    "dead_channels": Case(
        """(float[N,2,4,4] x, float[4,2,1,1] w0, float[3,4,1,1] w1) => (float[N,3,4,4] y) {
          c = Conv(x, w0)
          r = Relu(c)
          y = Conv(r, w1)
        }""",
        (2, 4, 4),
        ("c r",),
        {
            "w0": np.array([[1, 2], [0, 0], [1e-13, -1e-13], [1e-3, 3e-3]]).reshape(4, 2, 1, 1),
            "w1": np.array([[1, 9, 1, 0], [0, 5, 1, 0], [2, 7, 1, 0]]).reshape(3, 4, 1, 1),
        },
    ),
}
