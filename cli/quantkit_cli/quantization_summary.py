"""What ``export`` and ``quantize`` say at their end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantkit_cli.outputs import written_bytes

if TYPE_CHECKING:
    from quantkit.config import QuantConfig
    from quantkit.quantized_model.model import QuantizedModel


def summary(
    model: QuantizedModel,
    source: Path,
    output: Path,
    config: QuantConfig | None,
    base: str | None = None,
) -> dict[str, Any]:
    """What was written, as JSON types.

    Args:
        model: The quantized model.
        source: The model it was made from.
        output: What was written.
        config: How it was quantized; None: it was converted.
        base: Name of the recipe that ``config`` was made from; None: the nearest is named.
    """
    from dataclasses import asdict

    from quantkit.evaluation.integer_share import int8_mac_percent
    from quantkit.graph.cost import model_cost
    from quantkit.recipes import recipe_name
    from quantkit.recovery.recover import undone_steps

    return {
        "output": str(output),
        "bytes": written_bytes(output),
        "source": str(source),
        "source_bytes": written_bytes(source),
        "recipe": None if config is None else recipe_name(config, base),
        "config": None if config is None else config.model_dump(),
        "int8_mac_percent": int8_mac_percent(model),
        "nodes_of_unknown_shape": len(model_cost(model.prepared.program).unknown),
        "kept_float": dict(model.plan.kept_float),
        "ranges": {name: asdict(found) for name, found in model.plan.ranges.items()},
        "undone_steps": list(undone_steps(model)),
        "steps": [{"step": note.pass_name, "node": note.node} for note in model.notes],
        "notes": [
            f"{note.node}: {note.message}" if note.node else note.message for note in model.notes
        ],
    }


def print_summary(facts: dict[str, Any]) -> None:
    """Say what was written, what stays float, and what was done on the way."""
    from quantkit.reporting.numbers import size
    from quantkit.reporting.terminal_table import kept_float_lines, percent_text

    if facts["recipe"] is not None:
        print(f"recipe: {facts['recipe']}")
    for line in _step_lines(facts):
        print(line)
    undone = facts["undone_steps"]
    if undone:
        steps = {note["step"] for note in facts["steps"]}
        print(
            f"{len(undone)} of {len(steps)} steps lost accuracy on the calibration data and were "
            f"undone: a recipe with fewer steps gives the same"
        )
    for line in kept_float_lines(facts["kept_float"]):
        print(line)
    share = facts["int8_mac_percent"]
    integer = (
        _unknown_share(facts["nodes_of_unknown_shape"])
        if share is None
        else f"; {percent_text(share)} % of multiply-accumulates in integers"
    )
    print(
        f"wrote {facts['output']}: {size(facts['bytes'])}, "
        f"{facts['source']} has {size(facts['source_bytes'])}{integer}"
    )


def _unknown_share(nodes: int) -> str:
    if not nodes:
        return ""
    return f"; share of multiply-accumulates unknown: {nodes} nodes have dynamic shapes"


def _step_lines(facts: dict[str, Any]) -> Iterator[str]:
    """A line per step: what it says of the network, or of the first node it speaks of."""
    found: dict[str, list[tuple[str, str]]] = {}
    for origin, text in zip(facts["steps"], facts["notes"], strict=True):
        found.setdefault(origin["step"], []).append((origin["node"], text))
    for step, notes in found.items():
        # What concerns the whole network says more than what concerns one node.
        shown = next((text for node, text in notes if not node), notes[0][1])
        more = len(notes) - 1
        others = f"; {more} more note{'s' if more > 1 else ''}: --json" if more else ""
        yield f"{step.replace('_', ' ')}: {shown}{others}"
