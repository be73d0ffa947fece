"""Layers in floats between integer ones: they cost speed, no accuracy."""

from collections.abc import Iterator

from quantkit.graph.program import Node
from quantkit.reporting.causes.findings import Findings
from quantkit.reporting.report import Cause, Remedy

# What the user has asked for is no finding.
_ASKED_FOR = ("excluded", "asked")


def float_islands(findings: Findings) -> Iterator[Cause]:
    """Float nodes that read from and write to integer ones."""
    program, plan = findings.model.prepared.program, findings.model.plan
    producers, readers = program.producers(), program.consumers()
    config = findings.config()
    wanted = () if config is None else config.nodes_to_exclude

    def is_integer(node: Node | None) -> bool:
        return node is not None and node.name not in plan.kept_float

    for name, reason in plan.kept_float.items():
        node = findings.nodes().get(name)
        if node is None or name in wanted or any(word in reason for word in _ASKED_FOR):
            continue
        before = [producers.get(value) for value in node.inputs if value]
        after = [reader for value in node.outputs for reader in readers.get(value, ())]
        if not any(map(is_integer, before)) or not any(map(is_integer, after)):
            continue
        yield Cause(
            node=name,
            cause="float island",
            evidence=f"{node.op_type} stays float between integer layers ({reason}): its inputs "
            "are dequantized, its output is quantized again, which costs speed, no accuracy",
            remedy=Remedy(text="replace the op in the float model, if its latency matters"),
        )
