"""What a report looks like, on a terminal of 80 columns and in a pipe."""

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from quantkit.reporting.compare import LayerError
from quantkit.reporting.diagnose import Cause
from quantkit.reporting.render_terminal import drop_sentence, print_report, render
from quantkit.reporting.report import Drop, EngineRow, Report
from quantkit.reporting.terminal_table import make_table, percent_text, shortened

LONG = "/features/features.17/conv/conv.1/conv.1.0/Conv"
HALVED = Drop(points=50.0, low=41.25, high=57.5, p_value=1e-9, right_to_wrong=60, wrong_to_right=10)


def layer(
    node: str, alone: float | None, so_far: float, *, op: str = "Conv", kept: str | None = None
) -> LayerError:
    return LayerError(
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
    int8_mac_percent=87.5,
    kept_float={"/Resize": "no integer kernel for Resize"},
    layers_without_reference=3,
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
            remedy="--per-channel",
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


def rendered(report: Report, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for part in render(report, rows=12, width=width):
        console.print(part)
    file = console.file
    assert isinstance(file, io.StringIO)
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


@pytest.mark.parametrize(
    ("name", "report", "width"),
    [
        ("report_damaged_80_columns", DAMAGED, 80),
        ("report_damaged_in_a_pipe", DAMAGED, 10_000),
        ("report_two_outputs_80_columns", HEALTHY, 80),
    ],
)
def test_golden(name: str, report: Report, width: int, update_golden: bool) -> None:
    path = Path(__file__).parents[1] / "golden" / f"{name}.txt"
    text = rendered(report, width)
    if update_golden:
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_nothing_is_wider_than_the_terminal() -> None:
    assert max(len(line) for line in rendered(DAMAGED, 80).splitlines()) <= 80


def test_in_a_pipe_rows_and_sentences_are_whole() -> None:
    lines = rendered(DAMAGED, 10_000).splitlines()
    (row,) = [line for line in lines if line.startswith(LONG) and "try" not in line]
    assert row.split() == [LONG, "Conv", "2.50", "1.75", "1.25"]
    (cause,) = [line for line in lines if line.endswith("; try --per-channel")]
    assert cause.startswith(f"{LONG}: one weight scale")
    assert drop_sentence(HALVED, 100) in lines


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
    console = Console(file=io.StringIO(), width=200)
    for part in render(DAMAGED, rows=1, width=200):
        console.print(part)
    file = console.file
    assert isinstance(file, io.StringIO)
    assert "Layers, worst first (1 of 3)" in file.getvalue()
    assert "/stem" not in file.getvalue()


@pytest.mark.parametrize("layers", [(), DAMAGED.layers[2:3]])
def test_without_a_judged_layer_nothing_is_said_of_layers(layers: tuple[LayerError, ...]) -> None:
    text = rendered(HEALTHY.model_copy(update={"layers": layers}), 200)
    assert "\n\nNo layer could be judged.\n3 integer layers are not judged: " in text
    for phrase in ("worst first", "alone", "stands out"):
        assert phrase not in text


@pytest.mark.parametrize(
    ("points", "low", "high", "expected"),
    [
        (0.0, -1.0, 1.0, "Top-1 does not change"),
        (1.5, -1.0, 4.0, "Top-1 falls by 1.50 points, within noise"),
        (1.5, 0.5, 4.0, "Top-1 falls by 1.50 points, more than noise"),
        (-1.5, -4.0, -0.5, "Top-1 rises by 1.50 points, more than noise"),
    ],
)
def test_drop_sentence(points: float, low: float, high: float, expected: str) -> None:
    drop = Drop(points=points, low=low, high=high, p_value=0.04, right_to_wrong=3, wrong_to_right=2)
    assert drop_sentence(drop, 200) == (
        f"{expected} (95 % interval of the drop {low:+.2f} to {high:+.2f} points, p = 0.04): "
        "3 of 200 samples changed from right to wrong, 2 from wrong to right."
    )


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
