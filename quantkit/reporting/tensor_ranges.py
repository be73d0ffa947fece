"""A tensor's values against what its codes can hold: the clip lines and what lies beyond them."""

import math

import numpy as np

from quantkit.calibration.statistics import TensorStatistics
from quantkit.graph.program import Array, Node, Program
from quantkit.numerics.affine import QuantParams, dequantize
from quantkit.ops.contract import OPS
from quantkit.reporting.layer import Histogram, TensorRange
from quantkit.reporting.linear_histogram import linear_counts

BINS = 96


def clip_lines(params: QuantParams) -> tuple[float, float]:
    """The real values of the lowest and of the highest code of per-tensor parameters."""
    low, high = dequantize(np.array([params.qmin, params.qmax], params.dtype), params)
    return float(low), float(high)


def losing_lines(name: str, program: Program, params: QuantParams) -> tuple[float, float]:
    """Beyond which values of a tensor are lost; an infinity where nothing is lost on that side.

    Where all who read it are clamps that cut there themselves, its codes need not hold what is
    cut off anyway.

    Args:
        name: Of the tensor.
        program: The quantized network's graph.
        params: Of the tensor, per tensor.
    """
    low, high = clip_lines(params)
    if name in program.output_names():
        return low, high
    kept = [_kept_by(node, program) for node in program.consumers().get(name, ())]
    least = min((ends[0] for ends in kept), default=-math.inf)
    greatest = max((ends[1] for ends in kept), default=math.inf)
    return -math.inf if least >= low else low, math.inf if greatest <= high else high


def _kept_by(node: Node, program: Program) -> tuple[float, float]:
    """What a clamp lets pass; everything for other nodes."""
    if node.domain != "" or node.op_type not in OPS or not OPS[node.op_type].rule.clamps:
        return -math.inf, math.inf
    if node.op_type == "Relu":
        return 0.0, math.inf
    bounds = [-math.inf, math.inf]
    for position, name in enumerate(node.inputs[1:3]):
        if name in program.constants and program.constants[name].size == 1:
            bounds[position] = float(program.constants[name].reshape(()))
    return bounds[0], bounds[1]


def count_outside(x: Array, lines: tuple[float, float]) -> int:
    """How many values lie beyond either line; the lines themselves do not."""
    return int(np.count_nonzero(x < lines[0])) + int(np.count_nonzero(x > lines[1]))


def tensor_range(statistics: TensorStatistics, params: QuantParams, outside: int) -> TensorRange:
    """What a tensor holds in floats, and what its codes can hold.

    Args:
        statistics: Of its float values.
        params: Of its codes, per tensor.
        outside: How many of the values are lost beyond the clip lines.
    """
    low, high = clip_lines(params)
    start, end = min(low, statistics.minimum), max(high, statistics.maximum)
    # Rounded as running sums, so that they still add up to all values.
    below = np.rint(np.cumsum(linear_counts(statistics, start, end, BINS)))
    counts = np.diff(below, prepend=0.0).astype(np.int64)
    return TensorRange(
        dtype=params.dtype.name,
        scale=float(params.scale),
        zero_point=int(params.zero_point),
        low=low,
        high=high,
        minimum=statistics.minimum,
        maximum=statistics.maximum,
        clipped_percent=100.0 * outside / statistics.count,
        histogram=Histogram(start=start, width=(end - start) / BINS, counts=tuple(counts.tolist())),
    )
