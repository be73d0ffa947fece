"""The options that say how a network is quantized; the same for ``export`` and ``quantize``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from quantkit.config import QuantConfig

FoldBatchNorm = Annotated[
    bool,
    typer.Option(
        "--fold-batch-norm",
        help="Fold BatchNormalization behind quantized convolutions into their weight scales, "
        "which onnxruntime does not do: it computes them in floats.",
    ),
]
Recipe = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="NAME|FILE.toml",
        help="fast (the calibration alone), balanced or accurate (these run the model on the "
        "data), or a file of choices; options given here win.",
    ),
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
ActivationType = Annotated[
    str | None,
    typer.Option(
        "--activation-type",
        metavar="uint8|int8",
        help="Codes of activations: uint8 with any zero point (default), or int8 with zero point "
        "0, for hardware that needs it: x86 is slow with it.",
    ),
]
TensorIn16Bits = Annotated[
    list[str] | None,
    typer.Option(
        "--tensor-in-16-bits",
        metavar="NAME",
        help="An activation with codes of 16 bits, which onnxruntime computes in floats; may be "
        "repeated.",
    ),
]


def _step(name: str, help: str) -> Any:
    """A switch of one step; the recipe says whether it is on."""
    return typer.Option(f"--{name}/--no-{name}", help=help)


CrossLayerEqualization = Annotated[
    bool | None,
    _step(
        "cross-layer-equalization",
        "Rescale channels between two layers, so that all of them use the codes of their tensor.",
    ),
]
LinearEdgeEqualization = Annotated[
    bool | None,
    _step("linear-edge-equalization", "Likewise where tensors are added up before they are read."),
]
HighBiasAbsorption = Annotated[
    bool | None,
    _step("high-bias-absorption", "Move what a channel always holds into the next bias."),
]
WeightScaleSearch = Annotated[
    bool | None, _step("weight-scale-search", "Weight scales of the least squared error.")
]
BiasCorrection = Annotated[
    bool | None,
    _step("bias-correction", "Take the mean error of rounded weights out of the biases."),
]
ActivationRangeSearch = Annotated[
    bool | None,
    _step(
        "activation-range-search",
        "Choose ranges by the error of the output that they cause; needs data.",
    ),
]
LearnedRounding = Annotated[
    bool | None,
    _step("learned-rounding", "Round weights so that the output of their layer stays; needs data."),
]
EmpiricalBiasCorrection = Annotated[
    bool | None,
    _step(
        "empirical-bias-correction",
        "Take what is left of each layer's mean error out of its bias; needs data.",
    ),
]
BlockReconstruction = Annotated[
    bool | None,
    _step(
        "block-reconstruction",
        "Fit rounding and scales of whole blocks to the float block's output; needs data.",
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


@dataclass(frozen=True, slots=True)
class Choices:
    """What the options say, by the names of ``QuantConfig``; None where nothing was said.

    Attributes:
        recipe: A recipe's name or file.
    """

    recipe: Recipe = None
    range_estimator: Method = None
    percentile: Percentile = None
    per_channel: PerChannel = None
    reduce_range: ReduceRange = None
    nodes_to_reduce_range: ReduceRangeNode = None
    activation_type: ActivationType = None
    tensors_in_16_bits: TensorIn16Bits = None
    cross_layer_equalization: CrossLayerEqualization = None
    linear_edge_equalization: LinearEdgeEqualization = None
    high_bias_absorption: HighBiasAbsorption = None
    weight_scale_search: WeightScaleSearch = None
    bias_correction: BiasCorrection = None
    activation_range_search: ActivationRangeSearch = None
    learned_rounding: LearnedRounding = None
    empirical_bias_correction: EmpiricalBiasCorrection = None
    block_reconstruction: BlockReconstruction = None
    nodes_to_exclude: NodesToExclude = None
    op_types_to_quantize: OpTypesToQuantize = None

    def given(self) -> dict[str, Any]:
        """The choices made, the recipe among them."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value not in (None, [])}

    def recipe_file(self) -> Path | None:
        """The recipe as a file that is read, or None."""
        from quantkit.recipes import RECIPES

        return None if self.recipe is None or self.recipe in RECIPES else Path(self.recipe)

    def config(self, default: str) -> QuantConfig:
        """The recipe with the options laid over it.

        Args:
            default: Name of the recipe where none was chosen.

        Raises:
            ConfigError: The recipe cannot be read, or an option is out of bounds.
            UnknownNameError: No such method.
        """
        from quantkit.config import config_of
        from quantkit.range_estimators.contract import RANGE_ESTIMATORS
        from quantkit.recipes import recipe_of

        base = recipe_of(self.recipe or default, default)
        changes = {name: value for name, value in self.given().items() if name != "recipe"}
        config = config_of({**base.model_dump(), **changes}, "options")
        RANGE_ESTIMATORS[config.range_estimator]
        return config

    def base(self, default: str) -> str:
        """The name of the recipe that :meth:`config` begins with."""
        from quantkit.recipes import base_of

        return base_of(self.recipe or default, default)


NOTHING = Choices()


def takes_choices(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command with a parameter ``choices: Choices`` an option for each of its fields."""
    signature = inspect.signature(command, eval_str=True)
    types = get_type_hints(Choices, include_extras=True)
    options = [
        inspect.Parameter(
            each.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=types[each.name]
        )
        for each in fields(Choices)
    ]
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if parameter.name == "choices":
            parameters += options
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @wraps(command)
    def run(**given: Any) -> None:
        choices = Choices(**{each.name: given.pop(each.name) for each in fields(Choices)})
        command(**given, choices=choices)

    # What typer reads to make the options.
    run.__dict__["__signature__"] = signature.replace(parameters=parameters)
    return run
