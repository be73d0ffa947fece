"""A cause is named for planted damage, and none for a healthy network."""

from pathlib import Path

import numpy as np
import pytest

from quantkit.config import QuantConfig
from quantkit.graph.program import Array
from quantkit.passes.prepare import prepare
from quantkit.pipeline import load_quantized, report
from quantkit.quantized_model.model import QuantizedModel
from quantkit.reporting.compare import LayerError
from quantkit.reporting.diagnose import Cause, channel_range_ratio, diagnose
from tests.reporting.networks import CLASSIFIER, samples, write

PER_TENSOR = QuantConfig(per_channel=False, bias_correction=False)


def uneven_middle() -> dict[str, Array]:
    """The depthwise layer's first channel is 300 times as large, and its input is dead."""
    weight = np.random.default_rng(3).normal(0.0, 0.3, (8, 1, 3, 3))
    weight[0] *= 300.0
    first = np.random.default_rng(4).normal(0.0, 0.2, (8, 3, 3, 3))
    first[0] = 0.0
    return {"w1": first, "w2": weight, "b1": np.zeros(8)}


def causes(files: tuple[Path, Path]) -> tuple[Cause, ...]:
    return report(*files, samples(16), with_integer_session=False).causes


def test_planted_uneven_channels_are_named_first(tmp_path: Path) -> None:
    files = write(tmp_path, CLASSIFIER, config=PER_TENSOR, constants=uneven_middle())
    first, *_ = causes(files)
    assert (first.node, first.remedy) == ("second", "--per-channel")
    assert first.cause == "one weight scale for uneven channels"


def test_the_named_option_is_the_remedy(tmp_path: Path) -> None:
    assert causes(write(tmp_path, CLASSIFIER, constants=uneven_middle())) == ()


@pytest.mark.parametrize("config", [None, PER_TENSOR])
def test_a_healthy_network_has_no_cause(tmp_path: Path, config: QuantConfig | None) -> None:
    assert causes(write(tmp_path, CLASSIFIER, config=config)) == ()


def test_range_ratio_is_largest_over_median(tmp_path: Path) -> None:
    weight = np.ones((8, 3, 3, 3))
    weight[5] = -40.0
    weight[6] = 0.0
    program = prepare(write(tmp_path, CLASSIFIER, constants={"w1": weight})[0]).program
    nodes = {node.name: node for node in program.nodes}
    assert channel_range_ratio(nodes["first"], program) == 40.0
    assert channel_range_ratio(nodes["pool"], program) is None


def error(node: str, sqnr_db: float | None) -> LayerError:
    return LayerError(node, "Conv", node, 1, sqnr_db, 10.0, 0.0, None)


@pytest.fixture
def model(tmp_path: Path) -> tuple[Path, QuantizedModel]:
    floating, quantized = write(tmp_path, CLASSIFIER)
    return floating, load_quantized(quantized)


@pytest.mark.parametrize(
    ("first", "others", "named"),
    [
        (8.0, 30.0, True),
        (8.0, 9.0, False),  # all are as bad: no single layer to exclude
        (19.0, 28.0, True),
        (19.0, 20.0, False),
        (21.0, 60.0, False),  # stands out, but is healthy
        (-np.inf, 30.0, False),  # nothing there to lose
        (None, 30.0, False),
    ],
)
def test_a_layer_is_excluded_only_if_it_stands_out(
    first: float | None, others: float, named: bool, model: tuple[Path, QuantizedModel]
) -> None:
    reference = prepare(model[0])
    rest = [error(node, others) for node in ("second", "pool", "last")]
    found = diagnose(reference, model[1], [error("first", first), *rest])
    expected = [("first", "--nodes-to-exclude first")] if named else []
    assert [(cause.node, cause.remedy) for cause in found] == expected
