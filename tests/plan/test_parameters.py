"""How each range came about, and which values keep the full one."""

import numpy as np
import pytest

from quantkit.calibration.table import CalibrationTable
from quantkit.config import QuantConfig
from quantkit.passes.prepare import Prepared, prepare
from quantkit.plan import QuantPlan, candidate_refusals, make_plan
from quantkit.plan.ranges import full_range_reasons, range_groups
from quantkit.range_estimators import RANGE_ESTIMATORS, RangeOptions
from quantkit.range_estimators.contract import Range
from tests.small_networks import NETWORKS, Network, calibrated

ATTENTION = Network(
    """(float[N,6,10] x, float[10,10] w, float[10,4] v) => (float[N,6,4] y) {
      q = MatMul(x, w)
      k = Transpose<perm = [0,2,1]>(x)
      [scores] s = MatMul(q, k)
      r = Relu(s)
      t = Transpose<perm = [0,1,2]>(r)
      [probabilities] p = Softmax(t)
      m = MatMul(p, q)
      y = MatMul(m, v)
    }""",
    (6, 10),
)
LOG_SOFTMAX = Network(
    """(float[N,12] x, float[12,12] w, float[12,9] v) => (float[N,9] y) {
      h = MatMul(x, w)
      g = MatMul(h, v)
      [log] y = LogSoftmax(g)
    }""",
    (12,),
)
MOBILE = NETWORKS["mobile"]


def planned(
    network: Network, config: QuantConfig | None = None
) -> tuple[Prepared, CalibrationTable, QuantPlan]:
    prepared, table = calibrated(network.model(), network.input_shape)
    return prepared, table, make_plan(prepared, table, config)


def full_range_values(prepared: Prepared, config: QuantConfig | None = None) -> dict[str, str]:
    return full_range_reasons(
        prepared, range_groups(prepared, candidate_refusals(prepared, config))
    )


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_parameter_has_a_range_and_covers_it(name: str) -> None:
    network = NETWORKS[name]
    for method in RANGE_ESTIMATORS:
        plan = planned(network, QuantConfig(range_estimator=method, percentile=95.0))[2]
        assert list(plan.ranges) == list(plan.params)
        for value, found in plan.ranges.items():
            params = plan.params[value]
            scale, zero_point = float(params.scale), int(params.zero_point)
            # A rounded zero point moves the ends by half a step; 1/256 leaves out the 1.
            assert (params.qmin - zero_point) * scale <= found.low + 0.51 * scale
            assert (params.qmax - zero_point + 1.01) * scale >= found.high
            if method == "auto":
                assert found.reason


def test_inputs_and_outputs_of_the_graph_say_so() -> None:
    plan = planned(MOBILE)[2]
    assert plan.ranges["x"].reason == "graph input: full range"
    assert plan.ranges["y"].reason == "graph output: full range"
    assert plan.ranges["r1"].reason.startswith("minmax: ")


def test_plain_methods_need_no_reason() -> None:
    plan = planned(MOBILE, QuantConfig(range_estimator="minmax"))[2]
    assert {found.reason for found in plan.ranges.values()} == {
        "",
        "graph input: full range",
        "graph output: full range",
    }


def test_the_input_of_softmax_and_its_group_are_not_clipped() -> None:
    prepared, table, plan = planned(
        ATTENTION, QuantConfig(range_estimator="percentile", percentile=75.0)
    )
    assert plan.ranges["t"].reason == "input of Softmax: full range"
    shared = "shares the parameters of 't' (input of Softmax): full range"
    assert {plan.ranges[name].reason for name in ("s", "r")} == {shared}
    for name in ("s", "r", "t"):
        assert plan.ranges[name].high == table.statistics["r"].maximum
    assert plan.ranges["p"].reason == "fixed by Softmax"
    assert (plan.ranges["p"].low, plan.ranges["p"].high) == (0.0, 1.0)
    assert plan.ranges["k"].reason == "shares the parameters of 'x' (graph input): full range"
    assert plan.ranges["q"].high < table.statistics["q"].maximum
    assert full_range_values(prepared) == {
        name: found.reason for name, found in plan.ranges.items() if "full range" in found.reason
    }


