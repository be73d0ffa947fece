"""The inspection's page in a real browser."""

from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import expect

from quantkit.graph.cost import SeparableBlock
from quantkit.reporting.html.inspect_page import inspect_page
from quantkit.reporting.section import Column, Section, Table
from tests.reporting.html.visit import Visits, drawn_plots


@dataclass(frozen=True, slots=True)
class Cost:
    name: str
    op: str
    macs: int | None
    parameters: int
    runs_as: str


LAYERS = (
    *(Cost(f"/block{index}/Conv", "Conv", 1000 * index, 10 * index, "int8") for index in range(14)),
    Cost("/relu", "Relu", 0, 0, "in Conv"),
    Cost("/softmax", "Softmax", None, 0, "float"),
)
SECTIONS = (
    Section("summary", "", ("99 % of the multiply-accumulates run in int8.",)),
    Section(
        "layers",
        "Layers",
        table=Table(
            (
                Column("layer", is_name=True),
                Column("op"),
                Column("MACs", is_number=True),
                Column("runs as"),
            ),
            tuple(
                (
                    layer.name,
                    layer.op,
                    "?" if layer.macs is None else f"{layer.macs:,}",
                    layer.runs_as,
                )
                for layer in LAYERS
            ),
        ),
    ),
    Section("separable", "Depthwise separable blocks", ("Two of them.",)),
)
BLOCKS = (SeparableBlock("dw", "pw", 64, (3, 3), 1000, 8000),) * 2


def test_costs_are_drawn_sorted_and_filtered(tmp_path: Path, visits: Visits) -> None:
    path = tmp_path / "net.html"
    path.write_text(inspect_page("net.onnx", SECTIONS, LAYERS, BLOCKS), encoding="utf-8")
    page = visits.open(path, width=390)
    assert page.title().startswith("net.onnx")
    assert page.locator(".plot").count() == drawn_plots(page) == 2
    assert page.locator("#layers-cost .point path").count() >= len(LAYERS) + 14
    assert page.locator(".legend li").all_inner_texts() == [
        "runs in int8",
        "stays float",
        "absorbed by another layer",
    ]
    rows = page.locator("#layers tbody tr.row")
    page.get_by_role("button", name="MACs").click()
    page.get_by_role("button", name="MACs").click()
    expect(rows.first).to_contain_text("13,000")
    expect(rows.last).to_contain_text("/softmax")
    page.get_by_label("Filter").fill("relu")
    expect(page.locator(".filter output")).to_have_text("1 of 16 rows")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
