"""What a calibration table looks like on terminals of any width and in a pipe."""

import io
from collections.abc import Sequence

import pytest
from rich.console import Console

from quantkit.calibration.preprocessing import PRESETS, Preprocessing
from quantkit.range_estimators.contract import RANGE_ESTIMATORS, RangeOptions
from quantkit.reporting.histogram_text import ASCII, BLOCKS, Glyphs
from quantkit.reporting.render_calibration import (
    preprocessing_words,
    render_charts,
    render_table,
)
from quantkit.reporting.table_rows import TensorRow, table_rows
from tests.reporting.tables import statistics_of, table_of

TABLE = table_of()
ROWS = table_rows(TABLE.statistics, RANGE_ESTIMATORS, RangeOptions(percentile=90.0))


def table_text(
    width: int,
    rows: Sequence[TensorRow] = ROWS,
    method: str = "percentile",
    glyphs: Glyphs = BLOCKS,
) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    for part in render_table(TABLE, "t.npz", rows, method, width=width, glyphs=glyphs):
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def charts_text(width: int, glyphs: Glyphs = BLOCKS) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    for part in render_charts(TABLE, "t.npz", ROWS, width=width, glyphs=glyphs):
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_header() -> None:
    assert table_text(1000)[:3] == [
        "t.npz: net.onnx (digest abababababab), 3 tensors over 1 samples (digest 000000000000)",
        "arrays, fed as they are",
        "calibrated by quantkit 1.0, every value counted",
    ]


def test_in_a_pipe_everything_is_shown() -> None:
    lines = table_text(10_000)
    heading = next(line for line in lines if line.startswith("tensor"))
    wanted = ["tensor", "min", "histogram", "max", "low", "high", "cut", "%", "scale", "channels"]
    assert heading.split()[: len(wanted)] == wanted
    wide = next(line for line in lines if line.startswith("wide"))
    assert "100" in wide.split()
    assert not any(line.startswith("no room for") for line in lines)
    assert next(line for line in lines if line.startswith("constant")).split()[:4] == [
        *("constant", "2.5", "█", "2.5")
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
@pytest.mark.parametrize("glyphs", [BLOCKS, ASCII])
def test_rows_are_whole_lines_at_any_width(width: int, glyphs: Glyphs) -> None:
    long = {
        f"/features/features.{i}/conv/conv.1/conv.1.2/Clip_output_0": s
        for i, s in enumerate(TABLE.statistics.values())
    }
    rows = table_rows(long, ("percentile",), RangeOptions(percentile=90.0))
    lines = table_text(width, rows, glyphs=glyphs)
    assert max(map(len, lines)) <= width
    shown = [line for line in lines if "Clip_output_0" in line]
    assert len(shown) == len(rows)
    for line, row in zip(shown, rows, strict=True):
        assert f"{row.statistics.maximum:.4g}" in line
    sentence = " ".join(lines)
    if width == 40:
        assert "no room for: histogram, low, high, scale, channels" in sentence
    if width >= 120:
        assert "scale" in sentence.split("no room for")[0]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_charts_keep_to_the_width(width: int) -> None:
    lines = charts_text(width)
    assert max(map(len, lines)) <= width
    assert "/a[0]/Add" in lines
    for method in RANGE_ESTIMATORS:
        assert sum(line.split()[:1] == [method] for line in lines) == 2 * len(ROWS)


def test_charts_say_what_methods_cut() -> None:
    lines = charts_text(100)
    first = lines.index("/a[0]/Add")
    assert (
        lines[first + 1] == "400 values of 1 samples, all values span 1.0 times the central 99.9 %"
    )
    minmax = next(line for line in lines[first:] if line.startswith("minmax"))
    assert minmax.split()[:5] == ["minmax", "-1", "3", "-", "0.01569"]


def test_sparse_tensors_have_words() -> None:
    rows = table_rows({"s": statistics_of(*[0.0] * 9999, 1.0)}, ("minmax",), RangeOptions())
    console = Console(file=io.StringIO(), width=200)
    for part in render_charts(TABLE, "t", rows, width=200, glyphs=ASCII):
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    assert "all values span infinitely many times the central 99.9 %" in console.file.getvalue()


@pytest.mark.parametrize(
    ("preprocessing", "start"),
    [
        (PRESETS["imagenet"], "pictures: preset imagenet, "),
        (Preprocessing((127.5,), (127.5,)), "pictures: preset tf, "),
        (Preprocessing((1.0, 2.0, 3.0), (5.0,) * 3), "pictures: (x - [1, 2, 3]) / 5, "),
    ],
)
def test_preprocessing_in_words(preprocessing: Preprocessing, start: str) -> None:
    text = preprocessing_words(preprocessing)
    assert text.startswith(start)
    assert "resize bilinear" in text
    assert "None" not in text
