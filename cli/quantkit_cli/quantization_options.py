"""The options that say how a network is quantized; the same for ``export`` and ``quantize``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantkit_cli.outputs import written_bytes

if TYPE_CHECKING:
    from quantkit.config import QuantConfig
    from quantkit.quantized_model.model import QuantizedModel

_SHOWN = 5

FoldBatchNorm = Annotated[
    bool,
    typer.Option(
        "--fold-batch-norm",
        help="Fold BatchNormalization behind quantized convolutions into their weight scales, "
        "which onnxruntime does not do: it computes them in floats.",
    ),
]
Recipe = Annotated[
    Path | None,
    typer.Option("--recipe", help="A TOML file with these choices; options given here win."),
]
# A registry's names and the first lines of its docstrings, which a test compares with these:
# importing the registry would slow down every --help. FORMATS below is such a copy too.
METHODS = {
    "auto": "Percentile where a long tail would take more than 5 % of the codes, else minmax; "
    "says why.",
    "entropy": "The threshold of smallest Kullback-Leibler divergence (TensorRT's entropy "
    "calibration).",
    "minmax": "All values seen in calibration, none clipped.",
    "mse": "The range with the least mean squared error of asymmetric codes, clipping included.",
    "percentile": "All values but the few farthest out: at most 100 - percentile % are cut at each "
    "end.",
}
Method = Annotated[
    str | None,
    typer.Option(
        "--method",
        help="How a range is chosen from a histogram. "
        + " ".join(f"{name}: {text}" for name, text in METHODS.items()),
    ),
]
Percentile = Annotated[
    float | None,
    typer.Option(
        "--percentile",
        help="For auto and percentile: above 50, at most 100 (default: 99.99).",
    ),
]
PerChannel = Annotated[
    bool | None,
    typer.Option(
        "--per-channel/--per-tensor",
        help="One weight scale per output channel (default), or one for all.",
    ),
]
ReduceRange = Annotated[
    bool | None,
    typer.Option(
        "--reduce-range/--full-range",
        help="Weights within [-64, 64], for x86 without VNNI, or [-127, 127] (default).",
    ),
]
ReduceRangeNode = Annotated[
    list[str] | None,
    typer.Option(
        "--reduce-range-node",
        metavar="NAME",
        help="A node whose weights stay within [-64, 64]; may be repeated.",
    ),
]
BiasCorrection = Annotated[
    bool | None,
    typer.Option(
        "--bias-correction/--no-bias-correction",
        help="Take the mean error of rounded weights out of the biases (default: yes).",
    ),
]
NodesToExclude = Annotated[
    list[str] | None,
    typer.Option("--nodes-to-exclude", help="A node that stays float; may be repeated."),
]
OpTypesToQuantize = Annotated[
    list[str] | None,
    typer.Option("--op-types-to-quantize", help="Quantize only this op; may be repeated."),
]
FORMATS = {
    "qdq": "ONNX file with Q/DQ pairs, for onnxruntime (the default).",
    "qoperator": "ONNX file of QLinear operators, for onnxruntime and runtimes that do not fuse "
    "Q/DQ.",
    "vectors": "A folder of golden vectors (.npz per layer) to check C or HDL against.",
}
Format = Annotated[
    str,
    typer.Option(
        "--format",
        help="What to write. " + " ".join(f"{name}: {text}" for name, text in FORMATS.items()),
    ),
]


def chosen_config(
    recipe: Path | None,
    method: str | None,
    per_channel: bool | None,
    reduce_range: bool | None,
    bias_correction: bool | None,
    nodes_to_exclude: list[str] | None,
    op_types_to_quantize: list[str] | None,
    percentile: float | None = None,
    reduce_range_node: list[str] | None = None,
) -> QuantConfig:
    """The recipe with the options laid over it.

    Raises:
        ConfigError: The recipe cannot be read, or an option is out of bounds.
        UnknownNameError: No such method.
    """
    from quantkit.config import QuantConfig, config_of, read_config
    from quantkit.range_estimators.contract import RANGE_ESTIMATORS

    config = QuantConfig() if recipe is None else read_config(recipe)
    changes: dict[str, Any] = {
        "range_estimator": method,
        "percentile": percentile,
        "per_channel": per_channel,
        "reduce_range": reduce_range,
        "nodes_to_reduce_range": tuple(reduce_range_node) if reduce_range_node else None,
        "bias_correction": bias_correction,
        "nodes_to_exclude": tuple(nodes_to_exclude) if nodes_to_exclude else None,
        "op_types_to_quantize": tuple(op_types_to_quantize) if op_types_to_quantize else None,
    }
    given = {name: value for name, value in changes.items() if value is not None}
    config = config_of({**config.model_dump(), **given}, "options")
    RANGE_ESTIMATORS[config.range_estimator]
    return config


def summary(model: QuantizedModel, source: Path, output: Path) -> dict[str, Any]:
    """What was written, as JSON types."""
    from dataclasses import asdict

    from quantkit.evaluation.integer_share import planned_mac_percent

    return {
        "output": str(output),
        "bytes": written_bytes(output),
        "source": str(source),
        "source_bytes": written_bytes(source),
        "int8_mac_percent": planned_mac_percent(model),
        "kept_float": dict(model.plan.kept_float),
        "ranges": {name: asdict(found) for name, found in model.plan.ranges.items()},
        "notes": [
            f"{note.node}: {note.message}" if note.node else note.message for note in model.notes
        ],
    }


def print_summary(facts: dict[str, Any]) -> None:
    """Say what was written, what stays float, and what was done on the way."""
    from quantkit.reporting.terminal_table import kept_float_lines, percent_text, size_text

    notes = facts["notes"]
    for note in notes[:_SHOWN]:
        print(note)
    if len(notes) > _SHOWN:
        print(f"and {len(notes) - _SHOWN} more notes; --json lists all of them")
    for line in kept_float_lines(facts["kept_float"]):
        print(line)
    share = facts["int8_mac_percent"]
    integer = (
        "" if share is None else f"; {percent_text(share)} % of multiply-accumulates in integers"
    )
    print(
        f"wrote {facts['output']}: {size_text(facts['bytes'])}, "
        f"{facts['source']} has {size_text(facts['source_bytes'])}{integer}"
    )
