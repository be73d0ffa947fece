"""Which layers' noise reaches the network's outputs.

A layer may be damaged alone and do no harm, because what follows does not use what it lost; and a
layer with a good SQNR of its own may ruin the network, because the noise lies where the signal is
small. So harm is judged by the outputs, with only this layer in integers.
"""

import math

import numpy as np

from quantkit.calibration.histogram import representatives
from quantkit.calibration.statistics import TensorStatistics
from quantkit.ops.contract import OPS
from quantkit.reporting.causes.findings import Findings
from quantkit.reporting.layer import Layer

# Layers below this share of the outputs' noise cannot be what is wrong with the network, nor those
# that make less than so many times what a layer makes on average ...
LEAST_PERCENT = 5.0
_LEAST_TIMES = 2.5
# ... unless everything is wrong: a layer that alone leaves less than this changes answers.
_RUINED_DB = 20.0
# In small networks every layer is far above the average.
_LOUD_PERCENT = 25.0


def noise_percents(findings: Findings) -> dict[str, float]:
    """Share of the outputs' noise by layer; empty where it was not measured.

    What a function with a fixed range makes (Softmax, Sigmoid) is rounded alike in every network:
    it is left out, or it would hide what else is lost in outputs that are nearly 0 and 1.
    """
    noise = {
        layer.node: 10.0 ** (-layer.network_sqnr_db / 10.0)
        for layer in findings.layers
        if layer.network_sqnr_db is not None
        and math.isfinite(layer.network_sqnr_db)
        and (layer.op_type not in OPS or OPS[layer.op_type].rule.fixed_range is None)
    }
    whole = sum(noise.values())
    return {node: 100.0 * each / whole for node, each in noise.items()} if whole else {}


def harmful_layers(findings: Findings, least_percent: float | None = None) -> list[Layer]:
    """The integer layers whose noise counts, in the graph's order.

    Where the outputs were not measured, those that lose much alone.

    Args:
        findings: What was measured.
        least_percent: Share of the noise from which a layer counts; None: as the number of layers
            suggests.
    """
    percents, nodes = noise_percents(findings), findings.nodes()
    if least_percent is None:
        least_percent = max(LEAST_PERCENT, _LEAST_TIMES * 100.0 / max(len(percents), 1))
        least_percent = min(least_percent, _LOUD_PERCENT)

    def is_harmful(layer: Layer) -> bool:
        if layer.isolated_sqnr_db is None or layer.node not in nodes:
            return False
        if layer.network_sqnr_db is None:
            # Minus infinity: the float layer is all zero, so there is nothing to lose.
            return not percents and -math.inf < layer.isolated_sqnr_db < _RUINED_DB
        is_loud = percents.get(layer.node, 0.0) >= least_percent
        return is_loud or layer.network_sqnr_db < _RUINED_DB

    return [layer for layer in findings.layers if is_harmful(layer)]


def so_far(layer: Layer) -> str:
    """What a layer leaves, for a sentence of evidence."""
    if layer.network_sqnr_db is not None:
        return f"in integers alone it leaves {layer.network_sqnr_db:.1f} dB at the outputs"
    return f"alone it leaves {layer.isolated_sqnr_db or 0.0:.1f} dB"


def rounding_and_clipping(
    statistics: TensorStatistics, low: float, high: float, codes: int
) -> tuple[float, float]:
    """Mean squared error of a tensor's values in codes that reach from ``low`` to ``high``.

    ``s^2 / 12`` with ``s = (high - low) / (codes - 1)``, and the mean of ``(x - clip(x))^2``.

    Args:
        statistics: Of the tensor.
        low: The real value of the lowest code; -inf where nothing is lost below.
        high: That of the highest.
        codes: How many there are.
    """
    values, count = representatives(statistics.histogram.bucket), statistics.histogram.count
    values = np.clip(values, statistics.minimum, statistics.maximum)
    step = (high - low) / (codes - 1)
    beyond = values - np.clip(values, low, high)
    return step**2 / 12.0, float(beyond**2 @ count / count.sum())


def mean_square(statistics: TensorStatistics) -> float:
    """Of a tensor's values."""
    values, count = representatives(statistics.histogram.bucket), statistics.histogram.count
    return float(values**2 @ count / count.sum())
