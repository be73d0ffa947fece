"""Reports as files: which suffix gives which form, and what a reader of the form finds."""

import csv
import io
import os
import stat
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from quantkit.errors import ConfigError, UnknownNameError
from quantkit.reporting.gate import Limits
from quantkit.reporting.layer import Accumulator, Layer, TensorRange
from quantkit.reporting.render_csv import COLUMNS, render_csv
from quantkit.reporting.render_junit import render_junit
from quantkit.reporting.render_markdown import escaped, render_markdown
from quantkit.reporting.report import Report
from quantkit.reporting.report_files import FORMS, form_of, write_report
from tests.reporting.example_report import example_report
from tests.reporting.parsed_forms import parsed_markdown

HOSTILE = "a|b `c` <img src=x> [d](e) **f** \\| _g_ & $h$ ~~i~~ #1\nj, \"k\"; 'l'"
ATTRIBUTES = {
    "testsuites": {"name", "tests", "failures", "errors"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped"},
    "properties": set[str](),
    "property": {"name", "value"},
    "testcase": {"name", "classname"},
    "failure": {"message", "type"},
    "error": {"message", "type"},
    "system-out": set[str](),
}


def hostile() -> Report:
    report = example_report()
    renamed = tuple(
        layer.model_copy(update={"node": f"{layer.node}{HOSTILE}"}) for layer in report.layers
    )
    return report.model_copy(
        update={
            "layers": renamed,
            "quantized_model": HOSTILE,
            "kept_float": {HOSTILE: HOSTILE},
            "provenance": {HOSTILE: f"\x00\x1b{HOSTILE}"},
        }
    )


def test_every_form_is_written_and_replaced(tmp_path: Path) -> None:
    for suffix in FORMS:
        path = tmp_path / f"report{suffix.upper()}"
        path.write_text("old")
        write_report(example_report(), path)
        assert path.stat().st_size > 1000
        assert stat.S_IMODE(path.stat().st_mode) & 0o600 == 0o600
    assert len(list(tmp_path.iterdir())) == len(FORMS), "nothing is left beside them"
    assert Report.model_validate_json((tmp_path / "report.JSON").read_text()) == example_report()
    assert (tmp_path / "report.HTML").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert b"\r\r\n" not in (tmp_path / "report.CSV").read_bytes()


def test_an_unknown_form_names_the_known() -> None:
    with pytest.raises(UnknownNameError, match=r"'x\.pdf': .* known: \.html, \.md, \.json, \.csv"):
        form_of(Path("x.pdf"))
    with pytest.raises(UnknownNameError, match="a report has no form ''"):
        form_of(Path("report"))


def test_what_cannot_be_written_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written: No such file or directory"):
        write_report(example_report(), tmp_path / "no" / "x.md")
    (tmp_path / "x.md").mkdir()
    with pytest.raises(ConfigError, match="is no regular file"):
        write_report(example_report(), tmp_path / "x.md")
    assert list(tmp_path.iterdir()) == [tmp_path / "x.md"]


def test_names_that_are_no_text_can_be_written(tmp_path: Path) -> None:
    report = example_report()
    name = os.fsdecode(b"p\xff.jpg")
    changed = (report.changed[0].model_copy(update={"sample": name}),)
    write_report(report.model_copy(update={"changed": changed}), tmp_path / "x.md")
    assert "p?.jpg" in (tmp_path / "x.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", [HOSTILE, "block_1/depthwise_conv", "--per-channel", "x*y*z"])
def test_markdown_shows_names_as_they_are(text: str) -> None:
    page = f"| a | b |\n| --- | --- |\n| {escaped(text)} | c |\n"
    tokens = MarkdownIt("commonmark").enable("table").enable("strikethrough").parse(page)
    cells = [token for token in tokens if token.type == "inline"]
    assert len(cells) == 4
    children = cells[2].children or []
    assert {child.type for child in children} <= {"text", "text_special"}
    assert "".join(child.content for child in children) == " ".join(text.split())


def test_markdown_of_hostile_names_has_all_rows() -> None:
    parsed = parsed_markdown(hostile())
    assert len(parsed.tables["layers"]) == 12
    assert parsed.tables["layers"][0]["layer"] == " ".join(f"conv11{HOSTILE}".split())
    assert "<img" not in render_markdown(hostile()).replace("\\<img", "")


def test_long_tables_are_folded() -> None:
    text = render_markdown(example_report(30))
    assert "<details><summary>the other 18</summary>" in text
    assert text.count("<details>") == text.count("</details>")


def test_csv_is_rfc_4180() -> None:
    text = render_csv(hostile())
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert rows[0] == list(COLUMNS)
    assert {len(row) for row in rows} == {len(COLUMNS)}
    assert [row[0] for row in rows[1:]] == [layer.node for layer in hostile().layers]
    assert text.endswith("\r\n")
    assert rows[8][rows[0].index("isolated_sqnr_db")] == "Infinity"
    island = dict(zip(rows[0], rows[6], strict=True))
    assert island["isolated_sqnr_db"] == island["output_scale"] == island["accumulator_bits"] == ""


def test_csv_leaves_out_lists_alone() -> None:
    fields = {
        *Layer.model_fields,
        *(f"output_{name}" for name in TensorRange.model_fields),
        *(f"accumulator_{name}" for name in Accumulator.model_fields),
    } - {"output", "weight", "accumulator", "output_histogram"}
    assert {column.removesuffix("_least").removesuffix("_greatest") for column in COLUMNS} == fields


@pytest.mark.parametrize(
    ("limits", "tests", "failures", "errors"),
    [
        (Limits(), 1, 0, 0),
        (Limits(min_sqnr=20.0), 1, 0, 0),
        (Limits(max_drop=0.01, min_sqnr=20.0, min_agreement=99.0), 3, 2, 0),
    ],
)
def test_junit_is_of_the_schema(limits: Limits, tests: int, failures: int, errors: int) -> None:
    root = ElementTree.fromstring(render_junit(example_report(), limits))
    assert root.tag == "testsuites"
    for element in root.iter():
        assert {*element.attrib} == ATTRIBUTES[element.tag]
    (suite,) = root
    assert [child.tag for child in suite] == ["properties", *["testcase"] * tests, "system-out"]
    for node in (root, suite):
        assert node.attrib["tests"] == str(tests)
        assert node.attrib["failures"] == str(failures) == str(len(suite.findall("*/failure")))
        assert node.attrib["errors"] == str(errors) == str(len(suite.findall("*/error")))
    assert "outlier channel; channel 17 reaches" in (suite.findtext("system-out") or "")


def test_junit_names_what_failed() -> None:
    root = ElementTree.fromstring(render_junit(example_report(), Limits(min_agreement=99.0)))
    (case,) = root.iter("testcase")
    assert case.attrib["name"] == "--min-agreement 99"
    message = case[0].attrib["message"]
    assert message == "agreement 98.46 % falls short of --min-agreement 99 by 0.54"
    assert case[0].text == message


def test_junit_says_what_could_not_be_judged() -> None:
    report = example_report().model_copy(update={"metric_drop": None})
    root = ElementTree.fromstring(render_junit(report, Limits(max_drop=1.0)))
    assert [node.attrib["type"] for node in root.iter("error")] == ["ConfigError"]
    assert root.attrib["errors"] == "1"


def test_junit_without_limits_passes() -> None:
    root = ElementTree.fromstring(render_junit(hostile(), Limits()))
    (case,) = root.iter("testcase")
    assert case.attrib["name"] == "report"
    assert len(case) == 0
