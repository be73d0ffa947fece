"""In which order causes come, and how many a layer may have."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quantkit.calibration.statistics import statistics_of_sample
from quantkit.passes.prepare import prepare
from quantkit.pipeline import load_quantized
from quantkit.reporting.causes.findings import Findings
from quantkit.reporting.causes.guessing import guessing
from quantkit.reporting.causes.noise import (
    harmful_layers,
    mean_square,
    noise_percents,
    rounding_and_clipping,
)
from quantkit.reporting.diagnose import diagnose
from quantkit.reporting.layer import Histogram, Layer, TensorRange
from tests.reporting.networks import CLASSIFIER, write


def layer(node: str, value: str, network_sqnr_db: float | None, high: float = 4.0) -> Layer:
    return Layer(
        node=node,
        op_type="Conv",
        value=value,
        macs=1,
        isolated_sqnr_db=30.0,
        accumulated_sqnr_db=30.0,
        network_sqnr_db=network_sqnr_db,
        saturated_percent=0.0,
        kept_float=None,
        output=TensorRange(
            dtype="uint8",
            scale=high / 255,
            zero_point=0,
            low=0.0,
            high=high,
            minimum=0.0,
            maximum=4.0,
            clipped_percent=10.0 if high < 4.0 else 0.0,
            histogram=Histogram(start=0.0, width=1.0, counts=(1,)),
        ),
    )


@pytest.fixture
def findings(tmp_path: Path) -> Findings:
    """Three layers, alike and healthy."""
    floating, quantized = write(tmp_path, CLASSIFIER)
    values = np.random.default_rng(0).uniform(0.0, 4.0, (2, 8, 6, 6)).astype(np.float32)
    layers = (layer("first", "r1", 40.0), layer("second", "r2", 40.0), layer("pool", "p", 40.0))
    return Findings(
        prepare(floating),
        load_quantized(quantized),
        layers,
        {each.value: statistics_of_sample(values) for each in layers},
    )


def test_nothing_is_named_without_evidence(findings: Findings) -> None:
    assert diagnose(findings) == ()


def test_the_loudest_layer_comes_first(findings: Findings) -> None:
    layers = (layer("first", "r1", 16.0, 1.0), layer("second", "r2", 12.0, 1.0))
    found = diagnose(replace(findings, layers=layers))
    assert [(cause.node, cause.cause) for cause in found] == [
        ("", "too few samples") if not cause.node else (cause.node, "clipped tail")
        for cause in found
    ]
    nodes = [cause.node for cause in found if cause.node]
    assert nodes == ["second", "first"]
    percents = [cause.noise_percent for cause in found if cause.noise_percent is not None]
    assert sum(percents) == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("first", "others", "named"),
    [
        (10.0, 40.0, True),
        (10.0, 11.0, False),  # all are as bad: no single layer to keep out
        (35.0, 60.0, False),  # stands out, but is healthy
        (np.inf, 30.0, False),
        (None, 30.0, False),
    ],
)
def test_a_layer_is_only_kept_out_if_it_stands_out(
    first: float | None, others: float, named: bool, findings: Findings
) -> None:
    layers = tuple(layer(node, value, others) for node, value in (("second", "r2"), ("pool", "p")))
    found = diagnose(replace(findings, layers=(layer("first", "r1", first), *layers)))
    assert [cause.node for cause in found] == (["first"] if named else [])


def test_shares_add_up_and_leave_out_fixed_ranges(findings: Findings) -> None:
    softmax = layer("last", "scores", 3.0).model_copy(update={"op_type": "Softmax"})
    percents = noise_percents(replace(findings, layers=(*findings.layers, softmax)))
    assert percents == pytest.approx(dict.fromkeys(("first", "second", "pool"), 100.0 / 3.0))


def test_without_the_outputs_layers_are_judged_alone(findings: Findings) -> None:
    quiet, loud = layer("first", "r1", None), layer("second", "r2", None)
    loud = loud.model_copy(update={"isolated_sqnr_db": 8.0})
    found = harmful_layers(replace(findings, layers=(quiet, loud)))
    assert [each.node for each in found] == ["second"]


def test_rounding_and_clipping_of_known_values() -> None:
    values = np.array([0.0, 1.0, 2.0, 4.0], np.float32)
    statistics = statistics_of_sample(values)
    rounded, clipped = rounding_and_clipping(statistics, 0.0, 2.55, 256)
    assert rounded == pytest.approx(0.01**2 / 12)
    # The middle of a bucket is within 2^-8 of the value.
    assert clipped == pytest.approx(1.45**2 / 4, rel=0.03)
    assert mean_square(statistics) == pytest.approx(21.0 / 4, rel=0.02)


@pytest.mark.parametrize(("right", "named"), [(6, True), (20, False), (60, False)])
def test_a_float_network_that_guesses(right: int, named: bool, findings: Findings) -> None:
    labels = np.arange(60) % 10
    known = replace(findings, labels=labels, float_right=np.arange(60) < right)
    assert bool([*guessing(known)]) is named
    assert not [*guessing(replace(known, labels=None))]
    assert not [*guessing(replace(known, float_right=np.zeros(10, np.bool_)))]