def test_a_softmax_that_stays_float_spares_its_input_too() -> None:
    config = QuantConfig(range_estimator="percentile", percentile=75.0)
    prepared, table, plan = planned(LOG_SOFTMAX, config)
    assert "log" in plan.kept_float
    assert plan.ranges["g"].reason == "input of LogSoftmax: full range"
    assert plan.ranges["g"].high == table.statistics["g"].maximum
    assert plan.ranges["h"].high < table.statistics["h"].maximum
    assert full_range_values(prepared) == {
        "x": "graph input: full range",
        "y": "graph output: full range",
        "g": "input of LogSoftmax: full range",
    }


def test_what_stays_float_shares_nothing() -> None:
    prepared = prepare(ATTENTION.model())
    names = set(full_range_values(prepared))
    assert names == {"x", "k", "s", "r", "t", "y"}
    alone = full_range_values(prepared, QuantConfig(op_types_to_quantize=("MatMul",)))
    assert set(alone) == {"x", "t", "y"}


def test_a_softmax_at_the_end_is_fixed() -> None:
    plan = planned(NETWORKS["softmax"])[2]
    assert plan.ranges["y"].reason == "fixed by Softmax"
    assert plan.ranges["g"].reason == "input of Softmax: full range"


def test_constants_keep_their_range() -> None:
    plan = planned(NETWORKS["constant_operand"], QuantConfig(percentile=75.0))[2]
    assert plan.ranges["b"].reason == "constant: full range"


@pytest.mark.parametrize("method", list(RANGE_ESTIMATORS))
def test_clamped_outputs_stay_within_the_clamp(method: str) -> None:
    network = Network(
        """(float[N,3,8,8] x, float[8,3,1,1] w, float[4,8,1,1] v) => (float[N,4,8,8] y) {
          low = Constant<value = float {-0.3}>()
          high = Constant<value = float {0.7}>()
          c = Conv(x, w)
          r = Clip(c, low, high)
          y = Conv(r, v)
        }""",
        (3, 8, 8),
    )
    config = QuantConfig(range_estimator=method, percentile=99.0)
    plan = planned(network, config)[2]
    for name in ("c", "r"):
        assert float(np.float32(-0.3)) <= plan.ranges[name].low
        assert plan.ranges[name].high <= float(np.float32(0.7))
        if method == "auto":
            assert plan.ranges[name].reason.startswith("minmax: values end at a bound (0.7)")


def test_the_percentile_is_passed_on() -> None:
    table = calibrated(MOBILE.model(), MOBILE.input_shape)[1]
    for percentile in (80.0, 99.0):
        config = QuantConfig(range_estimator="percentile", percentile=percentile)
        plan = planned(MOBILE, config)[2]
        expected = RANGE_ESTIMATORS["percentile"](
            table.statistics["s"], RangeOptions(percentile=percentile)
        )
        assert plan.ranges["s"] == expected


def test_a_plan_without_ranges() -> None:
    assert QuantPlan({}, {}).ranges == {}


def test_known_ranges_take_the_place_of_the_estimators() -> None:
    prepared, table, before = planned(MOBILE)
    known = {"r1": Range(0.0, 1.5, "known"), "c2": Range(-9.0, 3.0, "known too")}
    plan = make_plan(prepared, table, ranges=known)
    for name, found in known.items():
        assert plan.ranges[name] == found
        assert float(plan.params[name].scale) == pytest.approx((found.high - found.low) / 255)
    # What a clamp absorbs has its parameters.
    assert plan.ranges["c1"] == known["r1"]
    for name, found in before.ranges.items():
        if name not in ("r1", "c1", "c2"):
            assert plan.ranges[name] == found
    assert list(plan.ranges) == list(before.ranges)


def test_known_ranges_do_not_clip_what_is_never_clipped() -> None:
    prepared, table, before = planned(MOBILE)
    narrow = Range(-0.1, 0.1, "too narrow")
    plan = make_plan(prepared, table, ranges={"x": narrow, "y": narrow})
    assert plan.ranges["x"] == before.ranges["x"]
    assert plan.ranges["y"] == before.ranges["y"]
    fixed, table, before = planned(NETWORKS["softmax"])
    plan = make_plan(fixed, table, ranges={"y": narrow, "g": narrow})
    assert dict(plan.ranges) == dict(before.ranges)
    constant, table, before = planned(NETWORKS["constant_operand"])
    assert make_plan(constant, table, ranges={"b": narrow}).ranges["b"] == before.ranges["b"]
