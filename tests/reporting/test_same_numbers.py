"""The same number in every form: each cell is the JSON's value, rounded once in ``numbers``.

What is expected is written here anew, from the fields of the JSON to the headings of the columns.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest

import quantkit
from quantkit import bundled
from quantkit.reporting import numbers
from quantkit.reporting.gate import Limits
from quantkit.reporting.numbers import (
    between,
    class_name,
    cosine,
    count,
    counted,
    decibels,
    difference,
    magnitude,
    milliseconds,
    percent,
    probability,
    real,
    size,
    whole,
)
from quantkit.reporting.render_csv import render_csv
from quantkit.reporting.render_junit import render_junit
from quantkit.reporting.report import Report
from quantkit.reporting.sections import sections
from tests.reporting.example_report import example_report
from tests.reporting.parsed_forms import (
    Parsed,
    parsed_html,
    parsed_markdown,
    parsed_terminal,
)

Json = dict[str, Any]
Cells = Mapping[str, Callable[[Json], str]]
FORMS = {"terminal": parsed_terminal, "markdown": parsed_markdown, "html": parsed_html}
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


def number(value: Any) -> Any:
    """JSON writes an infinity as a text."""
    return float(value) if isinstance(value, str) else value


def worst(sqnr_db: Json) -> float | None:
    return min((number(value) for value in sqnr_db.values()), default=None)


def of(part: str, cell: Callable[[Json], str]) -> Callable[[Json], str]:
    return lambda layer: "-" if layer[part] is None else cell(layer[part])


def reals(part: str, name: str) -> Callable[[Json], str]:
    return of(part, lambda found: between(found[name], real))


def wholes(part: str, name: str) -> Callable[[Json], str]:
    return of(part, lambda found: between(found[name], whole))


ENGINES: Cells = {
    "engine": lambda row: row["label"],
    "top-1 %": lambda row: percent(row["top1_percent"]),
    "top-5 %": lambda row: percent(row["top5_percent"]),
    "mean_rank": lambda row: real(row["metric"]),
    "agree %": lambda row: percent(row["agreement_percent"]),
    "SQNR dB": lambda row: decibels(worst(row["sqnr_db"])),
    "ties": lambda row: count(row["tied"]),
}
SPLIT: Cells = {
    "quantized": lambda row: row["label"],
    "SQNR dB": lambda row: decibels(worst(row["sqnr_db"])),
    "agree %": lambda row: percent(row["agreement_percent"]),
    "top-1 %": lambda row: percent(row["top1_percent"]),
}
LAYERS: Cells = {
    "layer": lambda layer: layer["node"],
    "op": lambda layer: layer["op_type"],
    "outputs dB": lambda layer: decibels(number(layer["network_sqnr_db"])),
    "alone dB": lambda layer: decibels(number(layer["isolated_sqnr_db"])),
    "so far dB": lambda layer: decibels(number(layer["accumulated_sqnr_db"])),
    "saturated %": lambda layer: percent(layer["saturated_percent"]),
    "clipped %": of("output", lambda output: percent(output["clipped_percent"])),
    "cosine alone": lambda layer: cosine(layer["isolated_cosine"]),
    "cosine so far": lambda layer: cosine(layer["accumulated_cosine"]),
    "MACs": lambda layer: count(layer["macs"]),
    "sum bits": of("accumulator", lambda sums: whole(sums["bits"])),
    "in float because": lambda layer: layer["kept_float"] or "-",
}
RANGES: Cells = {
    "layer": lambda layer: layer["node"],
    "codes": of("output", lambda output: output["dtype"]),
    "scale": of("output", lambda output: real(output["scale"])),
    "zero point": of("output", lambda output: whole(output["zero_point"])),
    "codes hold": of("output", lambda one: between((one["low"], one["high"]), real)),
    "values seen": of("output", lambda one: between((one["minimum"], one["maximum"]), real)),
    "weights in the file": reals("weight", "source"),
    "weights folded": reals("weight", "folded"),
    "weights quantized": reals("weight", "quantized"),
    "weight scales": reals("weight", "scales"),
    "largest sum": of("accumulator", lambda sums: count(sums["bound"])),
    "multiplier": reals("accumulator", "multiplier"),
    "mantissa": wholes("accumulator", "mantissa"),
    "shift": wholes("accumulator", "shift"),
}
CAUSES: Cells = {
    "layer": lambda cause: cause["node"] or "network",
    "cause": lambda cause: cause["cause"],
    "evidence": lambda cause: cause["evidence"],
    "try": lambda cause: cause["remedy"]["text"],
    "noise %": lambda cause: percent(cause["noise_percent"]),
}
FIXES: Cells = {
    "tried": lambda fix: fix["text"],
    "against": lambda fix: fix["cause"] or "control",
    "before dB": lambda fix: decibels(fix["sqnr_db"][0]),
    "after dB": lambda fix: decibels(fix["sqnr_db"][1]),
    "gain dB": lambda fix: difference(fix["sqnr_db"][1] - fix["sqnr_db"][0]),
    "agree before %": lambda fix: percent(fix["agreement_percent"][0]),
    "agree after %": lambda fix: percent(fix["agreement_percent"][1]),
}


def expected_rows(facts: Json) -> dict[str, list[dict[str, str]]]:
    """Name of a section -> its rows; every column that a form may show."""
    names = facts["class_names"]
    changed: Cells = {
        "sample": lambda one: one["sample"],
        "label": lambda one: class_name(one["label"], names),
        "float says": lambda one: class_name(one["float_class"], names),
        "int8 says": lambda one: class_name(one["int8_class"], names),
        "margin": lambda one: real(one["float_margin"]),
    }
    flips: Cells = {
        "float says": lambda flip: class_name(flip["float_class"], names),
        "int8 says": lambda flip: class_name(flip["int8_class"], names),
        "samples": lambda flip: count(flip["count"]),
    }
    tables: dict[str, tuple[Cells, list[Json]]] = {
        "engines": (ENGINES, facts["engines"]),
        "split": (SPLIT, facts["split"]),
        "layers": (LAYERS, facts["layers"]),
        "ranges": (RANGES, facts["layers"]),
        "causes": (CAUSES, facts["causes"]),
        "fixes": (FIXES, facts["fixes"]),
        "changed": (changed, facts["changed"]),
        "flips": (flips, facts["flips"]),
    }
    rows = {
        name: [{title: cell(row) for title, cell in cells.items()} for row in found]
        for name, (cells, found) in tables.items()
    }
    rows["cost"] = cost_rows(facts)
    rows["provenance"] = [
        {"what": name, "value": value} for name, value in facts["provenance"].items()
    ]
    return rows


def cost_rows(facts: Json) -> list[dict[str, str]]:
    cost, (before, after) = facts["cost"], facts["engines"][:2]
    values = [
        ("file", size(before["size_bytes"]), size(after["size_bytes"])),
        (
            "latency of one sample, ms",
            milliseconds(before["latency_ms"]),
            milliseconds(after["latency_ms"]),
        ),
        ("multiply-accumulates", count(cost["macs"]), count(cost["macs"])),
        ("of them in integer kernels, %", "-", percent(cost["int8_mac_percent"])),
        (
            "most activations held at a time",
            size(cost["float_peak_bytes"]),
            size(cost["int8_peak_bytes"]),
        ),
    ]
    return [{"cost": name, "float": first, "int8": second} for name, first, second in values]


def check(report: Report, parsed: Parsed, form: str) -> int:
    """Compare every cell, and every sentence.

    Returns:
        How many cells were compared.
    """
    expected = expected_rows(json.loads(report.model_dump_json()))
    cells = 0
    for name, rows in parsed.tables.items():
        for row in rows:
            shown = {title: " ".join(text.split()) for title, text in row.items()}
            wanted = [
                {title: " ".join(one[title].split()) for title in shown} for one in expected[name]
            ]
            assert shown in wanted, f"{form}, {name}: {shown}"
            cells += len(shown)
    for section in sections(report):
        # A terminal leaves out the sections that show nothing first.
        if form != "terminal" or section.few != 0:
            for sentence in section.sentences:
                assert " ".join(sentence.split()) in parsed.text, f"{form}: {sentence}"
    return cells


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Of the bundled network, with one scale per weight: it loses almost everything."""
    folder = tmp_path_factory.mktemp("digits")
    with bundled.folder() as source:
        model, data = source / "digits_mobilenet.onnx", source / "digits_evaluation.npz"
        made = quantkit.quantize(
            model,
            source / "digits_calibration.npz",
            config=quantkit.QuantConfig(per_channel=False, cross_layer_equalization=False),
        )
        made.save(folder / "net.onnx")
        return quantkit.report(model, folder / "net.onnx", data, num_samples=64)


