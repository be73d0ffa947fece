"""Numbers as text: rounded once, never to something that was not measured."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkit.reporting import numbers

FINITE = st.floats(-1e9, 1e9)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (100.0, "100.00"),
        (99.999, "99.99"),
        (71.384615, "71.38"),
        (0.0, "0.00"),
        (-0.0, "0.00"),
        (0.004, "0.004"),
        (0.00002, "2e-05"),
        (0.005, "0.01"),
    ],
)
def test_percent(value: float | None, text: str) -> None:
    assert numbers.percent(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (math.inf, "exact"),
        (-math.inf, "-inf"),
        (math.nan, "nan"),
        (24.4444, "24.44"),
        (-0.001, "0.00"),
    ],
)
def test_decibels(value: float | None, text: str) -> None:
    assert numbers.decibels(value) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.307692, "points", "+0.31"),
        (-0.834567, "points", "-0.83"),
        (0.0, "points", "0.00"),
        (0.0004, "points", "+0.0004"),
        (0.0123456, "", "+0.01235"),
        (-12345.6, "", "-1.235e+04"),
        (None, "", "-"),
    ],
)
def test_difference_has_a_sign(value: float | None, unit: str, text: str) -> None:
    assert numbers.difference(value, unit) == text


OTHERS = [
    (numbers.size(13_964_571), "13.96 MB"),
    (numbers.size(999_999), "1.00 MB"),
    (numbers.size(999_949), "999.9 kB"),
    (numbers.size(512), "0.5 kB"),
    (numbers.size(None), "-"),
    (numbers.count(300_774_272), "300,774,272"),
    (numbers.count(None), "-"),
    (numbers.counted(1, "sample"), "1 sample"),
    (numbers.counted(1234, "sample"), "1,234 samples"),
    (numbers.cosine(0.999999), "0.99999"),
    (numbers.cosine(1.0), "1.00000"),
    (numbers.cosine(-0.5), "-0.50000"),
    (numbers.cosine(None), "-"),
    (numbers.probability(0.774414), "0.77"),
    (numbers.probability(1e-9), "1e-09"),
    (numbers.milliseconds(9.876), "9.88"),
    (numbers.milliseconds(0.0012), "0.001"),
    (numbers.real(0.000244140625), "0.0002441"),
    (numbers.whole(1073741824), "1073741824"),
    (numbers.gain(24.4444, 27.75), "+3.31"),
    (numbers.gain(math.inf, math.inf), "-"),
    (numbers.gain(20.0, math.inf), "+inf"),
    (numbers.gain(None, 1.0), "-"),
    (numbers.between((-4.0, 3.96875), numbers.real), "-4 to 3.969"),
    (numbers.between((1.00001, 1.00002), numbers.real), "1"),
    (numbers.between((), numbers.whole), "-"),
    (numbers.between(None, numbers.whole), "-"),
    (numbers.class_name(1, ("cat", "dog")), "dog"),
    (numbers.class_name(2, ("cat", "dog")), "class 2"),
    (numbers.class_name(-1, ("cat", "dog")), "class -1"),
    (numbers.class_name(None, ()), "-"),
]


def test_the_others() -> None:
    assert [text for text, _ in OTHERS] == [expected for _, expected in OTHERS]


@given(FINITE)
def test_hundredths_stay_near_and_show_what_there_is(value: float) -> None:
    text = numbers.difference(value)
    assert abs(float(text) - value) <= max(0.005, abs(value) * 1e-9) + 1e-12
    assert (float(text) == 0.0) == (value == 0.0)


@given(st.floats(0.0, 100.0))
def test_a_share_is_all_only_where_nothing_is_missing(value: float) -> None:
    text = numbers.percent(value)
    assert (float(text) == 100.0) == (value == 100.0)
    assert (float(text) == 0.0) == (value == 0.0)


@given(FINITE)
def test_a_magnitude_has_no_sign(value: float) -> None:
    assert numbers.magnitude(value) == numbers.difference(-abs(value)).removeprefix("-")
