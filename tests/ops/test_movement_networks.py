"""Small networks with ops that move, resample or reduce: planned, exported, run, read back."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from quantkit.exporters.qdq import qdq_graph
from quantkit.graph.ort_session import optimized_program
from quantkit.integer_session import open_integer_session
from tests.quantized_model.checks import check_close_to_float, check_read_back
from tests.small_networks import Network, onnxruntime_outputs, quantized


@dataclass(frozen=True, eq=False)
class Example:
    """A network and what is expected of it.

    Attributes:
        network: It.
        max_lsb: How far its output codes may be from onnxruntime's: an island's codes are at most
            one apart, which the product after it adds up.
        in_floats: Op types that onnxruntime runs between DequantizeLinear and QuantizeLinear.
    """

    network: Network
    max_lsb: int = 0
    in_floats: frozenset[str] = frozenset()


EXAMPLES = {
    "slicing": Example(
        Network(
            """(float[N,3,8,8] x, float[8,3,1,1] w, float[2,3,1,1] v) => (float[N,2,5,8] y) {
              zero = Constant<value = int64[1] {0}>()
              five = Constant<value = int64[1] {5}>()
              two = Constant<value = int64[1] {2}>()
              which = Constant<value = int64[3] {3,0,1}>()
              c = Conv(x, w)
              s = Slice(c, zero, five, two)
              a, b = Split<axis = 1>(s)
              t = Add(a, b)
              g = Gather<axis = 1>(t, which)
              y = Conv(g, v)
            }""",
            (3, 8, 8),
        )
    ),
    "expanding": Example(
        Network(
            """(float[N,3,8,8] x, float[4,3,1,1] w, float[2,8,1,1] v) => (float[N,2,6,6] y) {
              shape = Constant<value = int64[4] {1,1,6,6}>()
              twice = Constant<value = int64[4] {1,2,1,1}>()
              c = Conv(x, w)
              p = GlobalAveragePool(c)
              e = Expand(p, shape)
              t = Tile(e, twice)
              y = Conv(t, v)
            }""",
            (3, 8, 8),
        )
    ),
    "space_and_depth": Example(
        Network(
            """(float[N,3,8,8] x, float[8,3,1,1] w, float[2,2,1,1] u, float[2,8,1,1] v)
              => (float[N,2,8,8] y) {
              c = Conv(x, w)
              d = DepthToSpace<blocksize = 2>(c)
              e = Conv(d, u)
              s = SpaceToDepth<blocksize = 2>(e)
              y = Conv(s, v)
            }""",
            (3, 8, 8),
        ),
        in_floats=frozenset({"SpaceToDepth"}),
    ),
    "resize_nearest": Example(
        Network(
            """(float[N,3,6,6] x, float[4,3,1,1] w, float[2,4,1,1] v) => (float[N,2,12,12] y) {
              scales = Constant<value = float[4] {1.0,1.0,2.0,2.0}>()
              c = Conv(x, w)
              r = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric",
                nearest_mode = "floor">(c, , scales)
              y = Conv(r, v)
            }""",
            (3, 6, 6),
        )
    ),
    "resize_linear": Example(
        Network(
            """(float[N,3,6,6] x, float[4,3,1,1] w, float[2,4,1,1] v) => (float[N,2,15,15] y) {
              scales = Constant<value = float[4] {1.0,1.0,2.5,2.5}>()
              c = Conv(x, w)
              r = Resize<mode = "linear">(c, , scales)
              y = Conv(r, v)
            }""",
            (3, 6, 6),
        ),
        max_lsb=8,
        in_floats=frozenset({"Resize"}),
    ),
    "pad_wrap_and_crop": Example(
        Network(
            """(float[N,3,6,6] x, float[4,3,1,1] w, float[2,4,1,1] v) => (float[N,2,7,5] y) {
              pads = Constant<value = int64[8] {0,0,2,-1,0,0,-1,0}>()
              c = Conv(x, w)
              r = Pad<mode = "wrap">(c, pads)
              y = Conv(r, v)
            }""",
            (3, 6, 6),
        ),
        in_floats=frozenset({"Pad"}),
    ),
    "reductions": Example(
        Network(
            """(float[N,3,6,6] x, float[4,3,1,1] w, float[4,5] v) => (float[N,5] y) {
              c = Conv(x, w)
              h = ReduceMax<axes = [3], keepdims = 0>(c)
              l = ReduceMin<axes = [-1], keepdims = 0>(h)
              y = MatMul(l, v)
            }""",
            (3, 6, 6),
        )
    ),
    "global_max_pool": Example(
        Network(
            """(float[N,3,6,6] x, float[4,3,1,1] w, float[5,4,1,1] v) => (float[N,5,1,1] y) {
              c = Conv(x, w)
              p = GlobalMaxPool(c)
              y = Conv(p, v)
            }""",
            (3, 6, 6),
        ),
        in_floats=frozenset({"GlobalMaxPool"}),
    ),
    "reduce_mean": Example(
        Network(
            """(float[N,3,6,6] x, float[4,3,1,1] w, float[4,5] v) => (float[N,5] y) {
              c = Conv(x, w)
              m = ReduceMean<axes = [2,3], keepdims = 0>(c)
              y = MatMul(m, v)
            }""",
            (3, 6, 6),
        ),
        max_lsb=3,
        in_floats=frozenset({"ReduceMean"}),
    ),
    "layer_normalization": Example(
        Network(
            """(float[N,6,10] x, float[10,16] w, float[16] gamma, float[16] b, float[16,5] v)
              => (float[N,6,5] y) {
              m = MatMul(x, w)
              n = LayerNormalization(m, gamma, b)
              y = MatMul(n, v)
            }""",
            (6, 10),
        ),
        max_lsb=2,
        in_floats=frozenset({"LayerNormalization"}),
    ),
    "arg_max": Example(
        Network(
            """(float[N,3,8,8] x, float[7,3,1,1] w) => (int64[N,8,8] y, float[N,7,8,8] c) {
              c = Conv(x, w)
              y = ArgMax<axis = 1, keepdims = 0>(c)
            }""",
            (3, 8, 8),
        )
    ),
    "arg_max_alone": Example(
        Network(
            """(float[N,3,8,8] x, float[7,3,1,1] w) => (int64[N,1,8,8] y) {
              c = Conv(x, w)
              r = Relu(c)
              y = ArgMax<axis = 1>(r)
            }""",
            (3, 8, 8),
        )
    ),
    "arg_min": Example(
        Network(
            """(float[N,3,8,8] x, float[7,3,1,1] w, float[2,7,1,1] v)
              => (int64[N,1,8,8] y, float[N,2,8,8] z) {
              c = Conv(x, w)
              y = ArgMin<axis = 1>(c)
              z = Conv(c, v)
            }""",
            (3, 8, 8),
        ),
        in_floats=frozenset({"ArgMin"}),
    ),
}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_network_is_integer_and_equals_onnxruntime(name: str, tmp_path: Path) -> None:
    example = EXAMPLES[name]
    model, _ = quantized(example.network)
    assert dict(model.plan.kept_float) == {}
    exported = qdq_graph(model)
    feeds = example.network.feeds(3)
    expected = onnxruntime_outputs(exported, feeds)
    actual = open_integer_session(model, strict_integer=True).run(feeds)
    for output, array in expected.items():
        assert np.unique(array).size > 3
        params = model.plan.params.get(output)
        assert actual[output].dtype == array.dtype
        step = 1.0 if params is None else float(params.scale)
        steps = np.abs(actual[output].astype(np.float64) - array) / step
        assert steps.max() <= example.max_lsb + 0.01
    check_read_back(model, exported, tmp_path)
    if all(array.dtype == np.float32 for array in expected.values()):
        check_close_to_float(exported, example.network.model(), feeds, min_sqnr_db=12.0)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_onnxruntime_runs_in_floats_what_is_said_to(name: str) -> None:
    example = EXAMPLES[name]
    model, _ = quantized(example.network)
    nodes = optimized_program(qdq_graph(model)).nodes
    makers = {output: node.op_type for node in nodes for output in node.outputs}
    in_floats = {
        node.op_type
        for node in nodes
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear")
        and any(makers.get(name) == "DequantizeLinear" for name in node.inputs)
    }
    assert in_floats == example.in_floats


def test_indices_of_float_values_are_left_alone() -> None:
    network = Network(
        """(float[N,3,8,8] x, float[7,3,1,1] w) => (int64[N,1,8,8] y) {
          c = Conv(x, w)
          e = Shrink<lambd = 0.1>(c)
          [search] y = ArgMax<axis = 1>(e)
        }""",
        (3, 8, 8),
    )
    model, _ = quantized(network)
    assert "search" in model.plan.kept_float
    assert "e" not in model.plan.params