@pytest.fixture(params=["example", "measured"])
def report(request: pytest.FixtureRequest) -> Report:
    if request.param == "example":
        return example_report(30)
    found: Report = request.getfixturevalue("measured")
    return found


@pytest.mark.parametrize("form", FORMS)
def test_every_cell_is_the_jsons_value(report: Report, form: str) -> None:
    parsed = FORMS[form](report)
    assert parsed.tables.keys() >= {"engines", "split", "cost", "layers"}
    cells = check(report, parsed, form)
    everything = sum(
        len(section.table.rows) * len(section.table.columns)
        for section in sections(report)
        # The page has cards in their place.
        if section.table is not None
        and (form != "html" or section.name not in ("causes", "changed"))
    )
    assert cells == everything if form != "terminal" else 150 < cells < everything


@pytest.mark.parametrize("form", FORMS)
def test_the_headline_is_the_jsons_drop(report: Report, form: str) -> None:
    facts = json.loads(report.model_dump_json())
    drop = facts["drop"]
    word = "drop" if drop["points"] > 0 else "gain"
    kind = "within" if drop["low"] <= 0.0 <= drop["high"] else "more than"
    text = (
        f"{count(drop['right_to_wrong'])} of {counted(facts['samples'], 'sample')} changed from "
        f"right to wrong, {count(drop['wrong_to_right'])} from wrong to right: the {word} of "
        f"{magnitude(drop['points'])} points is {kind} noise (95 % interval "
        f"{difference(drop['low'])} to {difference(drop['high'])}, p = "
        f"{probability(drop['p_value'])})."
    )
    assert text in FORMS[form](report).text
    assert text in render_junit(report, Limits())


