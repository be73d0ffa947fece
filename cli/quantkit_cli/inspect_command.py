"""``quantkit inspect``: what a network costs and what would run in integers, before any data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantkit_cli.console import Quiet, Verbose, print_table

if TYPE_CHECKING:
    from quantkit.graph.cost import ModelCost
    from quantkit.graph.program import TensorSpec
    from quantkit.passes.prepare import Prepared

# What the passes do to a node, by pass.
_DONE = {
    "batch_norm_to_affine": "BatchNormalization replaced by a depthwise 1x1 Conv",
    "fold_batch_norm": "BatchNormalization folded",
    "fold_constants": "constants evaluated",
    "fold_pad": "Pad folded into Conv",
    "mark_clamps": "Relu or Clip absorbed by the node before it",
    "own_constants": "shared weights copied",
    "raise_opset": "opset raised",
    "remove_identity": "Identity or Dropout removed",
}


def inspect(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A float ONNX model.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Show what every layer costs, and what stays float and why.

    Also what was folded on the way, and what depthwise separable blocks save against standard
    convolutions. No data are needed.
    """
    from quantkit.graph.cost import model_cost
    from quantkit.passes.prepare import prepare
    from quantkit.plan import candidate_refusals

    prepared = prepare(model)
    facts = inspection(prepared, model_cost(prepared.program), candidate_refusals(prepared))
    if as_json:
        print(json.dumps({"model": str(model), **facts}, indent=2))
    else:
        _print(str(model), facts)


def inspection(
    prepared: Prepared, cost: ModelCost, kept_float: Mapping[str, str]
) -> dict[str, Any]:
    """Everything ``inspect`` shows, as JSON types.

    Args:
        prepared: The prepared model.
        cost: What its program costs.
        kept_float: Name of each node that stays float -> why.
    """
    integer_macs = sum(node.macs or 0 for node in cost.nodes if node.name not in kept_float)
    layers = [
        {
            "name": node.name,
            "op": node.op_type,
            "output_shape": None if node.output_shape is None else list(node.output_shape),
            "macs": node.macs,
            "parameters": node.parameters,
            "int8": node.name not in kept_float,
            "float_reason": kept_float.get(node.name),
            "absorbed_by": prepared.clamps.get(node.name),
        }
        for node in cost.nodes
    ]
    blocks = [
        {
            "depthwise": block.depthwise,
            "pointwise": block.pointwise,
            "output_channels": block.output_channels,
            "kernel": list(block.kernel),
            "macs": block.macs,
            "standard_macs": block.standard_macs,
            "ratio": block.ratio,
        }
        for block in cost.blocks
    ]
    return {
        "inputs": [_value(spec) for spec in prepared.program.inputs],
        "outputs": [_value(spec) for spec in prepared.program.outputs],
        "layers": layers,
        "preparation": [
            {
                "pass": note.pass_name,
                "node": note.node,
                "op": note.op_type,
                "applied": note.applied,
                "message": note.message,
            }
            for note in prepared.notes
        ],
        "separable_blocks": blocks,
        "totals": {
            "macs": cost.macs,
            "int8_macs": integer_macs,
            "macs_unknown": list(cost.unknown),
            "parameters": cost.parameters,
            "standard_macs": cost.standard_macs,
            "saved_macs": cost.saved_macs,
        },
    }


def _value(spec: TensorSpec) -> dict[str, Any]:
    shape = None if spec.shape is None else list(spec.shape)
    return {"name": spec.name, "dtype": spec.dtype.name, "shape": shape}


