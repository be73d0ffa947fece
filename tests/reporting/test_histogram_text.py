import numpy as np
import pytest

from quantkit.reporting.histogram_text import (
    ASCII,
    BLOCKS,
    Glyphs,
    chart,
    count_text,
    glyphs_for,
    sparkline,
)
from tests.reporting.tables import normal, row_of, statistics_of

RAMP = row_of(statistics_of(*np.repeat([0.0, 1.0, 2.0, 4.0], [1000, 100, 10, 1])))


@pytest.mark.parametrize(
    ("encoding", "glyphs"),
    [
        ("utf-8", BLOCKS),
        ("utf-16", BLOCKS),
        ("ascii", ASCII),
        ("latin-1", ASCII),
        (None, ASCII),
        ("no such encoding", ASCII),
    ],
)
def test_glyphs_are_what_the_encoding_has(encoding: str | None, glyphs: Glyphs) -> None:
    assert glyphs_for(encoding) is glyphs


def test_a_line_shows_every_value_and_no_value() -> None:
    assert sparkline(RAMP, 8, BLOCKS) == "█ ▆ ▃  ▁"
    assert sparkline(RAMP, 8, ASCII) == "@ * -  ."
    assert sparkline(row_of(statistics_of(2.0)), 8, BLOCKS) == "█"


@pytest.mark.parametrize("width", [30, 47, 100])
@pytest.mark.parametrize("glyphs", [BLOCKS, ASCII])
def test_a_chart_keeps_to_its_width(width: int, glyphs: Glyphs) -> None:
    for statistics in (normal(), statistics_of(3.0), statistics_of(-1e-30, 2e30)):
        row = row_of(statistics)
        lines = list(chart(row, width, glyphs))
        assert max(map(len, lines)) <= width
        assert len(lines) == 8 + 2 + len(row.ranges)
        if glyphs is ASCII:
            assert "".join(lines).isascii()


def test_a_chart() -> None:
    row = row_of(statistics_of(*np.repeat([-1.0, 0.0, 1.0, 3.0], [9, 999, 99, 1])))
    lines = list(chart(row, 41, BLOCKS))
    bars = [line[13:] for line in lines[:8]]
    assert lines[0].startswith("   count 999 │")
    assert lines[3].startswith("          31 │")
    assert lines[7].startswith("           0 │")
    # The largest count fills its column; each of the others is as high as its logarithm.
    heights = {
        place: sum("▁▂▃▄▅▆▇█".index(bar[place]) + 1 for bar in bars if bar[place : place + 1] > " ")
        for place in range(1, 29)
        if bars[7][place : place + 1] > " "
    }
    assert list(heights.values()) == [
        int(np.ceil(64 * np.log(1 + count) / np.log(1000))) for count in (9, 999, 99, 1)
    ]
    assert lines[9] == "              -1    0" + " " * 18 + "3"
    assert next(line for line in lines if "minmax" in line).endswith(f"├{'─' * 24}┤")


def test_ranges_are_drawn_where_they_end() -> None:
    row = row_of(normal(), percentile=99.0)
    found = row.ranges["percentile"]
    line = next(line for line in chart(row, 100, ASCII) if line.lstrip().startswith("percentile"))
    columns = 100 - len("count 999.9M") - 3
    low, high = row.statistics.minimum, row.statistics.maximum
    drawn = line[len("count 999.9M") + 2 :]
    assert drawn.index("|") == round((found.low - low) / (high - low) * (columns - 1))
    assert drawn.rindex("|") == round((found.high - low) / (high - low) * (columns - 1))


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (999, "999"), (1000, "1k"), (1250, "1.2k"), (3_400_000, "3.4M"), (2e9, "2G")],
)
def test_count_text(count: float, text: str) -> None:
    assert count_text(count) == text
