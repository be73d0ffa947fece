"""Two reports, compared."""

import math

from quantkit.reporting.difference_sections import difference_sections
from quantkit.reporting.layer import Layer
from quantkit.reporting.report import INT8_LABEL, Report
from quantkit.reporting.report_differences import (
    LayerDifference,
    ReportDifferences,
    compare_reports,
)
from quantkit.reporting.section import Section
from tests.reporting.example_report import example_report

REPORT = example_report()
NAMES = ("a.json", "b.json")


def with_layers(**changes: dict[str, object]) -> Report:
    """The example with fields of some layers changed, by the layer's position: ``at_2``."""
    layers: list[Layer] = list(REPORT.layers)
    for place, update in changes.items():
        index = int(place.removeprefix("at_"))
        layers[index] = layers[index].model_copy(update=update)
    return REPORT.model_copy(update={"layers": tuple(layers)})


def section(found: ReportDifferences, name: str) -> Section:
    (one,) = [one for one in difference_sections(found) if one.name == name]
    return one


def test_equal_reports() -> None:
    found = compare_reports(NAMES, REPORT, REPORT)
    assert found.is_same
    assert [one.name for one in difference_sections(found)] == ["summary"]
    assert {pair.difference for pair in found.numbers if pair.difference is not None} == {0.0}


def test_layers_that_changed_most_come_first() -> None:
    names = [layer.node for layer in REPORT.layers]
    old = {i: REPORT.layers[i].accumulated_sqnr_db for i in (1, 4)}
    changed = with_layers(
        at_1={"accumulated_sqnr_db": old[1] + 2.5},
        at_3={"isolated_sqnr_db": math.inf},
        at_4={"accumulated_sqnr_db": old[4] - 7.0},
    )
    found = compare_reports(NAMES, REPORT, changed)
    assert [layer.node for layer in found.layers] == [names[3], names[4], names[1]]
    assert [layer.change for layer in found.layers] == [math.inf, 7.0, 2.5]
    table = section(found, "layers").table
    assert table is not None
    assert [row[0] for row in table.rows] == [names[3], names[4], names[1]]
    assert "-7.00" in table.rows[1]
    assert "+2.50" in table.rows[2]


def test_a_layer_of_one_report_alone() -> None:
    fewer = REPORT.model_copy(update={"layers": REPORT.layers[1:]})
    found = compare_reports(NAMES, REPORT, fewer)
    first = REPORT.layers[0]
    assert found.layers == (
        LayerDifference(
            node=first.node,
            op_type=first.op_type,
            first=first.isolated_sqnr_db,
            second=None,
            first_accumulated=first.accumulated_sqnr_db,
            second_accumulated=None,
        ),
    )
    assert found.compared_layers == len(REPORT.layers) - 1


def test_causes_that_came_and_went() -> None:
    first, *others = REPORT.causes
    moved = first.model_copy(update={"node": "elsewhere"})
    found = compare_reports(NAMES, REPORT, REPORT.model_copy(update={"causes": (*others, moved)}))
    assert (found.disappeared, found.appeared) == ((first,), (moved,))
    table = section(found, "appeared").table
    assert table is not None
    assert [row[:2] for row in table.rows] == [("elsewhere", first.cause)]


def test_the_headline_side_by_side() -> None:
    engines = tuple(
        row.model_copy(update={"top1_percent": 70.0, "latency_ms": None})
        if row.label == INT8_LABEL
        else row
        for row in REPORT.engines
    )
    other = REPORT.model_copy(update={"engines": engines})
    table = section(compare_reports(NAMES, REPORT, other), "summary").table
    assert table is not None
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["top-1, int8 in onnxruntime (%)"] == ("71.38", "70.00", "-1.38")
    assert rows["latency, int8 in onnxruntime (ms)"] == ("4.32", "-", "-")
    assert rows["size, int8 in onnxruntime"] == ("3.66 MB", "3.66 MB", "0.0 kB")


def test_what_is_not_shown_is_told() -> None:
    other = REPORT.model_copy(update={"changed": ()})
    found = compare_reports(NAMES, REPORT, other)
    assert not found.is_same
    assert section(found, "other").sentences == ("Only details differ that are not compared here.",)


def test_json_round_trips() -> None:
    found = compare_reports(NAMES, REPORT, with_layers(at_3={"isolated_sqnr_db": math.inf}))
    assert ReportDifferences.model_validate_json(found.model_dump_json()) == found


def test_provenance() -> None:
    changed = {**REPORT.provenance, "new": "1"}
    gone = next(iter(REPORT.provenance))
    del changed[gone]
    found = compare_reports(NAMES, REPORT, REPORT.model_copy(update={"provenance": changed}))
    assert [(f.name, f.first, f.second) for f in found.fields] == [
        (gone, REPORT.provenance[gone], None),
        ("new", None, "1"),
    ]
