"""Bars, lines and their rates, with a clock that the tests turn on."""

import logging
import re
import sys
from collections.abc import Callable
from itertools import pairwise

import pytest

from quantkit_cli import console, pace
from quantkit_cli.pace import duration_text, measured_pace, rate_text


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    monkeypatch.setattr(console, "time", clock)
    console.set_up_logging()
    return clock


def run_through(
    advance: Callable[[int, int], None], clock: Clock, first: int, total: int, seconds: float
) -> None:
    for done in range(first, total + 1):
        advance(done, total)
        clock.now += seconds


def test_a_line_at_each_quarter_without_a_terminal(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with console.progress("calibrate") as advance:
        run_through(advance, clock, 0, 128, 1 / 71)
    assert capsys.readouterr().err.splitlines() == [
        "calibrate: 32 of 128, 71/s, 2 s left",
        "calibrate: 64 of 128, 71/s, 1 s left",
        "calibrate: 96 of 128, 71/s, 1 s left",
        "calibrate: 128 of 128, 71/s",
    ]


def test_a_long_run_is_never_silent_for_long(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with console.progress("calibrate") as advance:
        run_through(advance, clock, 1, 100, 12.0)
    lines = capsys.readouterr().err.splitlines()
    done = [int(re.findall(r"\d+", line)[0]) for line in lines]
    assert done[0] == 4
    assert set(done) >= {25, 50, 75, 100}
    assert max(b - a for a, b in pairwise(done)) == 3
    assert lines[0] == "calibrate: 4 of 100, 12.0 s each, 19 min 12 s left"


def test_the_rate_is_that_of_this_run(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress("calibrate") as advance:
        run_through(advance, clock, 1000, 1400, 1 / 16)
    assert capsys.readouterr().err.splitlines() == [
        "calibrate: 1000 of 1400",
        "calibrate: 1050 of 1400, 16/s, 22 s left",
        "calibrate: 1400 of 1400, 16/s",
    ]


def test_without_a_second_call_there_is_no_rate(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with console.progress("verify") as advance:
        advance(7, 7)
    assert capsys.readouterr().err == "verify: 7 of 7\n"


def test_an_empty_total_and_a_clock_that_stands_still(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with console.progress("calibrate") as advance:
        advance(0, 0)
        advance(0, 0)
    assert capsys.readouterr().err == "calibrate: 0 of 0\n"
    words = measured_pace()
    assert words(1, 4) == words(2, 4) == ()


def test_quiet_is_silent(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    console.logger.setLevel(logging.ERROR)
    with console.progress("calibrate") as advance:
        run_through(advance, clock, 0, 100, 60.0)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_bar_on_a_terminal(
    width: int, clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with console.progress("calibrate") as advance:
        run_through(advance, clock, 0, 7, 2.5)
    captured = capsys.readouterr()
    assert captured.out == ""
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", captured.err)
    last = [line for line in re.split(r"[\r\n]+", plain) if line.strip()][-1]
    assert len(last.rstrip()) <= width
    assert re.search(r"^calibrate .* 7/7", last)
    assert width == 40 or "2.5 s each" in last


@pytest.mark.parametrize(
    ("per_second", "text"),
    [
        (1234.5, "1234/s"),
        (71.4, "71/s"),
        (10.0, "10/s"),
        (3.44, "3.4/s"),
        (1.0, "1.0/s"),
        (0.5, "2.0 s each"),
        (1 / 75, "1 min 15 s each"),
    ],
)
def test_rate_text(per_second: float, text: str) -> None:
    assert rate_text(per_second) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.01, "1 s"),
        (59.0, "59 s"),
        (59.5, "1 min 0 s"),
        (250.0, "4 min 10 s"),
        (3599.5, "1 h 0 min"),
        (7261.0, "2 h 2 min"),
    ],
)
def test_duration_text(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
