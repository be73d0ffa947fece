"""Channels between two layers: even afterwards, with the function of the network as it was."""

from dataclasses import replace

import numpy as np
import pytest

from quantkit.config import QuantConfig
from quantkit.recovery.channel_groups import channel_groups
from quantkit.recovery.channel_limits import allowed, channel_ends
from quantkit.recovery.cross_layer_equalization import equalize_layers, wanted_factors
from quantkit.recovery.draft import Draft
from quantkit.recovery.weight_equalization import weight_equalizing_factors
from tests.recovery.rewritings import CASES, Case, all_values, check_rewritten, draft_of
from tests.small_networks import float_model, random_feeds

PER_CHANNEL, PER_TENSOR = QuantConfig(), QuantConfig(per_channel=False)


@pytest.mark.parametrize("config", [PER_CHANNEL, PER_TENSOR], ids=["per_channel", "per_tensor"])
@pytest.mark.parametrize("name", sorted(CASES))
def test_the_function_stays(name: str, config: QuantConfig) -> None:
    draft = CASES[name].draft()
    equalized = equalize_layers(draft, config)
    check_rewritten(draft, equalized, CASES[name].input_shape)
    scaled = [group for group in CASES[name].groups if name != "residual"]
    assert set(equalized.changes) <= set(" ".join(scaled).split())
    assert bool(equalized.changes) == bool(scaled)
    assert len(equalized.notes) == bool(scaled)


def reaches(draft: Draft, value: str) -> list[float]:
    channels = draft.table.statistics[value].channels
    assert channels is not None
    return [float(reach) for reach in np.maximum(channels.maximum, -channels.minimum)]


def test_a_depthwise_reader_takes_every_factor() -> None:
    case = CASES["one_dimension"]
    draft = case.draft()
    before = reaches(draft, "r")
    after = reaches(equalize_layers(draft, PER_CHANNEL), "r")
    assert max(before) / min(before) > 5.0
    assert max(after) / min(after) < 2**0.13
    assert max(after) == pytest.approx(max(before), rel=0.1)
    # Behind the depthwise layer another reader pays.
    spread = max(reaches(draft, "d")) / min(reaches(draft, "d"))
    evened = reaches(equalize_layers(draft, PER_CHANNEL), "d")
    assert max(evened) / min(evened) == pytest.approx(spread**0.75, rel=0.2)


def test_channels_that_saturate_are_left_alone() -> None:
    draft = CASES["depthwise_relu6"].draft()
    for config in (PER_CHANNEL, PER_TENSOR):
        equalized = equalize_layers(draft, config)
        for group in channel_groups(draft.prepared.program):
            ends = channel_ends(group, draft)
            assert ends is not None
            is_near = ends[-1][1] * 1.25 >= 6.0
            factors = equalized.changes[group.values[0]].factors
            assert (factors[is_near] == 1.0).all()
            assert (factors[~is_near] != 1.0).any()


def test_unseen_data_up_to_a_quarter_above() -> None:
    """Where a Clip has an upper bound, values 1.25 times those that were seen are not cut."""
    case = CASES["depthwise_relu6"]
    draft = case.draft()
    equalized = equalize_layers(draft, PER_CHANNEL)
    factors = equalized.changes["r"].factors
    assert (factors > 1.0).any()
    x = random_feeds(draft.prepared.model, case.input_shape, 8, seed=7)["x"]
    largest = all_values(draft.prepared, {"x": x})["r"].max(axis=(0, 2, 3))
    for louder in (1.0, 8.0):
        old, new = (all_values(each.prepared, {"x": x * louder}) for each in (draft, equalized))
        expected = equalized.changes["r"].applied(old["r"])
        differs = np.abs(new["r"] - expected) > 1e-5 * 6.0
        assert not differs[old["r"] < 1.249 * largest[:, None, None] + 0 * old["r"]].any()
        assert differs.any() == (louder == 8.0)
        np.testing.assert_allclose(new["r"][differs], 6.0)


def test_dead_channels() -> None:
    draft = CASES["dead_channels"].draft()
    factors = equalize_layers(draft, PER_CHANNEL).changes["r"].factors
    assert factors[1] == 1.0
    assert factors[0] == 1.0
    assert 1.0 < factors[3] < factors[2] <= 2.0**10


def test_noise_is_blown_up_only_so_far() -> None:
    found = wanted_factors(np.array([1.0, 1e-13, 0.0, 0.5]), 1.0)
    np.testing.assert_array_equal(found, [1.0, 2.0**10, 1.0, 2.0])


