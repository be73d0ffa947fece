"""The arrays of one layer's golden vectors.

Codes, zero points and scales of inputs, weights and outputs; multipliers as float32 (value and
bits) for onnxruntime's arithmetic and as mantissa and shift for the fixed-point one; accumulators;
tables of functions of one code; the windows of a convolution with ``auto_pad`` resolved.
"""

import numpy as np
import numpy.typing as npt

from quantkit.exporters.contract import LayerCodes
from quantkit.graph.program import Array
from quantkit.numerics.affine import QuantParams
from quantkit.numerics.fixed_point import FixedPointMultiplier
from quantkit.ops.weights import centered_weight
from quantkit.ops.windows import node_windows, skipped_cells
from quantkit.plan import data_values, quantized_outputs
from quantkit.quantized_model.model import QuantizedModel, weight_and_bias
from quantkit.quantized_model.multipliers import accumulator_multipliers, operand_params

Arrays = dict[str, Array]

_WINDOWS = frozenset({"Conv", "MaxPool", "AveragePool"})
_AVERAGES = frozenset({"AveragePool", "GlobalAveragePool"})
# By bytes of a code: TFLite's quantized Add works on codes shifted left by this.
_ADDITION_LEFT_SHIFT = {1: 20, 2: 14}


def layer_arrays(layer: LayerCodes, model: QuantizedModel) -> Arrays:
    """The arrays of one layer's file, little-endian and in C order.

    Args:
        layer: What the layer computes.
        model: The model it belongs to.
    """
    arrays = _inputs(layer, model)
    if layer.accumulator is not None:
        arrays["accumulator"] = layer.accumulator
    arrays |= _windows(layer, model)
    arrays |= _multipliers(layer, model, arrays)
    arrays |= _outputs(layer, model)
    return {
        name: np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
        for name, array in arrays.items()
    }


def _inputs(layer: LayerCodes, model: QuantizedModel) -> Arrays:
    node, constants = layer.node, model.prepared.program.constants
    weight, bias = weight_and_bias(node)
    data = data_values(node, constants)
    arrays: Arrays = {}
    for position, name in enumerate(node.inputs):
        if name in layer.inputs:
            params = model.plan.params[name]
            arrays |= _codes(f"input_{position}", layer.inputs[name], params)
        elif name == weight and name in model.constants:
            tensor = model.constants[name]
            arrays |= _codes("weight", tensor.data, tensor.params)
            arrays["weight_centred"] = centered_weight(node, tensor)
        elif name == bias and name in model.constants:
            arrays["bias"] = model.constants[name].data
        elif name in data and name in model.constants:
            tensor = model.constants[name]
            arrays |= _codes(f"input_{position}", tensor.data, tensor.params)
        elif name in constants:
            arrays[f"parameter_{position}"] = constants[name]
    return arrays


def _outputs(layer: LayerCodes, model: QuantizedModel) -> Arrays:
    arrays: Arrays = {f"table_{name}": table for name, table in layer.tables.items()}
    quantized = quantized_outputs(layer.node)
    for position, name in enumerate(layer.node.outputs):
        for arithmetic, outputs in layer.outputs.items():
            if name:
                arrays[f"output_{position}_{arithmetic}"] = outputs[name]
        if name in quantized:
            params = model.plan.params[name]
            arrays |= _parameters(f"output_{position}", params)
            ends = [params.qmin, params.qmax]
            for table in layer.tables.values():
                ends = [int(table.min()), int(table.max())]
            arrays[f"output_{position}_clamp"] = np.array(ends, np.int32)
    return arrays


def _windows(layer: LayerCodes, model: QuantizedModel) -> Arrays:
    node = layer.node
    if node.op_type not in _WINDOWS:
        return {}
    weight, _ = weight_and_bias(node)
    kernel = model.constants[weight].data.shape[2:] if weight else node.integers("kernel_shape", ())
    # The shape of one run: (N, C, *spatial) behind the axis of runs.
    sizes = layer.inputs[node.inputs[0]].shape[3:]
    skipped = skipped_cells(node, sizes, kernel)
    windows = node_windows(node, np.subtract(sizes, skipped).tolist(), kernel)
    pads_begin = tuple(np.subtract(windows.pads_begin, skipped).tolist())
    arrays: Arrays = {
        "kernel_shape": np.array(windows.kernel_shape, np.int64),
        "strides": np.array(windows.strides, np.int64),
        "dilations": np.array(windows.dilations, np.int64),
        "pads": np.array(pads_begin + windows.pads_end, np.int64),
    }
    if weight:
        arrays["group"] = np.array(node.integer("group", 1), np.int64)
    if node.op_type == "AveragePool":
        include_pad = bool(node.integer("count_include_pad", 0))
        arrays["tap_counts"] = windows.tap_counts(include_pad=include_pad)
    return arrays


