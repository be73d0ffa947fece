"""Which value gets which parameters."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from quantkit.calibration.table import CalibrationTable
from quantkit.config import QuantConfig
from quantkit.errors import CalibrationError
from quantkit.graph.program import Program
from quantkit.numerics.affine import QuantParams
from quantkit.passes.prepare import Prepared
from quantkit.plan.code_types import activation_dtype, params_of_range, values_in_16_bits
from quantkit.plan.ranges import estimated_range, full_range_reasons, known_range, range_groups
from quantkit.plan.refusals import (
    candidate_refusals,
    data_values,
    quantized_outputs,
    rule_of,
)
from quantkit.range_estimators.contract import Range


@dataclass(frozen=True, slots=True, eq=False)
class QuantPlan:
    """Parameters of every quantized activation; a reason for every node that stays float.

    Attributes:
        params: By value name. A value without an entry is computed and passed on in floats.
        kept_float: Node name -> reason.
        ranges: By value name, the range that the parameters cover and how it came about; empty
            where a model was read that is quantized already.
    """

    params: Mapping[str, QuantParams]
    kept_float: Mapping[str, str]
    ranges: Mapping[str, Range] = field(default_factory=dict)


def tensors_to_calibrate(prepared: Prepared) -> tuple[str, ...]:
    """Computed float values whose ranges a plan could need, in graph order.

    The output of a node that is clamped by its only reader is left out: its parameters are those
    of the clamp's output.
    """
    program = prepared.program
    clamped = {node.inputs[0] for node in program.nodes if node.name in prepared.clamps}
    wanted: dict[str, None] = {}
    for node in program.nodes:
        if rule_of(node) is not None:
            for name in (*data_values(node, program.constants), *quantized_outputs(node)):
                wanted[name] = None
    computed = program.producers()
    return tuple(
        name
        for name in wanted
        if name in computed and name not in clamped and _is_float32(program, name)
    )


def make_plan(
    prepared: Prepared,
    table: CalibrationTable,
    config: QuantConfig | None = None,
    *,
    ranges: Mapping[str, Range] | None = None,
) -> QuantPlan:
    """Choose parameters for every value that a quantized node reads or writes.

    Args:
        prepared: The prepared float graph.
        table: Its calibration table.
        config: The user's choices.
        ranges: Ranges that are known already, by value name; the estimator chooses the others.

    Raises:
        TableMismatchError: The table was made for another model.
        CalibrationError: The table has no statistics of a tensor that is needed.
        ConfigError: See :func:`candidate_refusals`; or ``tensors_in_16_bits`` names no activation.
    """
    config = config or QuantConfig()
    table.require_model(prepared.digest)
    kept_float = candidate_refusals(prepared, config)
    program = prepared.program
    representative = range_groups(prepared, kept_float)
    wide = values_in_16_bits(program, config, representative)
    unclipped = full_range_reasons(prepared, representative)
    producers = program.producers()
    chosen: dict[str, tuple[Range, QuantParams]] = {}
    for node in program.nodes:
        if node.name in kept_float:
            continue
        for name in (*data_values(node, program.constants), *quantized_outputs(node)):
            source = representative.get(name, name)
            if source not in chosen:
                dtype = activation_dtype(config, is_wide=source in wide)
                known = known_range(source, program, producers.get(source), dtype)
                if known is not None:
                    chosen[source] = known
                elif source in table.statistics:
                    reason = unclipped.get(source)
                    if reason is None and ranges is not None and source in ranges:
                        found = ranges[source]
                    else:
                        found = estimated_range(table.statistics[source], config, reason)
                    if node.op_type == "GlobalAveragePool" and name in node.outputs:
                        found = _wide_enough(found, chosen[node.inputs[0]][1])
                    chosen[source] = found, params_of_range(found, dtype)
                else:
                    raise CalibrationError(
                        f"the calibration file has no statistics of {source!r}, which node "
                        f"{node.name!r} needs; calibrate this model again"
                    )
            found, params = chosen[source]
            if name != source and name in unclipped:
                found = replace(found, reason=unclipped[name])
            chosen[name] = found, params
    return QuantPlan(
        {name: params for name, (_, params) in chosen.items()},
        kept_float,
        {name: found for name, (found, _) in chosen.items()},
    )


def _wide_enough(found: Range, averaged: QuantParams) -> Range:
    """A range of averages that onnxruntime's kernel takes: it refuses multipliers of 256 and more.

    Args:
        found: The range of the averages.
        averaged: Parameters of what is averaged.
    """
    least = found.low + float(averaged.scale)
    if found.high >= least:
        return found
    return Range(found.low, least, "one step of what is averaged, which is more than was seen")


def _is_float32(program: Program, name: str) -> bool:
    spec = program.specs.get(name)
    return spec is None or spec.dtype == np.float32
