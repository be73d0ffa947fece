"""What a report says, in words and tables, of every kind of network."""

import math

import pytest

from quantkit.reporting.accuracy_sections import drop_sentence
from quantkit.reporting.report import Drop, Report, SplitRow
from quantkit.reporting.section import Section
from quantkit.reporting.sections import sections, title
from tests.reporting.example_report import example_report

REPORT = example_report()
NAMES = [
    "summary",
    "engines",
    "causes",
    "fixes",
    "split",
    "cost",
    "layers",
    "ranges",
    "changed",
    "flips",
    "float",
    "provenance",
]


def section(report: Report, name: str) -> Section:
    return next(one for one in sections(report) if one.name == name)


def said(report: Report, name: str) -> str:
    return " ".join(section(report, name).sentences)


def without_classes(report: Report) -> Report:
    """As a detector's: two outputs, none of them scores of classes."""
    rows = tuple(
        row.model_copy(
            update={
                "top1_percent": None,
                "top5_percent": None,
                "metric": None,
                "agreement_percent": None,
                "tied": None,
                "sqnr_db": {"boxes": 21.5, "scores": 31.25} if row.sqnr_db else {},
            }
        )
        for row in report.engines
    )
    update = {"engines": rows, "drop": None, "metric_drop": None, "metric": None}
    return report.model_copy(
        update={**update, "split": (), "changed": (), "changed_count": None, "flips": ()}
    )


def without_float(report: Report) -> Report:
    reference = report.engines[1].model_copy(update={"sqnr_db": {}, "agreement_percent": None})
    return report.model_copy(
        update={
            "float_model": None,
            "drop": None,
            "metric_drop": None,
            "engines": (reference, report.engines[2]),
            "cost": report.cost.model_copy(update={"float_peak_bytes": None}),
        }
    )


def test_everything_in_its_order() -> None:
    made = sections(REPORT)
    assert [one.name for one in made] == NAMES
    assert [one.name for one in made if not one.title] == ["summary"]
    titles = [one.title for one in made]
    assert len({*titles}) == len(titles)
    for one in made:
        assert one.sentences or one.table


def test_tables_have_no_empty_and_no_equal_columns() -> None:
    for one in sections(REPORT):
        if one.table is not None:
            names = [column.title for column in one.table.columns]
            assert len({*names}) == len(names)
            for index in range(len(names)):
                assert any(row[index] != "-" for row in one.table.rows), (one.name, names[index])


def test_a_detector_has_a_table_of_outputs() -> None:
    report = without_classes(REPORT)
    assert [one.name for one in sections(report)] == [
        "summary", "engines", "outputs", "causes", "fixes", "cost", "layers", "ranges", "float",
        "provenance",
    ]  # fmt: skip
    table = section(report, "outputs").table
    assert table is not None
    assert table.rows == (("boxes", "21.50", "21.50"), ("scores", "31.25", "31.25"))
    engines = section(report, "engines").table
    assert engines is not None
    assert [column.title for column in engines.columns] == ["engine", "SQNR dB"]
    assert [row[1] for row in engines.rows] == ["-", "21.50", "21.50"], "the worst output"
    assert "labels" not in said(report, "summary")


def test_without_labels_agreement_counts() -> None:
    report = REPORT.model_copy(update={"drop": None, "metric_drop": None, "metric": None})
    text = said(report, "summary")
    assert "Accuracy is not measured: no labels (--labels)." in text
    assert "gives 98.46 % of the samples the class that float gives them" in text
    assert "For scale" not in text


def test_without_a_float_model_it_says_what_is_compared() -> None:
    report = without_float(REPORT)
    assert title(report) == "net.int8.onnx, without a float model"
    text = said(report, "summary")
    assert "There is no float model: engines are compared with onnxruntime" in text
    assert "int8 integer session gives 98.31 % of the samples the class that int8 in onn" in text
    table = section(report, "cost").table
    assert table is not None
    assert [column.title for column in table.columns] == ["cost", "int8"]


def test_one_engine_alone_says_nothing_of_agreement() -> None:
    report = without_float(REPORT)
    report = report.model_copy(update={"engines": report.engines[:1]})
    assert "gives" not in said(report, "summary")


