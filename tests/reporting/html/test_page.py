"""What a page is made of, without a browser."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkit.reporting.html.embedded_json import embedded_json
from quantkit.reporting.html.page import Part, page
from quantkit.reporting.html.report_page import report_page
from quantkit.reporting.html.sort_value import javascript_sort_value, sort_value
from quantkit.reporting.layer import Histogram, Layer, WeightRanges
from quantkit.reporting.report import Report
from quantkit.reporting.section import Column, Section, Table
from tests.reporting.example_report import example_report

MEGABYTE = 1_000_000


@given(st.text())
def test_no_text_ends_its_element(text: str) -> None:
    made = embedded_json({text: [text]})
    assert not set("<>&\u2028\u2029") & set(made)
    assert json.loads(made) == {text: [text]}


def test_numbers_keep_six_digits_and_infinities() -> None:
    made = embedded_json([1 / 3, 12345678.0, 2, math.inf, -math.inf, math.nan, True, None])
    assert made == '[0.333333,12345700,2,"Infinity","-Infinity","NaN",true,null]'


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("71.69 %", 71.69),
        ("1,234,567", 1234567),
        ("-0.5 dB", -0.5),
        ("−0.5", -0.5),
        ("+3", 3),
        ("1.5e-07", 1.5e-7),
        ("300.8 M", 300.8e6),
        ("3.66 MB", 3.66e6),
        ("900 kB", 900e3),
        ("2.5 MiB", 2.5 * 2**20),
        ("9.9 ms", 9.9),
        ("inf dB", math.inf),
        ("exact", math.inf),
        ("∞", math.inf),
        ("-inf", -math.inf),
        ("-", None),
        ("", None),
        ("float", None),
        ("information", None),
    ],
)
def test_cells_sort_by_the_number_they_start_with(text: str, value: float | None) -> None:
    assert sort_value(text) == pytest.approx(value)


def test_infinity_is_spelt_as_javascript_reads_it() -> None:
    assert [javascript_sort_value(text) for text in ("inf dB", "-inf", "1.5", "-")] == [
        "Infinity",
        "-Infinity",
        "1.5",
        None,
    ]


def test_cells_and_sentences_are_escaped() -> None:
    table = Table((Column("<b>"), Column("n", is_number=True)), (("<i>&", "1"),))
    made = page("kind", "<title>", "<s>", [Part(Section("x", "<h>", ("<p>",), table))])
    for raw in ("<b>", "<i>", "<s>", "<h>", "<title><", "<p><"):
        assert raw not in made.split("<body>")[1].split("<script")[0], raw
    assert "&lt;i&gt;&amp;" in made


def test_no_address_but_its_own() -> None:
    body = report_page(example_report()).split("<body>")[1].split("<script")[0]
    for attribute in ("src=", "href="):
        for value in body.split(attribute)[1:]:
            assert value.startswith(('"#', '"data:image/jpeg;base64,')), value[:60]


def test_a_large_network_stays_below_six_megabytes() -> None:
    made = report_page(_as_large_as_mobilenet_v2())
    assert len(made.encode()) < 6 * MEGABYTE


def _as_large_as_mobilenet_v2() -> Report:
    report = example_report(70)
    channels = np.geomspace(16, 1280, 70).astype(int)
    layers = tuple(
        layer if layer.weight is None else _widened(layer, int(count))
        for layer, count in zip(report.layers, channels, strict=True)
    )
    # As 24 JPEGs of 224 x 224 pixels.
    changed = tuple(
        report.changed[0].model_copy(update={"picture": "A" * 16_000}) for _ in range(24)
    )
    return report.model_copy(update={"layers": layers, "changed": changed})


def _widened(layer: Layer, channels: int) -> Layer:
    rng = np.random.default_rng(channels)
    source, folded, quantized, scales = (
        tuple(float(value) for value in rng.lognormal(size=channels)) for _ in range(4)
    )
    assert layer.output is not None
    counts = tuple(int(count) for count in rng.integers(0, 10**6, 96))
    histogram = Histogram(start=-1.2345678, width=0.0123456789, counts=counts)
    return layer.model_copy(
        update={
            "node": f"/features/features.{channels}/conv/conv.1/conv.1.0/Conv",
            "weight": WeightRanges(
                source=source, folded=folded, quantized=quantized, scales=scales
            ),
            "output": layer.output.model_copy(update={"histogram": histogram}),
        }
    )


def test_a_report_with_little_in_it_has_a_page() -> None:
    bare = example_report(2).model_copy(
        update={
            "float_model": None,
            "metric": None,
            "drop": None,
            "metric_drop": None,
            "engines": example_report().engines[1:2],
            "split": (),
            "causes": (),
            "fixes": (),
            "changed": (),
            "changed_count": None,
            "flips": (),
            "kept_float": {},
            "layers": (),
        }
    )
    made = report_page(bare)
    assert "net.int8.onnx" in made
    assert ">None<" not in made