def _multipliers(layer: LayerCodes, model: QuantizedModel, arrays: Arrays) -> Arrays:
    node = layer.node
    product = accumulator_multipliers(node, model)
    if product is not None:
        return {**_float32(product.float32), **_fixed_point(product.fixed_point)}
    operands = [operand_params(name, model) for name in data_values(node, {})]
    y = model.plan.params.get(node.outputs[0])
    if y is None:
        return {}
    if node.op_type in ("Add", "Sub"):
        return _sum_multipliers(operands[0], operands[1], y)
    if node.op_type == "Mul":
        return _product_multipliers(operands[0], operands[1], y)
    if node.op_type == "Concat":
        real = [float(x.scale) / float(y.scale) for x in operands]
        return _fixed_point(FixedPointMultiplier.from_real(np.array(real)))
    if node.op_type in _AVERAGES:
        pixels = int(np.prod(layer.inputs[node.inputs[0]].shape[3:]))
        counts = np.unique(arrays.get("tap_counts", np.array(pixels)))
        return _average_multipliers(operands[0], y, counts[counts > 0])
    return {}


def _sum_multipliers(a: QuantParams, b: QuantParams, y: QuantParams) -> Arrays:
    """Of both operands and (fixed point) of their sum; see ``fixed_point_elementwise.sum_of``."""
    left = min(_ADDITION_LEFT_SHIFT[each.dtype.itemsize] for each in (a, b))
    twice_larger = 2.0 * max(float(a.scale), float(b.scale))
    real = [
        float(a.scale) / twice_larger,
        float(b.scale) / twice_larger,
        twice_larger / (2.0**left * float(y.scale)),
    ]
    return {
        **_float32(np.array([a.scale / y.scale, b.scale / y.scale], np.float32)),
        **_fixed_point(FixedPointMultiplier.from_real(np.array(real))),
        "left_shift": np.array(left, np.int32),
    }


def _product_multipliers(a: QuantParams, b: QuantParams, y: QuantParams) -> Arrays:
    """See ``qlinear_mul`` and ``fixed_point_elementwise.product_of``."""
    real = float(a.scale) * float(b.scale) / float(y.scale)
    return {
        **_float32(np.asarray(np.float32(a.scale * b.scale) / y.scale)),
        **_fixed_point(FixedPointMultiplier.from_real(real)),
    }


def _average_multipliers(x: QuantParams, y: QuantParams, counts: Array) -> Arrays:
    """Per number of taps; see ``average_requantizer`` of both arithmetics."""
    whole = FixedPointMultiplier.from_real(float(x.scale) / float(y.scale))
    code_range = x.qmax - x.qmin
    left = [max(0, 31 - (int(count) * code_range).bit_length()) for count in counts]
    means = [
        whole.divided_by(int(count) << shift) for count, shift in zip(counts, left, strict=True)
    ]
    divisors = np.asarray(y.scale * counts.astype(np.float32))
    return {
        "counts": counts.astype(np.int64),
        **_float32(np.asarray(x.scale / divisors)),
        "left_shift": np.array(left, np.int32),
        "mantissa": np.array([mean.mantissa for mean in means], np.int32),
        "shift": np.array([mean.shift for mean in means], np.int32),
    }


def _codes(name: str, codes: Array, params: QuantParams) -> Arrays:
    return {name: codes, **_parameters(name, params)}


def _parameters(name: str, params: QuantParams) -> Arrays:
    zero_point = np.asarray(params.zero_point).astype(params.dtype)
    return {f"{name}_scale": params.scale, f"{name}_zero_point": zero_point}


def _float32(multiplier: npt.NDArray[np.float32]) -> Arrays:
    return {"multiplier": multiplier, "multiplier_bits": multiplier.view(np.uint32)}


def _fixed_point(multiplier: FixedPointMultiplier) -> Arrays:
    return {"mantissa": multiplier.mantissa, "shift": multiplier.shift}
