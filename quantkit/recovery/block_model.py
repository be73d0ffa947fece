"""From a quantized model to what may be learned of a block, and back to a model."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from quantkit.graph.program import Array
from quantkit.numerics.affine import QuantizedTensor, QuantParams
from quantkit.ops.contract import OPS
from quantkit.plan import data_values
from quantkit.plan.ranges import full_range_reasons, range_groups
from quantkit.quantized_model.constants import accumulator_max, quantize_bias
from quantkit.quantized_model.model import QuantizedModel, node_bound, weight_and_bias
from quantkit.recovery.block_variables import Learnable, Variables, rounding_of
from quantkit.recovery.blocks import Block
from quantkit.recovery.operation_gradients import clamp_bounds


def learnable_of(model: QuantizedModel, block: Block) -> Learnable | None:
    """What may be learned of a block; None where that is nothing."""
    program, plan = model.prepared.program, model.plan
    constants: dict[str, Array] = {}
    params: dict[str, QuantParams] = {}
    bounds: dict[str, tuple[float, float]] = {}
    roundings, bias_units = {}, {}
    absorbed: set[str] = set()
    for node in block.nodes:
        arrays = [program.constants.get(name) for name in node.inputs]
        coded = {*data_values(node, program.constants), *weight_and_bias(node)}
        for name, array in zip(node.inputs, arrays, strict=True):
            if array is not None:
                is_coded = name in coded and name in model.constants
                constants[name] = model.constants[name].dequantize() if is_coded else array
        y = node.outputs[0]
        source = node.inputs[0]
        if node.name in model.prepared.clamps and source in bounds:
            low, high = clamp_bounds(node, arrays)
            bounds[y] = max(low, bounds[source][0]), min(high, bounds[source][1])
            absorbed.add(node.name)
            continue
        if OPS[node.op_type].rule.output == "same_as_input":
            if not plan.params[source].equals(plan.params[y]):
                return None
            continue
        params[y], bounds[y] = plan.params[y], (-math.inf, math.inf)
        weight, bias = weight_and_bias(node)
        if weight in model.constants:
            roundings[weight] = rounding_of(program.constants[weight], model.constants[weight])
            if bias:
                bias_units[bias] = float(plan.params[y].scale)
    if not roundings:
        return None
    for node in reversed(block.nodes):
        if node.name in absorbed:
            bounds[node.inputs[0]] = bounds[node.outputs[0]]
    groups, largest = _step_groups(model, block, params, bounds)
    return Learnable(
        nodes=block.nodes,
        outputs=block.outputs,
        constants=constants,
        params=params,
        bounds={name: bounds[name] for name in params},
        absorbed=frozenset(absorbed),
        roundings=roundings,
        bias_units=bias_units,
        step_groups=groups,
        largest_steps=largest,
    )


def _step_groups(
    model: QuantizedModel,
    block: Block,
    params: Mapping[str, QuantParams],
    bounds: Mapping[str, tuple[float, float]],
) -> tuple[dict[str, str], dict[str, float]]:
    """The steps that may move: nothing outside the block has them, nothing fixes them."""
    prepared, plan = model.prepared, model.plan
    groups = range_groups(prepared, plan.kept_float)
    fixed = {groups.get(name, name) for name in full_range_reasons(prepared, groups)}
    made = {name for node in block.nodes for name in node.outputs}
    for name in plan.params:
        if name not in made:
            fixed.add(groups.get(name, name))
    for node in block.nodes:
        if OPS[node.op_type].rule.output == "fixed":
            fixed.add(groups.get(node.outputs[0], node.outputs[0]))
    found = {name: groups.get(name, name) for name in params}
    found = {name: group for name, group in found.items() if group not in fixed}
    largest: dict[str, float] = {}
    for name, group in found.items():
        # A clamp that saturation carries out must stay so, or it becomes a node of its own.
        top = bounds[name][1]
        steps = params[name].qmax - int(params[name].zero_point)
        if math.isfinite(top) and steps:
            limit = max(top / steps, float(params[name].scale))
            largest[group] = min(limit, largest.get(group, math.inf))
    return found, largest


def with_block(
    model: QuantizedModel, block: Learnable, variables: Variables
) -> QuantizedModel | None:
    """The model with what was learned; None where an accumulator could exceed its limit.

    Biases of nodes that read a value with a new step are rounded anew, in other blocks too.
    """
    program, plan = model.prepared.program, model.plan
    groups = range_groups(model.prepared, plan.kept_float)
    factors = {
        group: block.step(name, variables) / float(block.params[name].scale)
        for name, group in block.step_groups.items()
    }
    params, ranges = dict(plan.params), dict(plan.ranges)
    for name, before in plan.params.items():
        factor = factors.get(groups.get(name, name))
        if factor is not None:
            params[name] = replace(before, scale=np.asarray(before.scale * np.float32(factor)))
            if name in ranges:
                low, high = ranges[name].low * factor, ranges[name].high * factor
                ranges[name] = replace(ranges[name], low=low, high=high)
    constants: dict[str, QuantizedTensor] = dict(model.constants)
    for name, rounding in block.roundings.items():
        given = constants[name].params
        _, zero_point = given.aligned(rounding.lower.ndim)
        codes = (rounding.codes(variables[name]) + zero_point).astype(given.dtype)
        constants[name] = QuantizedTensor(codes, given)
    new_plan = replace(plan, params=params, ranges=ranges)
    bounds = dict(model.accumulator_bounds)
    for node in program.nodes:
        if node.name in plan.kept_float or OPS[node.op_type].rule.weight is None:
            continue
        weight, bias = weight_and_bias(node)
        x = params[node.inputs[0]]
        is_moved = not x.equals(plan.params[node.inputs[0]])
        if not is_moved and weight not in block.roundings:
            continue
        if bias and weight in constants:
            real = _real_bias(model.constants[bias])
            if bias in block.bias_units:
                real = real + variables[bias].astype(np.float64) * block.bias_units[bias]
            constants[bias] = quantize_bias(real, x, constants[weight].params)
        bound = node_bound(node, program, new_plan, constants)
        if bound is not None:
            if bound > accumulator_max(x):
                return None
            bounds[node.name] = bound
    return replace(model, plan=new_plan, constants=constants, accumulator_bounds=bounds)


def _real_bias(bias: QuantizedTensor) -> npt.NDArray[np.float64]:
    real: npt.NDArray[np.float64] = bias.data.astype(np.float64) * bias.params.scale.astype(
        np.float64
    )
    return real
