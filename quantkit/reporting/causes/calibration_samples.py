"""Ranges that were chosen on too few samples, or on samples of another kind."""

import math
from collections.abc import Iterator

from quantkit.evaluation.input_check import FEWEST_SAMPLES
from quantkit.reporting.causes.findings import Findings
from quantkit.reporting.causes.lost_range import CLIPPED_TOO_MUCH, WASTED, clipping_ratio
from quantkit.reporting.causes.remedies import calibrate_anew, clip_less
from quantkit.reporting.layer import Layer
from quantkit.reporting.report import Cause

# Ranges fit in nearly all layers, if the calibration was like these data at all.
_UNFIT_SHARE = 1 / 3
_FEWEST_LAYERS = 3


def calibration_samples(findings: Findings) -> Iterator[Cause]:
    """One cause for the whole network, or none."""
    count = findings.calibration_samples()
    judged = [layer for layer in findings.layers if _has_own_range(findings, layer)]
    unfit = [layer.node for layer in judged if _does_not_fit(findings, layer)]
    is_unfit = len(judged) >= _FEWEST_LAYERS and len(unfit) >= _UNFIT_SHARE * len(judged)
    # Where a method was asked for that clips, that is the cause.
    by_choice = findings.config() is not None and not clip_less(findings).recalibrate
    how_many = "1 sample" if count == 1 else f"{count} samples"
    fit = f"the codes of {len(unfit)} of {len(judged)} layers do not lie where these data are"
    if count is not None and count < FEWEST_SAMPLES:
        evidence = f"calibrated on {how_many}: ranges hang on single values"
        yield _cause(findings, f"{evidence}; {fit}" if unfit else evidence)
    elif is_unfit and not by_choice:
        yield _cause(findings, fit if count is None else f"calibrated on {how_many}, but {fit}")


def _cause(findings: Findings, evidence: str) -> Cause:
    return Cause(
        node="",
        cause="too few samples",
        evidence=evidence,
        remedy=calibrate_anew(findings),
    )


def _has_own_range(findings: Findings, layer: Layer) -> bool:
    statistics = findings.statistics.get(layer.value)
    return (
        layer.output is not None
        and statistics is not None
        and statistics.minimum < statistics.maximum
        and layer.op_type not in ("Softmax", "Sigmoid", "HardSigmoid", "Tanh")
    )


def _does_not_fit(findings: Findings, layer: Layer) -> bool:
    statistics = findings.statistics[layer.value]
    assert layer.output is not None
    if clipping_ratio(layer.output, statistics) >= CLIPPED_TOO_MUCH:
        return True
    reach = max(abs(statistics.minimum), abs(statistics.maximum))
    return max(-layer.output.low, layer.output.high) >= math.sqrt(WASTED) * reach
