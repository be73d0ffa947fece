"""What an exporter promises, and the registry of exporters."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from quantkit.graph.program import Array, Node
from quantkit.quantized_model.model import QuantizedModel
from quantkit.registry import Registry


@dataclass(frozen=True, slots=True, eq=False)
class LayerCodes:
    """What one integer node reads and computes, in one or more runs of the network.

    The first axis of ``inputs``, ``outputs`` and ``accumulator`` counts the runs.

    Attributes:
        node: The node.
        inputs: Codes of its computed inputs, by value name.
        accumulator: The sums before requantization: int64 with 16-bit codes, else int32, which
            wraps modulo 2^32; None where the op has none.
        outputs: By arithmetic, what it makes of these inputs, by value name.
        tables: By arithmetic, its output for all 256 input codes, ascending; empty where it is no
            function of one 8-bit code.
    """

    node: Node
    inputs: Mapping[str, Array]
    accumulator: Array | None
    outputs: Mapping[str, Mapping[str, Array]]
    tables: Mapping[str, Array]


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """What the integer nodes of a model compute, for formats that hold it.

    Attributes:
        description: Where the network's inputs come from.
        layers: Every integer node, in graph order; may be computed while it is read.
    """

    description: str
    layers: Iterable[LayerCodes]


class Exporter(Protocol):
    """Writes a model in one format, beside its place, then renames."""

    def __call__(
        self, model: QuantizedModel, path: Path, samples: Samples | None = None, /
    ) -> None:
        """Write the model.

        Args:
            model: The model.
            path: The file or, for a format in :data:`SAMPLE_FORMATS`, the new folder.
            samples: For the formats in :data:`SAMPLE_FORMATS`; the others ignore them.

        Raises:
            ModelError: It cannot be written.
        """


EXPORTERS: Registry[Exporter] = Registry("export format", "quantkit.exporters")

SAMPLE_FORMATS = frozenset({"vectors"})
"""Formats that hold what layers compute on samples; each is a folder instead of a file."""
