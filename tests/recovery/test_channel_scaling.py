"""Any factors: the network's function stays, and what is known of it follows."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantkit.calibration.statistics import ChannelStatistics, TensorStatistics
from quantkit.config import QuantConfig
from quantkit.range_estimators.contract import Range
from quantkit.recovery.channel_changes import Float64Array, on_grid
from quantkit.recovery.channel_groups import ChannelGroup, channel_groups
from quantkit.recovery.channel_limits import allowed, channel_ends
from quantkit.recovery.channel_scaling import channel_reach, range_after, scale_channels
from quantkit.recovery.draft import Draft
from tests.recovery.rewritings import CASES, check_rewritten

CONFIG = QuantConfig()


def random_factors(draft: Draft, seed: int) -> list[tuple[ChannelGroup, Float64Array]]:
    rng = np.random.default_rng(seed)
    groups = channel_groups(draft.prepared.program)
    wanted = [on_grid(np.exp2(rng.uniform(-6.0, 6.0, group.channels))) for group in groups]
    return [(group, allowed(f, group, draft)) for group, f in zip(groups, wanted, strict=True)]


@pytest.mark.parametrize("name", sorted(name for name in CASES if CASES[name].groups))
def test_the_function_stays(name: str) -> None:
    draft = CASES[name].draft()
    scaled = scale_channels(draft, random_factors(draft, 0), CONFIG)
    check_rewritten(draft, scaled, CASES[name].input_shape)
    assert scaled.changes
    again = scale_channels(scaled, random_factors(scaled, 1), CONFIG)
    check_rewritten(draft, again, CASES[name].input_shape)


@settings(max_examples=15)
@given(
    st.sampled_from(["residual", "depthwise_relu6", "grouped", "gemm", "flatten_then_conv"]),
    st.integers(0, 2**16),
)
def test_the_function_stays_for_any_weights(name: str, seed: int) -> None:
    draft = CASES[name].draft(seed)
    check_rewritten(
        draft,
        scale_channels(draft, random_factors(draft, seed), CONFIG),
        CASES[name].input_shape,
    )


def test_nothing_of_the_draft_changes() -> None:
    draft = CASES["residual"].draft()
    before = {name: array.copy() for name, array in draft.prepared.program.constants.items()}
    scale_channels(draft, random_factors(draft, 0), CONFIG)
    for name, array in before.items():
        np.testing.assert_array_equal(draft.prepared.program.constants[name], array)
        held = draft.prepared.model.graph.initializers[name].const_value
        assert held is not None
        np.testing.assert_array_equal(held.numpy(), array)
    assert not draft.changes


def without_channels(draft: Draft, *names: str) -> Draft:
    statistics = dict(draft.table.statistics)
    for name in names:
        statistics[name] = replace(statistics[name], channels=None)
    return replace(draft, table=replace(draft.table, statistics=statistics))


def without_statistics(draft: Draft, *names: str) -> Draft:
    statistics = {k: v for k, v in draft.table.statistics.items() if k not in names}
    return replace(draft, table=replace(draft.table, statistics=statistics))


def test_reach_is_the_mean_of_what_is_known() -> None:
    draft = CASES["several_readers"].draft()
    group = channel_groups(draft.prepared.program)[0]
    relu, pooled = (draft.table.statistics[name].channels for name in ("r", "p"))
    assert relu is not None
    assert pooled is not None
    # c, which is clamped, is not known; f is p.
    expected = (relu.maximum / relu.maximum.max()) ** (1 / 3)
    expected *= (pooled.maximum / pooled.maximum.max()) ** (2 / 3)
    found = channel_reach(group, draft)
    assert found is not None
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    alone = channel_reach(group, without_statistics(draft, "p", "f"))
    assert alone is not None
    np.testing.assert_allclose(alone, relu.maximum / relu.maximum.max(), rtol=1e-6)


def test_reach_behind_flatten_is_that_of_the_block() -> None:
    draft = CASES["flatten"].draft()
    (group,) = channel_groups(draft.prepared.program)
    flat = channel_reach(group, without_statistics(draft, "c", "r"))
    whole = channel_reach(group, without_statistics(draft, "c", "f"))
    assert flat is not None
    np.testing.assert_array_equal(flat, whole)


def test_reach_is_not_known() -> None:
    draft = CASES["several_readers"].draft()
    group = channel_groups(draft.prepared.program)[0]
    assert channel_reach(group, without_statistics(draft, *group.values)) is None
    assert channel_reach(group, without_channels(draft, "p")) is None
    assert channel_ends(group, without_channels(draft, "p")) is None


def test_a_clip_limits_the_factors() -> None:
    draft = CASES["depthwise_relu6"].draft()
    group = channel_groups(draft.prepared.program)[0]
    ends = channel_ends(group, draft)
    assert ends is not None
    largest = ends[-1][1]
    for wanted in (2.0**10, 2.0**-10, 1.0):
        factors = allowed(np.full(6, wanted), group, draft)
        assert (factors * largest * 1.25 <= np.where(factors == 1.0, np.inf, 6.0)).all()
        assert (factors[largest * 1.25 >= 6.0] == 1.0).all()
        assert (factors[largest * 1.25 < 6.0] <= wanted).all()
        # No step of 2^(1/8) more is left.
        tight = (factors > 1.0) & (factors < wanted)
        assert (factors[tight] * largest[tight] * 1.25 * 2**0.126 >= 6.0).all()
    assert (largest * 1.25 >= 6.0).any()
    assert (largest * 1.25 < 6.0).any()


def statistics(low: list[float], high: list[float]) -> TensorStatistics:
    found = CASES["relu"].draft().table.statistics["r"]
    zeros = np.zeros(len(low))
    channels = ChannelStatistics(
        np.array(low, np.float32),
        np.array(high, np.float32),
        zeros.astype(np.int64),
        zeros.astype(np.uint32),
    )
    return replace(found, minimum=min(low), maximum=max(high), channels=channels)


@pytest.mark.parametrize(
    ("bound", "known", "expected"),
    [
        # Half of the new ends, [-2, 10]; all that was not cut before, [-4, 20].
        (np.inf, Range(-2.0, 5.0), (-(8.0**0.5), 200.0**0.5)),
        # A quarter of the lower end; what was at -1 before, at most -2 now.
        (np.inf, Range(-1.0, 10.0), (-(2.0**0.5), 20.0)),
        (np.inf, Range(-4.0, 10.0), (-4.0, 20.0)),
        (6.0, Range(-1.0, 5.0), (-4.0, 20.0)),
    ],
)
def test_ranges_between_two_guesses(
    bound: float, known: Range, expected: tuple[float, float]
) -> None:
    (group,) = channel_groups(CASES["relu"].draft().prepared.program)
    before = statistics([-4.0, -2.0, 0.0], [10.0, 4.0, 5.0])
    factors = np.array([1.0, 2.0, 4.0])
    after = statistics([-4.0, -4.0, 0.0], [10.0, 8.0, 20.0])
    found = range_after(
        before,
        after,
        factors,
        known,
        replace(group, bound=bound),
        CONFIG,
        "scaled",
    )
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.reason.startswith("scaled")
