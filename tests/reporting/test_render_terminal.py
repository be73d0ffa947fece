"""What a report looks like, on a terminal of 80 columns and in a pipe."""

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from quantkit.reporting.accuracy_sections import drop_sentence
from quantkit.reporting.layer import Layer
from quantkit.reporting.render_terminal import print_report
from quantkit.reporting.report import Cause, Cost, Drop, EngineRow, Remedy, Report
from quantkit.reporting.terminal_table import make_table, percent_text, shortened
from tests.reporting.example_report import example_report
from tests.reporting.parsed_forms import PIPE, terminal

LONG = "/features/features.17/conv/conv.1/conv.1.0/Conv"
HALVED = Drop(points=50.0, low=41.25, high=57.5, p_value=1e-9, right_to_wrong=60, wrong_to_right=10)


def layer(
    node: str, alone: float | None, so_far: float, *, op: str = "Conv", kept: str | None = None
) -> Layer:
    return Layer(
        node=node,
        op_type=op,
        value=f"{node}_output",
        macs=1000,
        isolated_sqnr_db=alone,
        accumulated_sqnr_db=so_far,
        saturated_percent=None if alone is None else 1.25,
        kept_float=kept,
    )


def engine(label: str, *, is_float: bool = False, **sqnr_db: float) -> EngineRow:
    return EngineRow(
        label=label,
        top1_percent=81.0 if is_float else 31.0,
        top5_percent=96.0 if is_float else 64.0,
        agreement_percent=None if is_float else 33.0,
        tied=4 if label == "int8 in onnxruntime" else 0,
        sqnr_db=sqnr_db,
        latency_ms=None if "session" in label else 12.345,
        size_bytes=None if "session" in label else 14_219_821 if is_float else 60_123,
    )


DAMAGED = Report(
    float_model="net.onnx",
    quantized_model="net.int8.onnx",
    samples=100,
    skipped=2,
    engines=(
        engine("float", is_float=True),
        engine("int8 in onnxruntime", logits=3.25),
        engine("int8 integer session", logits=float("inf")),
    ),
    drop=HALVED,
    cost=Cost(int8_mac_percent=87.5),
    kept_float={"/Resize": "no integer kernel for Resize"},
    layers_without_reference=3,
    layer_samples=16,
    layers=(
        layer("/stem[0]/Conv", 41.5, 41.5),
        layer(LONG, 2.5, 1.75),
        layer("/Resize", None, 20.0, op="Resize", kept="no integer kernel for Resize"),
        layer("/GlobalAveragePool", 44.0, 3.0, op="GlobalAveragePool"),
    ),
    causes=(
        Cause(
            node=LONG,
            cause="one weight scale for uneven channels",
            evidence="its largest channel reaches 257 times as far as its median channel; alone "
            "it leaves 2.5 dB",
            remedy=Remedy(text="--per-channel"),
            noise_percent=93.75,
        ),
    ),
    provenance={},
)
HEALTHY = DAMAGED.model_copy(
    update={
        "skipped": 0,
        "drop": None,
        "causes": (),
        "layers": DAMAGED.layers[:1],
        "engines": tuple(
            row.model_copy(
                update={"top1_percent": None, "top5_percent": None, "agreement_percent": None}
            )
            for row in (
                engine("float", is_float=True),
                engine("int8 in onnxruntime", boxes=20.5, scores=31.0),
                engine("int8 integer session", boxes=20.5, scores=31.0),
            )
        ),
    }
)


@pytest.mark.parametrize(
    ("name", "report", "width"),
    [
        ("report_damaged_80_columns", DAMAGED, 80),
        ("report_damaged_in_a_pipe", DAMAGED, PIPE),
        ("report_two_outputs_80_columns", HEALTHY, 80),
        ("report_full_80_columns", example_report(30), 80),
        ("report_full_120_columns", example_report(30), 120),
    ],
)
def test_golden(name: str, report: Report, width: int, update_golden: bool) -> None:
    path = Path(__file__).parents[1] / "golden" / f"{name}.txt"
    text = terminal(report, width)
    if update_golden:
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [60, 80, 100, 140])
@pytest.mark.parametrize(
    "report", [DAMAGED, HEALTHY, example_report(30)], ids=["damaged", "healthy", "full"]
)
def test_nothing_is_wider_than_the_terminal(report: Report, width: int) -> None:
    assert max(len(line) for line in terminal(report, width).splitlines()) <= width


