"""What helps against a cause: the option as it is typed, and the fields it sets.

Names that the network's own configuration already lists are kept.
"""

from quantkit.config import QuantConfig
from quantkit.graph.program import Program
from quantkit.reporting.causes.findings import Findings
from quantkit.reporting.layer import Layer
from quantkit.reporting.report import Remedy

_EQUALIZATION = ("cross_layer_equalization", "linear_edge_equalization", "high_bias_absorption")
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Clips so little that it is no cause.
_CAREFUL = QuantConfig()


def per_channel() -> Remedy:
    """One scale per channel of a weight."""
    return Remedy(
        text="--per-channel: it costs nothing in onnxruntime", config={"per_channel": True}
    )


def keep_float(findings: Findings, node: str) -> Remedy:
    """The layer in floats."""
    config = findings.config() or QuantConfig()
    names = tuple(dict.fromkeys((*config.nodes_to_exclude, node)))
    return Remedy(
        text=f"--nodes-to-exclude {node}: it then runs in floats, which costs speed",
        config={"nodes_to_exclude": names},
    )


def sixteen_bits(findings: Findings, *values: str) -> Remedy:
    """Finer codes for some tensors."""
    config = findings.config() or QuantConfig()
    names = tuple(dict.fromkeys((*config.tensors_in_16_bits, *values)))
    options = " ".join(f"--tensor-in-16-bits {value}" for value in values)
    return Remedy(
        text=f"{options}: onnxruntime computes what reads or writes it in floats, "
        "which costs speed",
        config={"tensors_in_16_bits": names},
    )


def even_channels(findings: Findings, layer: Layer) -> Remedy:
    """Channels rescaled where that was not tried and can be done, otherwise finer codes."""
    config = findings.config()
    if config is not None and all(getattr(config, name) for name in _EQUALIZATION):
        return sixteen_bits(findings, layer.value)
    if not _is_between_products(layer, findings.model.prepared.program):
        return sixteen_bits(findings, layer.value)
    options = " ".join(f"--{name.replace('_', '-')}" for name in _EQUALIZATION)
    return Remedy(
        text=f"{options}: they cost nothing at run time",
        config=dict.fromkeys(_EQUALIZATION, True),
    )


def clip_less(findings: Findings) -> Remedy:
    """The estimator that cuts off next to nothing, or another calibration."""
    config = findings.config()
    if config is None or _clips_little(config):
        return calibrate_anew(findings)
    return Remedy(
        text=f"--method {_CAREFUL.range_estimator} --percentile {_CAREFUL.percentile}",
        config={
            "range_estimator": _CAREFUL.range_estimator,
            "percentile": _CAREFUL.percentile,
        },
    )


def calibrate_anew(findings: Findings, samples: int = 100) -> Remedy:
    """Ranges from data like those that are judged here."""
    return Remedy(
        text=f"quantize again, with --num-samples {samples} or more of data like these",
        recalibrate=True,
    )


def _clips_little(config: QuantConfig) -> bool:
    return config.range_estimator == "minmax" or (
        config.range_estimator == _CAREFUL.range_estimator
        and config.percentile >= _CAREFUL.percentile
    )


def _is_between_products(layer: Layer, program: Program) -> bool:
    """Whether a layer with weights makes the tensor, and nothing else reads it."""
    readers = program.consumers().get(layer.value, [])
    return (
        layer.op_type in _PRODUCTS
        and bool(readers)
        and all(node.op_type in _PRODUCTS for node in readers)
    )
