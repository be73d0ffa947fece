"""Which values are scaled together, and which are left alone."""

import numpy as np
import onnx_ir as ir
import pytest

from quantkit.graph.program import Program
from quantkit.passes.prepare import prepare
from quantkit.recovery.channel_groups import ChannelGroup, channel_groups, is_depthwise
from tests.recovery.rewritings import CASES
from tests.small_networks import float_model


def groups_of(text: str) -> tuple[Program, tuple[ChannelGroup, ...]]:
    program = prepare(float_model(text)).program
    return program, channel_groups(program)


@pytest.mark.parametrize("name", sorted(CASES))
def test_groups(name: str) -> None:
    case = CASES[name]
    program = prepare(case.model()).program
    found = channel_groups(program)
    assert {" ".join(group.values) for group in found} == set(case.groups)
    for group in found:
        assert group.channels == program.constants[group.producers[0].inputs[1]].shape[0] or (
            name == "gemm"
        )


def test_who_makes_and_who_reads() -> None:
    program, groups = groups_of(CASES["several_readers"].text)
    group = groups[0]
    assert [node.outputs[0] for node in group.producers] == ["c"]
    assert [node.outputs[0] for node in group.consumers] == ["d", "e", "z"]
    assert (group.has_sum, group.bound, group.channels) == (False, np.inf, 4)
    assert not group.is_free(program)


def test_depthwise_readers_take_any_factor() -> None:
    program, (first, second) = groups_of(CASES["depthwise_relu6"].text)
    assert (first.is_free(program), second.is_free(program)) == (True, False)
    assert is_depthwise(first.consumers[0], program)
    assert first.bound == second.bound == 6.0


def test_a_residual_stream_is_one_group() -> None:
    (group,) = groups_of(CASES["residual"].text)[1]
    assert group.has_sum
    assert [node.outputs[0] for node in group.producers] == ["c", "d", "e", "h"]
    assert [node.outputs[0] for node in group.consumers] == ["d", "e", "h", "y"]


def test_the_least_bound_counts() -> None:
    (group,) = groups_of(
        """(float[N,3,4,4] x, float[4,3,1,1] w0, float[2,4,1,1] w1) => (float[N,2,4,4] y) {
          zero = Constant<value = float {0.0}>()
          six = Constant<value = float {6.0}>()
          three = Constant<value = float {3.0}>()
          c = Conv(x, w0)
          r = Clip(c, zero, six)
          p = GlobalMaxPool(r)
          s = Clip(p, zero, three)
          y = Conv(s, w1)
        }"""
    )[1]
    assert group.bound == 3.0


FEEDABLE = """(float[N,3,4,4] x, float[4,3,1,1] w0, float[4] b0, float[2,4,1,1] w1, float six)
  => (float[N,2,4,4] y) {
  zero = Constant<value = float {0.0}>()
  c = Conv(x, w0, b0)
  r = Clip(c, zero, six)
  y = Conv(r, w1)
}"""


@pytest.mark.parametrize("name", ["w0", "b0", "w1", "six"])
def test_what_a_caller_may_feed_is_left_alone(name: str) -> None:
    model = float_model(FEEDABLE, constants={"six": np.array(6.0, np.float32)})
    assert len(channel_groups(prepare(model).program)) == 1
    model.graph.inputs.append(model.graph.initializers[name])
    assert channel_groups(prepare(model).program) == ()


def test_a_sum_with_what_a_caller_may_feed() -> None:
    """Relu of a constant is no value that a layer could scale."""
    model = float_model(
        """(float[1,3,4,4] x, float[4,3,1,1] w0, float[1,4,4,4] k, float[2,4,1,1] w1)
          => (float[1,2,4,4] y) {
          c = Conv(x, w0)
          r = Relu(k)
          s = Add(c, r)
          y = Conv(s, w1)
        }"""
    )
    model.graph.inputs.append(model.graph.initializers["k"])
    assert channel_groups(prepare(model).program) == ()


def test_a_slope_that_is_computed() -> None:
    groups = groups_of(
        """(float[N,3,4,4] x, float[4,3,1,1] w0, float[4,3,1,1] w1, float[2,4,1,1] w2)
          => (float[N,2,4,4] y) {
          c = Conv(x, w0)
          d = Conv(x, w1)
          r = PRelu(c, d)
          y = Conv(r, w2)
        }"""
    )[1]
    assert groups == ()


def test_what_a_subgraph_reads_is_left_alone() -> None:
    model = float_model(
        """(float[1,3,4,4] x, float[4,3,1,1] w0, float[2,4,1,1] w1) => (float[1,2,4,4] y, float z) {
          c = Conv(x, w0)
          r = Relu(c)
          total = ReduceSum<keepdims = 0>(x)
          zero = Constant<value = float {0.0}>()
          is_positive = Greater(total, zero)
          z = If(is_positive) <
            then_branch = g1 () => (float t) { t = ReduceMax<keepdims = 0>(r) },
            else_branch = g2 () => (float e) { e = ReduceMin<keepdims = 0>(r) }>
          y = Conv(r, w1)
        }"""
    )
    program = prepare(model).program
    assert any(node.has_subgraph for node in program.nodes)
    assert channel_groups(program) == ()


def test_a_matrix_in_place_of_a_bias() -> None:
    """(rows, 1) is one value per sample, although it is as long as a row per channel."""
    model = float_model(
        """(float[4,3] x, float[4,3] w0, float[4,1] k, float[2,4] w1) => (float[4,2] y) {
          c = Gemm<transB = 1>(x, w0, k)
          y = Gemm<transB = 1>(c, w1)
        }"""
    )
    assert channel_groups(prepare(model).program) == ()


@pytest.mark.parametrize(
    ("shape", "is_group"), [((0, 4, -1), True), ((0, 2, -1), False), ((-1, 16), False)]
)
def test_reshapes(shape: tuple[int, ...], is_group: bool) -> None:
    """Channels stay channels, or are moved to another axis."""
    target = ",".join(map(str, shape))
    tail = (
        "f = Reshape(c, shape)\n r = Relu(f)\n y = Conv(r, w1)"
        if len(shape) == 3
        else "f = Reshape(c, shape)\n y = Gemm<transB = 1>(f, w2)"
    )
    model = float_model(
        f"""(float[2,3,4,4] x, float[4,3,1,1] w0, float[2,{shape[1]},1] w1, float[4,16] w2)
          => (float[A,B,C] y) {{
          c = Conv(x, w0)
          shape = Constant<value = int64[{len(shape)}] {{{target}}}>()
          {tail}
        }}""".replace("float[A,B,C] y", "float[A,B,C] y" if len(shape) == 3 else "float[A,B] y")
    )
    assert bool(channel_groups(prepare(model).program)) == is_group


def test_unnamed_sizes_are_not_equal_sizes() -> None:
    model = CASES["flatten"].model()
    value: ir.Value = model.graph.inputs[0]
    value.shape = ir.Shape([None, 3, None, None])
    assert channel_groups(prepare(model).program) == ()
