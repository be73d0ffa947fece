"""A float model as one HTML file: what every layer costs and what would run in integers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from quantkit.graph.cost import SeparableBlock
from quantkit.reporting.html.page import Figure, Part, page
from quantkit.reporting.numbers import count
from quantkit.reporting.section import Section

LAYERS = "layers"
"""Name of the section that gets the bars of the layers."""
SEPARABLE = "separable"
"""Name of the section that gets those of the depthwise separable blocks."""


class InspectedLayer(Protocol):
    """A layer's cost."""

    @property
    def name(self) -> str:
        """The node's."""

    @property
    def op(self) -> str:
        """Its op."""

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates of one sample; None where a dimension is not known."""

    @property
    def parameters(self) -> int:
        """Elements of the constants it holds."""

    @property
    def runs_as(self) -> str:
        """One of "int8" and "float", "float", else where it is absorbed."""


def inspect_page(
    title: str,
    sections: Sequence[Section],
    layers: Sequence[InspectedLayer],
    blocks: Sequence[SeparableBlock] = (),
) -> str:
    """The page of a float model.

    Args:
        title: The model's file name.
        sections: Text and tables.
        layers: In the graph's order.
        blocks: Depthwise separable blocks, if it has any.

    Returns:
        HTML that needs nothing else, and no network.
    """
    figures = {LAYERS: (_costs(layers),), SEPARABLE: (_saving(blocks),) if blocks else ()}
    parts = [replace(Part(section), figures=figures.get(section.name, ())) for section in sections]
    return page("Model inspection", title, "cost of every layer, before any calibration", parts)


def _costs(layers: Sequence[InspectedLayer]) -> Figure:
    tones = [_TONES.get(layer.runs_as, "first") for layer in layers]
    panels = (
        ("Multiply-accumulates of one sample", "MACs", [layer.macs for layer in layers]),
        ("Parameters", "parameters", [layer.parameters for layer in layers]),
    )
    used = {tone: _LEGEND[tone] for tone in _LEGEND if tone in tones}
    return Figure(
        kind="layers",
        name="layers-cost",
        title="Cost per layer",
        described="Bars of every layer's cost; the table below holds the same numbers.",
        height=340,
        data={
            "names": [layer.name for layer in layers],
            "axis": "layer, in the graph's order",
            "series": [
                {
                    "title": title,
                    "unit": "",
                    "values": values,
                    "texts": [
                        f"{layer.op}, {count(value)} {unit}, {layer.runs_as}"
                        for layer, value in zip(layers, values, strict=True)
                    ],
                    "tones": tones,
                }
                for title, unit, values in panels
            ],
            "opens": False,
        },
        legend=used,
    )


_TONES = {"int8": "second", "float": "third"}
_LEGEND = {"second": "runs in int8", "third": "stays float", "first": "absorbed by another layer"}


def _saving(blocks: Sequence[SeparableBlock]) -> Figure:
    standard = sum(block.standard_macs for block in blocks)
    separable = sum(block.macs for block in blocks)
    return Figure(
        kind="bars",
        name="separable-saving",
        title="MACs of all blocks, depthwise separable and as standard convolutions",
        described=f"Bars: {count(separable)} MACs instead of {count(standard)}.",
        height=84,
        data={
            "labels": ["standard convolution", "depthwise separable"],
            "values": [standard, separable],
            "texts": [count(standard), count(separable)],
            "tones": ["first", "second"],
        },
    )
