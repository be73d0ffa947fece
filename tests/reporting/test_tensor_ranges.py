"""Clip lines, and which values are lost beyond them."""

import math

import numpy as np
import pytest

from quantkit.calibration.statistics import statistics_of_sample
from quantkit.graph.model_io import program_of
from quantkit.graph.program import Program
from quantkit.numerics.affine import per_tensor
from quantkit.passes.prepare import prepare
from quantkit.reporting.tensor_ranges import (
    BINS,
    clip_lines,
    count_outside,
    losing_lines,
    tensor_range,
)
from tests.small_networks import float_model


@pytest.mark.parametrize(
    ("zero_point", "dtype", "expected"),
    [
        (0, np.uint8, (0.0, 127.5)),
        (128, np.uint8, (-64.0, 63.5)),
        (0, np.int8, (-64.0, 63.5)),
        (-128, np.int8, (0.0, 127.5)),
        (0, np.int16, (-16384.0, 16383.5)),
    ],
)
def test_clip_lines_are_the_ends_of_the_codes(
    zero_point: int, dtype: type[np.uint8 | np.int8 | np.int16], expected: tuple[float, float]
) -> None:
    assert clip_lines(per_tensor(0.5, zero_point, dtype)) == expected


def read_by(reader: str, outputs: str = "float[N, 2, 4, 4] y") -> Program:
    text = f"""(float[N, 2, 4, 4] x, float[2, 2, 1, 1] w) => ({outputs}) {{
        low = Constant <value = float {{-1.0}}> ()
        high = Constant <value = float {{2.0}}> ()
        c = Conv (x, w)
        {reader}
    }}"""
    return prepare(float_model(text)).program


ALL = (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("reader", "scale", "zero_point", "expected"),
    [
        ("y = Relu (c)", 0.01, 0, (-math.inf, 2.55)),  # what is below 0 is cut off anyway
        ("y = Relu (c)", 0.01, 128, (-math.inf, 1.27)),
        ("y = Clip (c, low, high)", 0.01, 0, (0.0, math.inf)),
        ("y = Clip (c, low, high)", 0.01, 128, (-math.inf, 1.27)),
        ("y = Clip (c, low, high)", 0.02, 128, ALL),
        ("y = Sigmoid (c)", 0.01, 0, (0.0, 2.55)),
        ("r = Relu (c)\n s = Sigmoid (c)\n y = Add (r, s)", 0.01, 0, (0.0, 2.55)),
        ("r = Relu (c)\n s = Clip (c, low, high)\n y = Add (r, s)", 0.01, 0, (0.0, 2.55)),
        ("r = Relu (c)\n s = Clip (c, low, high)\n y = Add (r, s)", 0.02, 128, (-math.inf, 2.54)),
    ],
)
def test_what_clamps_cut_off_is_not_lost(
    reader: str, scale: float, zero_point: int, expected: tuple[float, float]
) -> None:
    params = per_tensor(scale, zero_point, np.uint8)
    found = losing_lines("c", read_by(reader), params)
    assert found == pytest.approx(expected)


def test_a_graph_output_loses_what_its_codes_cannot_hold() -> None:
    program = read_by("y = Relu (c)", "float[N, 2, 4, 4] y, float[N, 2, 4, 4] c")
    assert losing_lines("c", program, per_tensor(0.5, 0, np.uint8)) == (0.0, 127.5)


def test_the_lines_themselves_are_not_outside() -> None:
    x = np.array([-1.0, -0.5, 0.0, 2.0, 2.5, 3.0], np.float32)
    assert count_outside(x, (-0.5, 2.0)) == 3
    assert count_outside(x, (-math.inf, 2.0)) == 2
    assert count_outside(x, ALL) == 0


def test_the_histogram_covers_values_and_codes() -> None:
    values = np.random.default_rng(0).normal(0.0, 1.0, (1, 1000)).astype(np.float32)
    values[0, 0] = 7.0
    params = per_tensor(0.02, 128, np.uint8)
    lines = clip_lines(params)
    outside = count_outside(values, lines)
    found = tensor_range(statistics_of_sample(values), params, outside)
    assert (found.low, found.high) == lines
    assert (found.minimum, found.maximum) == (float(values.min()), 7.0)
    assert found.histogram.start == min(lines[0], found.minimum)
    end = found.histogram.start + BINS * found.histogram.width
    assert end == pytest.approx(7.0)
    assert len(found.histogram.counts) == BINS
    assert sum(found.histogram.counts) == 1000
    assert found.histogram.counts[-1] == 1
    assert found.clipped_percent == pytest.approx(outside / 10)
    expected = np.histogram(values, BINS, (found.histogram.start, end))[0]
    assert np.abs(np.cumsum(expected) - np.cumsum(found.histogram.counts)).max() <= 5


def test_the_program_of_a_file_may_be_asked_too() -> None:
    text = """(float[N, 2] x) => (float[N, 2] y) {
        c = Neg (x)
        y = Relu (c)
    }"""
    program = program_of(float_model(text))
    assert losing_lines("c", program, per_tensor(1.0, 0, np.uint8)) == (-math.inf, 255.0)