def test_tiles_and_facts_of_the_page_hold_no_other_numbers(report: Report) -> None:
    """What the page says beside tables and sentences, it says with their numbers."""
    page = parsed_html(report)
    known = {
        found
        for section in sections(report)
        for text in (
            *section.sentences,
            *(cell for row in (section.table.rows if section.table else ()) for cell in row),
            *(column.explained for column in (section.table.columns if section.table else ())),
        )
        for found in NUMBER.findall(text)
    }
    # How many channels a weight has is a list's length in the JSON.
    known |= {str(len(one.weight.quantized)) for one in report.layers if one.weight is not None}
    assert page.numbered
    for text in page.numbered:
        if not any(text.strip() == layer.value for layer in report.layers):
            assert set(NUMBER.findall(text)) <= known, text


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["percent", "decibels", "real"])
def test_another_rounding_would_be_seen(
    form: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = example_report()
    check(report, FORMS[form](report), form)
    right = getattr(numbers, name)
    monkeypatch.setattr(
        numbers, name, lambda value: right(None if value is None else round(value, 1))
    )
    with pytest.raises(AssertionError):
        check(report, FORMS[form](report), form)


def test_csv_has_the_jsons_numbers_whole(report: Report) -> None:
    facts = json.loads(report.model_dump_json())
    text = render_csv(report)
    assert text.count("\r\n") == len(report.layers) + 1
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(rows) == len(facts["layers"])
    for row, layer in zip(rows, facts["layers"], strict=True):
        flat = dict(layer)
        for part in ("output", "accumulator"):
            for name, value in (layer[part] or {}).items():
                flat[f"{part}_{name}"] = value
                if isinstance(value, list):
                    flat[f"{part}_{name}_least"], flat[f"{part}_{name}_greatest"] = value
        for name, cell in row.items():
            value = flat.get(name)
            if isinstance(value, int | float):
                assert float(cell) == value, name
            else:
                assert cell == ("" if value is None else value), name


def test_json_reads_back(report: Report) -> None:
    assert Report.model_validate_json(report.model_dump_json(indent=2)) == report