def _print(model: str, facts: Mapping[str, Any]) -> None:
    ends = ", ".join(f"{end['name']} {_shape(end['shape'])}" for end in facts["inputs"])
    results = ", ".join(f"{end['name']} {_shape(end['shape'])}" for end in facts["outputs"])
    print(f"{model}: {ends} -> {results}\n")
    ops = {layer["name"]: layer["op"] for layer in facts["layers"]}
    print_table(
        ("layer", "op", "output", "MACs", "params", "runs as"),
        [
            (
                layer["name"],
                layer["op"],
                _shape(layer["output_shape"]),
                _count(layer["macs"]),
                _count(layer["parameters"]),
                _arithmetic(layer, ops),
            )
            for layer in facts["layers"]
        ],
        right=("MACs", "params"),
        name="layer",
    )
    _print_float(facts["layers"])
    _print_preparation(facts["preparation"])
    _print_blocks(facts["separable_blocks"], facts["totals"])
    _print_totals(facts["totals"])


def _print_float(layers: list[dict[str, Any]]) -> None:
    from quantkit.reporting.terminal_table import kept_float_lines

    for line in kept_float_lines(
        {layer["name"]: layer["float_reason"] for layer in layers if layer["float_reason"]}
    ):
        print(line)


def _print_preparation(notes: list[dict[str, Any]]) -> None:
    folded = sum(1 for note in notes if note["pass"] == "fold_batch_norm" and note["applied"])
    print(f"BatchNormalization folded: {folded}")
    applied: dict[str, int] = {}
    for note in notes:
        if note["applied"] and note["pass"] != "fold_batch_norm":
            applied[note["pass"]] = applied.get(note["pass"], 0) + 1
    for name, count in applied.items():
        print(f"{_DONE.get(name, name)}: {count}")
    for note in notes:
        if not note["applied"]:
            what = _DONE.get(note["pass"], note["pass"])
            print(f"not {what}: {note['node']} ({note['op']}): {note['message']}")
    print()


def _print_blocks(blocks: list[dict[str, Any]], totals: Mapping[str, Any]) -> None:
    if not blocks:
        return
    print_table(
        ("depthwise", "N", "D_K", "MACs", "standard conv", "ratio"),
        [
            (
                block["depthwise"],
                str(block["output_channels"]),
                "x".join(str(size) for size in block["kernel"]),
                _count(block["macs"]),
                _count(block["standard_macs"]),
                f"{block['ratio']:.4f}",
            )
            for block in blocks
        ],
        right=("N", "MACs", "standard conv", "ratio"),
        name="depthwise",
        title=f"{len(blocks)} depthwise separable blocks, each with the pointwise conv behind it;\n"
        "ratio to a standard conv: 1/N + 1/D_K^2",
    )
    print(
        f"saved against standard convolutions: {_millions(totals['saved_macs'])} of "
        f"{_millions(totals['standard_macs'])} MACs "
        f"({100 * totals['saved_macs'] / totals['standard_macs']:.1f} %)"
    )


def _print_totals(totals: Mapping[str, Any]) -> None:
    unknown = totals["macs_unknown"]
    print(
        f"total: {'at least ' if unknown else ''}{_millions(totals['macs'])} MACs "
        f"per sample, {totals['parameters']:,} parameters after folding"
    )
    if totals["macs"]:
        share = 100 * totals["int8_macs"] / totals["macs"]
        print("int8: unknown share of the MACs" if unknown else f"int8: {share:.2f} % of the MACs")
    if unknown:
        print(
            f"not counted, for want of known shapes: {len(unknown)} of the nodes: "
            f"{', '.join(unknown[:5])}{' ...' if len(unknown) > 5 else ''}"
        )


def _arithmetic(layer: Mapping[str, Any], ops: Mapping[str, str]) -> str:
    if layer["float_reason"] is not None:
        return "float"
    # A clamp costs nothing: it is the range of the codes that its producer writes.
    return "int8" if layer["absorbed_by"] is None else f"in {ops[layer['absorbed_by']]}"


def _shape(shape: list[int | str | None] | None) -> str:
    if shape is None:
        return "?"
    # Some exporters write -1 for a dynamic dimension.
    return "x".join("?" if size in (None, -1) else str(size) for size in shape) or "scalar"


def _count(count: int | None) -> str:
    return "?" if count is None else f"{count:,}" if count else "-"


def _millions(count: int) -> str:
    return f"{count / 1e6:,.1f} M" if count >= 1_000_000 else f"{count:,}"
