"""Channels that are added up: even afterwards, with the function of the network as it was."""

import numpy as np
import pytest

from quantkit.config import QuantConfig
from quantkit.recovery.linear_edge_equalization import equalize_linear_edges
from tests.recovery.rewritings import CASES, all_values, check_rewritten
from tests.small_networks import random_feeds

PER_CHANNEL, PER_TENSOR = QuantConfig(), QuantConfig(per_channel=False)


@pytest.mark.parametrize("config", [PER_CHANNEL, PER_TENSOR], ids=["per_channel", "per_tensor"])
@pytest.mark.parametrize("seed", range(4))
def test_the_function_stays(seed: int, config: QuantConfig) -> None:
    case = CASES["residual"]
    draft = case.draft(seed)
    equalized = equalize_linear_edges(draft, config)
    check_rewritten(draft, equalized, case.input_shape)
    assert " ".join(equalized.changes) == case.groups[0]
    (note,) = equalized.notes
    assert (note.pass_name, note.node) == ("linear_edge_equalization", "")
    factors = equalized.changes["s"].factors
    assert note.message.startswith(f"{np.count_nonzero(factors != 1.0)} channels of 1 groups")


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"residual"}))
def test_other_networks_are_left_alone(name: str) -> None:
    draft = CASES[name].draft()
    equalized = equalize_linear_edges(draft, PER_CHANNEL)
    assert equalized is draft


def test_all_members_share_the_factors() -> None:
    draft = CASES["residual"].draft()
    equalized = equalize_linear_edges(draft, PER_CHANNEL)
    factors = [change.factors for change in equalized.changes.values()]
    for other in factors[1:]:
        np.testing.assert_array_equal(other, factors[0])
    before, after = (each.table.statistics["s"].channels for each in (draft, equalized))
    assert before is not None
    assert after is not None
    spreads = [np.ptp(np.log2(np.maximum(each.maximum, -each.minimum))) for each in (before, after)]
    assert spreads[1] < 0.8 * spreads[0]


def test_it_is_exact_for_all_data() -> None:
    case = CASES["residual"]
    draft = case.draft()
    equalized = equalize_linear_edges(draft, PER_CHANNEL)
    feeds = random_feeds(draft.prepared.model, case.input_shape, 8, seed=99)
    old, new = (
        all_values(each.prepared, {"x": 100 * feeds["x"]})["y"] for each in (draft, equalized)
    )
    np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-5 * np.abs(old).max())