ZERO_INPUT = Case(
    """(float[N,3,6,6] x, float[4,3,1,1] w0, float[4] k0, float[4,1,3,3] w1, float[4] k1,
      float[2,4,1,1] w2) => (float[N,2,4,4] y) {
      zero = Constant<value = float {0.0}>()
      six = Constant<value = float {6.0}>()
      c = Conv(x, w0, k0)
      r = Clip(c, zero, six)
      d = Conv<group = 4>(r, w1, k1)
      s = Relu(d)
      y = Conv(s, w2)
    }""",
    (3, 6, 6),
    (),
    {
        "w0": np.array([1.0, 1.0, 1.0, 1e-12])[:, None, None, None] * np.ones((4, 3, 1, 1)),
        "k0": np.array([0.0, 9.0, 0.5, -1.0]),
        "w1": np.array([0.1, 0.1, 0.1, 40.0])[:, None, None, None] * np.ones((4, 1, 3, 3)),
        "k1": np.ones(4),
    },
)


def test_weights_of_channels_that_are_always_zero() -> None:
    """One scale per weight: what multiplies nothing but zeros must not take all codes."""
    draft = ZERO_INPUT.draft()
    equalized = equalize_layers(draft, PER_TENSOR)
    check_rewritten(draft, equalized, ZERO_INPUT.input_shape)
    before, after = (each.prepared.program.constants["w1"] for each in (draft, equalized))
    assert np.abs(before[:3]).max() / np.abs(before).max() < 0.01
    assert np.abs(after[:3]).max() / np.abs(after).max() > 0.5


def test_weights_are_even_on_both_sides() -> None:
    """Without the channels' reach, equation 11 of the paper: rows and columns meet halfway."""
    text = """(float[N,3,6,6] x, float[5,3,1,1] w0, float[4,5,1,1] w1) => (float[N,4,6,6] y) {
      c = Conv(x, w0)
      y = Conv(c, w1)
    }"""
    draft = Case(text, (3, 6, 6), ()).draft()
    (group,) = channel_groups(draft.prepared.program)
    ((_, factors),) = weight_equalizing_factors(draft, [(group, np.ones(5))])
    constants = draft.prepared.program.constants
    rows = np.abs(constants["w0"]).max(axis=(1, 2, 3)).astype(np.float64)
    columns = np.abs(constants["w1"]).max(axis=(0, 2, 3)).astype(np.float64)
    after = np.sqrt(rows * factors * factors / factors.max()), columns / factors
    relative = [each / each.max() for each in after]
    assert np.ptp(np.log2(relative[0] / relative[1])) < np.ptp(np.log2(rows / columns)) / 2


def test_a_value_that_is_always_zero_is_scaled_by_its_weights_alone() -> None:
    draft = CASES["relu"].draft()
    (group, *_) = channel_groups(draft.prepared.program)
    for _, factors in weight_equalizing_factors(draft, [(group, np.zeros(group.channels))]):
        assert np.isfinite(factors).all()
        assert (factors > 0).all()


def test_values_whose_channels_are_not_known() -> None:
    draft = CASES["relu"].draft()
    table = draft.table
    nothing = replace(draft, table=replace(table, statistics={}))
    whole = {name: replace(found, channels=None) for name, found in table.statistics.items()}
    for each in (nothing, replace(draft, table=replace(table, statistics=whole))):
        for config in (PER_CHANNEL, PER_TENSOR):
            assert equalize_layers(each, config) is each


@pytest.mark.parametrize("zeros", ["w0", "w1"])
def test_weights_of_zero(zeros: str) -> None:
    case = CASES["relu"]
    shape = (5, 3, 3, 3) if zeros == "w0" else (4, 5, 3, 3)
    model = float_model(case.text, constants={zeros: np.zeros(shape)})
    draft = draft_of(model, case.input_shape)
    for config in (PER_CHANNEL, PER_TENSOR):
        check_rewritten(draft, equalize_layers(draft, config), case.input_shape)


def test_no_room_is_used_up_by_rounding_to_the_grid() -> None:
    draft = CASES["depthwise_relu6"].draft()
    group = channel_groups(draft.prepared.program)[0]
    ends = channel_ends(group, draft)
    assert ends is not None
    for exponent in np.linspace(0.0, 3.0, 25):
        factors = allowed(np.full(6, 2.0**exponent), group, draft)
        assert (factors[factors > 1] * ends[-1][1][factors > 1] <= 6.0 / 1.25).all()