def test_wider_terminals_show_more_columns() -> None:
    shown = [
        len(line.split("  "))
        for width in (60, 80, 120, 200)
        for line in terminal(example_report(), width).splitlines()
        if line.startswith("conv11 ")
    ]
    assert shown == sorted(shown)
    assert shown[0] < shown[-1]
    assert "Too narrow for: " in terminal(example_report(), 80)
    assert "Too narrow for: " not in terminal(example_report(), PIPE)


def test_in_a_pipe_rows_and_sentences_are_whole() -> None:
    lines = terminal(DAMAGED, PIPE).splitlines()
    cause, row = [line for line in lines if line.startswith(LONG)]
    assert row.split() == [LONG, "Conv", "2.50", "1.75", "1.25", "1,000", "-"]
    assert cause.split("  ")[1] == "one weight scale for uneven channels"
    assert cause.endswith("--per-channel    93.75")
    assert drop_sentence(HALVED, 100) in lines


def test_on_a_terminal_a_cause_is_a_paragraph() -> None:
    lines = terminal(DAMAGED, 80).splitlines()
    start = lines.index(LONG)
    assert lines[start + 1] == "  cause: one weight scale for uneven channels"
    assert lines[start + 4 : start + 6] == ["  try: --per-channel", "  noise %: 93.75"]


def test_a_pipe_is_no_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    print_report(DAMAGED)
    out = capsys.readouterr().out
    assert drop_sentence(HALVED, 100) in out.splitlines()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_report(DAMAGED)
    assert drop_sentence(HALVED, 100) not in capsys.readouterr().out.splitlines()


def test_only_the_worst_rows_are_shown() -> None:
    text = terminal(example_report(30), 200)
    assert "12 of 30; a file (--output) has all." in text
    rows = [line.split()[0] for line in text.splitlines() if line.startswith("conv")]
    assert rows[0] == "conv3", "the cause"
    assert rows[1:] == [f"conv{index}" for index in range(29, 17, -1)]


def test_float_layers_come_last() -> None:
    lines = terminal(DAMAGED, PIPE).splitlines()
    rows = [line.split()[0] for line in lines if line.startswith("/")]
    assert rows == [LONG, LONG, "/stem[0]/Conv", "/GlobalAveragePool", "/Resize"]


def test_without_layers_nothing_is_said_of_them() -> None:
    text = terminal(HEALTHY.model_copy(update={"layers": ()}), 200)
    assert "No cause was looked for: no layer could be judged." in text
    for phrase in ("worst first", "alone", "stands out"):
        assert phrase not in text


@pytest.mark.parametrize(
    ("name", "width", "expected"),
    [
        ("conv", 20, "conv"),
        (LONG, 47, LONG),
        (LONG, 40, "…" + LONG[-39:]),
        (LONG, 20, "…" + LONG[-19:]),
        ("x" * 30, 20, "…" + "x" * 19),
    ],
)
def test_names_are_shortened_from_the_front(name: str, width: int, expected: str) -> None:
    assert shortened(name, width) == expected
    assert len(shortened(name, width)) <= width


def test_numbers_are_never_broken() -> None:
    table = make_table(
        ["layer", "op", "count"],
        [[LONG, "GlobalAveragePool", "1,234,567,890"]],
        width=40,
        right=("count",),
        name="layer",
    )
    console = Console(file=io.StringIO(), width=40, color_system=None)
    console.print(table)
    file = console.file
    assert isinstance(file, io.StringIO)
    assert "1,234,567,890" in file.getvalue()


def test_a_narrow_table_tells_names_apart_and_breaks_nothing() -> None:
    names = [f"/features/features.{i}/conv/conv.0/conv.0.0/Conv" for i in (1, 11, 2)]
    rows = [[name, "GlobalAveragePool", "1,234,567", "22,222 (11)", ""] for name in names]
    numbers = ("codes", "so far")
    table = make_table(
        ["layer", "op", *numbers, "note"], rows, width=60, right=numbers, name="layer"
    )
    lines = table.plain.splitlines()
    assert len(lines) == 2 + len(rows)
    assert lines[0].split() == ["layer", "op", "codes", "so", "far"]
    assert max(map(len, lines)) <= 60
    assert all(line == line.rstrip() for line in lines)
    shown = [line.split()[0] for line in lines[2:]]
    assert [text.split("…")[1] for text in shown] == ["1", "11", "2"]
    assert all(text.endswith("/conv.0.0/Conv") for text in shown)


@pytest.mark.parametrize(
    ("percent", "text"), [(100.0, "100.0"), (99.96, "99.9"), (99.0, "99.0"), (0.0, "0.0")]
)
def test_a_percentage_is_not_rounded_up_to_all(percent: float, text: str) -> None:
    assert percent_text(percent) == text
