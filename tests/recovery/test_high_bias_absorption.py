"""What a channel always holds goes into the biases behind it."""

import numpy as np
import pytest

from quantkit.config import QuantConfig
from quantkit.graph.program import Array
from quantkit.recovery.high_bias_absorption import absorb_high_biases
from tests.recovery.rewritings import CASES, Case, all_values, check_rewritten
from tests.small_networks import random_feeds

CONFIG = QuantConfig()
HIGH: dict[str, Array] = {"k0": np.array([9.0, 0.0, 20.0, -30.0, 3.0, 0.1])}
BODY = {
    "relu": ("r = Relu(c)", (3, 6, 6), "float[4,6,1,1] u1", "y = Conv(r, u1, b1)"),
    "linear": ("r = Identity(c)", (3, 6, 6), "float[4,6,3,3] u1", "y = Conv(r, u1, b1)"),
    "grouped": ("r = Relu(c)", (3, 6, 6), "float[4,3,2,2] u1", "y = Conv<group = 2>(r, u1, b1)"),
    "valid": (
        "r = Relu(c)",
        (3, 6, 6),
        "float[4,6,2,2] u1",
        'y = Conv<auto_pad = "VALID", strides = [2,2]>(r, u1, b1)',
    ),
}


def case(kind: str) -> Case:
    between, shape, weight, reader = BODY[kind]
    return Case(
        f"""(float[N,3,6,6] x, float[6,3,1,1] u0, float[6] k0, {weight}, float[4] b1)
          => (float[N,4,H,W] y) {{
          c = Conv(x, u0, k0)
          {between}
          {reader}
        }}""",
        shape,
        (),
        HIGH,
    )


GEMM = Case(
    """(float[N,5] x, float[6,5] u0, float[6] k0, float[6,3] u1, float[3] b1)
      => (float[N,3] y) {
      c = Gemm<transB = 1>(x, u0, k0)
      r = Relu(c)
      y = Gemm<alpha = 0.5, beta = 3.0>(r, u1, b1)
    }""",
    (5,),
    (),
    HIGH,
)


@pytest.mark.parametrize("kind", [*sorted(BODY), "gemm"])
def test_the_function_stays(kind: str) -> None:
    each = GEMM if kind == "gemm" else case(kind)
    draft = each.draft()
    absorbed = absorb_high_biases(draft, CONFIG)
    check_rewritten(draft, absorbed, each.input_shape)
    value = "c" if kind == "linear" else "r"
    shifts = absorbed.changes[value].shifts
    channels = draft.table.statistics[value].channels
    assert channels is not None
    nearest = np.maximum(channels.minimum, 0.0) + np.minimum(channels.maximum, 0.0)
    np.testing.assert_allclose(shifts, 0.8 * nearest, rtol=1e-5)
    assert shifts[2] > 5.0
    # Behind a Relu nothing is always below zero.
    assert (shifts[3] < -5.0) == (kind == "linear")
    (note,) = absorbed.notes
    assert note.message.startswith(f"what {np.count_nonzero(shifts)} channels always hold")
    narrow, wide = (each.table.statistics[value] for each in (absorbed, draft))
    assert narrow.maximum < wide.maximum
    assert absorbed.ranges[value].high <= narrow.maximum


def changed(text: str, was: str, becomes: str) -> Case:
    assert was in text
    return Case(text.replace(was, becomes), (3, 6, 6), (), HIGH)


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("Conv(r, u1, b1)", "Conv<pads = [0,0,1,1]>(r, u1, b1)"),
        ("Conv(r, u1, b1)", 'Conv<auto_pad = "SAME_UPPER">(r, u1, b1)'),
        ("Relu(c)", "LeakyRelu<alpha = 0.5>(c)"),
        ("Relu(c)", "MaxPool<kernel_shape = [2,2], pads = [1,1,1,1]>(c)"),
        (
            "Relu(c)",
            "AveragePool<kernel_shape = [2,2], count_include_pad = 1, pads = [1,1,1,1]>(c)",
        ),
        ("Relu(c)", "Add(c, c)"),
        ("Relu(c)", "Sigmoid(c)"),
    ],
)
def test_what_cannot_take_a_shift(was: str, becomes: str) -> None:
    each = (
        changed(case("valid" if "auto" in becomes else "relu").text, was, becomes)
        if ("auto" not in becomes)
        else changed(case("relu").text, was, becomes)
    )
    assert not absorb_high_biases(each.draft(), CONFIG).changes


def test_a_channel_that_comes_near_the_bound_stays() -> None:
    text = case("relu").text.replace(
        "r = Relu(c)",
        """zero = Constant<value = float {0.0}>()
          high = Constant<value = float {18.0}>()
          r = Clip(c, zero, high)""",
    )
    each = Case(text, (3, 6, 6), (), HIGH)
    draft = each.draft()
    absorbed = absorb_high_biases(draft, CONFIG)
    check_rewritten(draft, absorbed, each.input_shape)
    shifts = absorbed.changes["r"].shifts
    assert shifts[0] > 0.0
    assert shifts[2] == 0.0


def test_always_negative_before_a_relu_and_read_beside_it() -> None:
    """The value itself could be shifted up, its Relu could not."""
    each = Case(
        """(float[N,3,6,6] x, float[6,3,1,1] u0, float[6] k0, float[4,6,1,1] u1, float[4,6,1,1] u2)
          => (float[N,4,6,6] y, float[N,4,6,6] z) {
          c = Conv(x, u0, k0)
          r = Relu(c)
          z = Conv(r, u1)
          y = Conv(c, u2)
        }""",
        (3, 6, 6),
        (),
        {"k0": np.array([9.0, -20.0, -20.0, -30.0, -30.0, -30.0])},
    )
    draft = each.draft()
    absorbed = absorb_high_biases(draft, CONFIG)
    check_rewritten(draft, absorbed, each.input_shape)
    assert (absorbed.changes["r"].shifts[1:] == 0.0).all()


def test_a_fifth_is_left_for_other_data() -> None:
    draft = case("relu").draft()
    absorbed = absorb_high_biases(draft, CONFIG)
    feeds = random_feeds(draft.prepared.model, (3, 6, 6), 8, seed=123)
    old, new = (all_values(each.prepared, feeds)["y"] for each in (draft, absorbed))
    np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-5 * np.abs(old).max())


@pytest.mark.parametrize("name", sorted(CASES))
def test_other_networks(name: str) -> None:
    draft = CASES[name].draft()
    check_rewritten(draft, absorb_high_biases(draft, CONFIG), CASES[name].input_shape)
