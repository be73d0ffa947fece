"""Take the mean error of rounded weights out of the biases, from the calibration table alone.

A layer with weight codes that stand for ``W + e`` shifts its output channel c by
``sum_k e[c, k] E[x_k]``; the bias gives that back (Nagel et al. 2019, Data-Free Quantization,
arXiv:1906.04721, section 4.2, with measured instead of assumed means). Only the weights' error is
corrected: what clipping and rounding of activations do to the mean is left alone, since chasing it
with the same table makes saturated channels worse.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from quantkit.calibration.table import CalibrationTable
from quantkit.graph.program import Node, Program
from quantkit.numerics.affine import QuantizedTensor
from quantkit.ops.windows import node_windows
from quantkit.passes.note import PassNote
from quantkit.quantized_model.constants import accumulator_max, quantize_bias
from quantkit.quantized_model.model import QuantizedModel, node_bound, weight_and_bias

Float64Array = npt.NDArray[np.float64]


def correct_biases(model: QuantizedModel, table: CalibrationTable) -> QuantizedModel:
    """Correct the bias of every integer Conv and Gemm whose input means the table knows.

    Args:
        model: The quantized model.
        table: The calibration table it was planned with.

    Returns:
        The model with new bias codes, bounds and one note.
    """
    constants: dict[str, QuantizedTensor] = dict(model.constants)
    bounds = dict(model.accumulator_bounds)
    arrays = model.prepared.program.constants
    corrected = 0
    for node in model.prepared.program.nodes:
        if node.name in model.plan.kept_float:
            continue
        weight_name, bias_name = weight_and_bias(node)
        source = node.inputs[0]
        if not bias_name or weight_name not in arrays or source not in table.statistics:
            continue
        statistics = table.statistics[source]
        if statistics.channels is None:
            continue
        means = statistics.channels.means(statistics.sample_count)
        error = constants[weight_name].dequantize().astype(np.float64) - arrays[weight_name]
        shift = _mean_shift(node, error, means, model.prepared.program)
        if shift is None:
            continue
        x_params, weight_params = model.plan.params[source], constants[weight_name].params
        bias = np.asarray(arrays[bias_name], np.float64) - shift
        new = {**constants, bias_name: quantize_bias(bias, x_params, weight_params)}
        bound = node_bound(node, model.prepared.program, model.plan, new)
        if bound is not None and bound <= accumulator_max(x_params):
            constants, bounds[node.name] = new, bound
            corrected += 1
    if not corrected:
        return model
    nodes = "1 node" if corrected == 1 else f"{corrected} nodes"
    message = f"biases of {nodes} corrected for the mean error of rounded weights"
    note = PassNote("bias_correction", "", "", True, message)
    return replace(
        model, constants=constants, accumulator_bounds=bounds, notes=(*model.notes, note)
    )


def _mean_shift(
    node: Node, error: Float64Array, means: Float64Array, program: Program
) -> Float64Array | None:
    """``sum_k error[c, k] E[x_k]`` per output channel, or None where the means do not fit."""
    if node.op_type == "ConvTranspose" or node.integer("transA", 0):
        # How many taps meet depends on the position; the means are not of the axis summed over.
        return None
    if node.op_type == "Gemm":
        rows = error if node.integer("transB", 0) else error.T
        if rows.shape[1] != means.size:
            return None
        product: Float64Array = rows @ means
        return product
    group = node.integer("group", 1)
    channels_out, channels_per_group = error.shape[:2]
    if means.size != channels_per_group * group:
        return None
    coverage = _tap_coverage(node, error.shape[2:], program)
    # Taps that often fall on the zero padding see less of the mean.
    summed = (error * coverage).reshape(channels_out, channels_per_group, -1).sum(axis=2)
    per_group = means.reshape(group, 1, channels_per_group)
    shift = summed.reshape(group, channels_out // group, channels_per_group) * per_group
    total: Float64Array = shift.sum(axis=2).reshape(channels_out)
    return total


def _tap_coverage(node: Node, kernel: tuple[int, ...], program: Program) -> Float64Array:
    """Per kernel tap, the share of output positions where it reads the image, not the padding."""
    coverage = np.ones(kernel)
    spec = program.specs.get(node.inputs[0])
    sizes = [size for size in (spec.shape or ())[2:] if isinstance(size, int)] if spec else []
    if len(sizes) != len(kernel):
        return coverage
    windows = node_windows(node, sizes, kernel)
    for axis, size in enumerate(sizes):
        taps = np.arange(kernel[axis]) * windows.dilations[axis] - windows.pads_begin[axis]
        starts = np.arange(windows.output_shape[axis]) * windows.strides[axis]
        reads = starts[:, None] + taps[None, :]
        shape = [1] * len(kernel)
        shape[axis] = -1
        coverage = coverage * ((reads >= 0) & (reads < size)).mean(axis=0).reshape(shape)
    return coverage
