"""Limits: which is missed by how much, and what cannot be judged."""

import math

import pytest

from quantkit.errors import ConfigError
from quantkit.reporting.gate import Limits, judged_engine, misses, verdicts
from quantkit.reporting.report import INTEGER_LABEL, Report
from tests.reporting.example_report import example_report

REPORT = example_report()
INTERVAL = "95 % interval -0.83 to +1.46"
OF_METRIC = "95 % interval -0.0345 to +0.0456"
TOP1 = REPORT.model_copy(update={"metric": None, "metric_drop": None})
ALONE = TOP1.model_copy(
    update={"float_model": None, "drop": None, "engines": (REPORT.engines[1], REPORT.engines[2])}
)
BARE = ALONE.model_copy(update={"engines": REPORT.engines[1:2]})


def with_sqnr(**sqnr_db: float) -> Report:
    row = TOP1.engines[1].model_copy(update={"sqnr_db": sqnr_db})
    return TOP1.model_copy(update={"engines": (TOP1.engines[0], row, TOP1.engines[2])})


@pytest.mark.parametrize(
    ("report", "limits", "expected"),
    [
        (TOP1, Limits(), []),
        (TOP1, Limits(max_drop=0.307692), []),
        (
            TOP1,
            Limits(max_drop=0.1),
            [f"top-1 drop 0.31 points exceeds --max-drop 0.1 by 0.21 ({INTERVAL})"],
        ),
        (
            TOP1,
            Limits(max_drop=0.3076),
            [f"top-1 drop 0.31 points exceeds --max-drop 0.3076 by 9e-05 ({INTERVAL})"],
        ),
        (
            REPORT,
            Limits(max_drop=0.01),
            [f"metrics:mean_rank drop 0.0123 exceeds --max-drop 0.01 by 0.0023 ({OF_METRIC})"],
        ),
        (
            TOP1,
            Limits(min_sqnr=25.0, min_agreement=99.0),
            [
                "SQNR 24.44 dB of output 'logits' falls short of --min-sqnr 25 by 0.56",
                "agreement 98.46 % falls short of --min-agreement 99 by 0.54",
            ],
        ),
        (
            with_sqnr(boxes=31.0, scores=20.5),
            Limits(min_sqnr=30.0),
            ["SQNR 20.50 dB of output 'scores' falls short of --min-sqnr 30 by 9.50"],
        ),
        (with_sqnr(logits=math.inf), Limits(min_sqnr=300.0), []),
        (
            with_sqnr(logits=-math.inf),
            Limits(min_sqnr=3.0),
            ["SQNR -inf dB of output 'logits' falls short of --min-sqnr 3 by inf"],
        ),
        (
            ALONE,
            Limits(min_sqnr=25.0, min_agreement=90.0),
            ["SQNR 24.11 dB of output 'logits' falls short of --min-sqnr 25 by 0.89"],
        ),
    ],
)
def test_misses(report: Report, limits: Limits, expected: list[str]) -> None:
    assert list(misses(report, limits)) == expected
    judged = verdicts(report, limits)
    assert [one.text for one in judged if not one.is_met] == expected
    assert [one.limit for one in judged] == [f"{name} {v:g}" for name, v in limits.given().items()]


@pytest.mark.parametrize("first", [math.nan, 40.0])
def test_not_a_number_is_the_worst_output(first: float) -> None:
    report = with_sqnr(a=first, b=math.nan, c=30.0)
    (text,) = misses(report, Limits(min_sqnr=10.0))
    assert text.startswith("SQNR nan dB of output ")


@pytest.mark.parametrize(
    ("report", "limits", "option", "do"),
    [
        (ALONE, Limits(max_drop=1.0), "--max-drop", "give the float model and --labels"),
        (
            REPORT.model_copy(update={"metric_drop": None}),
            Limits(max_drop=1.0),
            "--max-drop",
            "set --min-agreement instead",
        ),
        (BARE, Limits(min_sqnr=1.0), "--min-sqnr", "leave out --no-integer-session"),
        (BARE, Limits(min_agreement=1.0), "--min-agreement", "give the float model"),
        (
            with_sqnr().model_copy(
                update={
                    "engines": tuple(
                        row.model_copy(update={"agreement_percent": None}) for row in TOP1.engines
                    )
                }
            ),
            Limits(min_agreement=1.0),
            "--min-agreement",
            "set --min-sqnr instead",
        ),
    ],
)
def test_what_was_not_measured_cannot_be_judged(
    report: Report, limits: Limits, option: str, do: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^{option} cannot be judged: .*{do}"):
        misses(report, limits)
    assert [one.is_met for one in verdicts(report, limits)] == [None]


@pytest.mark.parametrize("option", ["max_drop", "min_sqnr", "min_agreement"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -0.5])
def test_limits_are_numbers_of_0_or_more(option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"^--{option.replace('_', '-')}: a number of 0 or more"):
        Limits(**{option: value})


def test_an_agreement_is_a_share() -> None:
    assert Limits(min_agreement=100.0).given() == {"--min-agreement": 100.0}
    with pytest.raises(ConfigError, match="a share of per cent is expected, got 101"):
        Limits(min_agreement=101.0)


def test_which_engine_is_judged() -> None:
    assert judged_engine(REPORT) == REPORT.engines[1]
    found = judged_engine(ALONE)
    assert found is not None
    assert found.label == INTEGER_LABEL
    assert judged_engine(BARE) is None