def test_a_poor_output_is_named() -> None:
    row = REPORT.engines[1].model_copy(update={"sqnr_db": {"a": 30.0, "b": 9.5, "c": math.nan}})
    report = REPORT.model_copy(update={"engines": (REPORT.engines[0], row)})
    text = said(report, "summary")
    assert "Output 'b' of int8 in onnxruntime is far from that of float: 9.50 dB." in text
    assert "Output 'c' of int8 in onnxruntime is far from that of float: nan dB." in text
    assert "Output 'a'" not in text


def test_a_healthy_network_has_no_cause() -> None:
    report = REPORT.model_copy(update={"causes": ()})
    assert said(report, "causes").startswith("No cause found: nothing stands out in the 11 layers")
    assert section(report, "causes").table is None


@pytest.mark.parametrize(
    ("weights", "activations", "expected"),
    [
        (28.5, 26.25, "Activations lose more than weights: 26.25 dB against 28.50 dB left."),
        (20.0, 26.25, "Weights lose more than activations: 20.00 dB against 26.25 dB left."),
        (26.0, 26.25, "Weights and activations lose about the same: 26.00 dB and 26.25 dB left."),
        (math.inf, math.inf, "Weights and activations lose about the same: exact and exact left."),
        (math.inf, 30.0, "Activations lose more than weights: 30.00 dB against exact left."),
    ],
)
def test_which_side_loses_more(weights: float, activations: float, expected: str) -> None:
    sides = {"weights only": weights, "activations only": activations}
    rows = tuple(
        SplitRow(
            label=label,
            # The worst output counts.
            sqnr_db={"good": math.inf, "bad": value},
            agreement_percent=None,
            top1_percent=None,
        )
        for label, value in sides.items()
    )
    report = REPORT.model_copy(update={"split": rows})
    assert said(report, "split") == expected
    assert said(report.model_copy(update={"split": rows[:1]}), "split") == ""


@pytest.mark.parametrize(
    ("points", "low", "high", "expected"),
    [
        (0.0, -1.0, 1.0, "nothing is lost (95 % interval of the drop -1.00 to +1.00"),
        (1.5, -1.0, 4.0, "the drop of 1.50 points is within noise (95 % interval -1.00 to +4.00"),
        (1.5, 0.5, 4.0, "the drop of 1.50 points is more than noise (95 % interval +0.50 to +4.00"),
        (
            -1.5,
            -4.0,
            -0.5,
            "the gain of 1.50 points is more than noise (95 % interval of the drop -4.00 to -0.50",
        ),
    ],
)
def test_drop_sentence(points: float, low: float, high: float, expected: str) -> None:
    drop = Drop(points=points, low=low, high=high, p_value=0.04, right_to_wrong=3, wrong_to_right=2)
    assert drop_sentence(drop, 200) == (
        "3 of 200 samples changed from right to wrong, 2 from wrong to right: "
        f"{expected}, p = 0.04)."
    )


def test_a_metric_has_its_own_unit_and_no_p() -> None:
    assert REPORT.metric_drop is not None
    assert drop_sentence(REPORT.metric_drop, 650) == (
        "mean_rank: the drop of 0.0123 is within noise (95 % interval -0.0345 to +0.0456)."
    )


def test_a_failed_fix_says_why() -> None:
    fix = REPORT.fixes[0].model_copy(
        update={"sqnr_db": None, "agreement_percent": None, "error": "no pictures"}
    )
    report = REPORT.model_copy(update={"fixes": (*REPORT.fixes, fix)})
    table = section(report, "fixes").table
    assert table is not None
    assert [row[-1] for row in table.rows] == ["-", "-", "no pictures"]
    assert table.rows[-1][2:7] == ("-",) * 5


def test_changed_predictions_count_all() -> None:
    assert said(REPORT, "changed").startswith("10 of 650 samples (1.54 %) got another class")
    assert "Here are 6: " in said(REPORT, "changed")
    none = REPORT.model_copy(update={"changed": (), "changed_count": 0, "flips": ()})
    assert said(none, "changed").startswith("0 of 650 samples (0.00 %)")
    assert section(none, "changed").table is None


def test_float_nodes_are_named_by_reason() -> None:
    nodes = {f"n{index}": "no kernel" for index in range(8)}
    report = REPORT.model_copy(update={"kept_float": {**nodes, "other": "excluded"}})
    assert section(report, "float").sentences == (
        "stays float: n0, n1, n2, n3, n4 and 3 more: no kernel",
        "stays float: other: excluded",
    )
