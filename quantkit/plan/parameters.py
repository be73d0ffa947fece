"""Which value gets which parameters."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from quantkit.calibration.table import CalibrationTable
from quantkit.config import QuantConfig
from quantkit.errors import CalibrationError
from quantkit.graph.program import Node, Program
from quantkit.numerics.affine import QuantParams, params_from_range, per_tensor
from quantkit.passes.prepare import Prepared
from quantkit.plan.refusals import candidate_refusals, data_values, rule_of
from quantkit.range_estimators.contract import RANGE_ESTIMATORS


@dataclass(frozen=True, slots=True, eq=False)
class QuantPlan:
    """Parameters of every quantized activation; a reason for every node that stays float.

    Attributes:
        params: By value name. A value without an entry is computed and passed on in floats.
        kept_float: Node name -> reason.
    """

    params: Mapping[str, QuantParams]
    kept_float: Mapping[str, str]


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
            for name in (*data_values(node, program.constants), *node.outputs):
                wanted[name] = None
    computed = program.producers()
    return tuple(
        name
        for name in wanted
        if name in computed and name not in clamped and _is_float32(program, name)
    )


def make_plan(
    prepared: Prepared, table: CalibrationTable, config: QuantConfig | None = None
) -> QuantPlan:
    """Choose parameters for every value that a quantized node reads or writes.

    Args:
        prepared: The prepared float graph.
        table: Its calibration table.
        config: The user's choices.

    Raises:
        TableMismatchError: The table was made for another model.
        CalibrationError: The table has no statistics of a tensor that is needed.
        ConfigError: See :func:`candidate_refusals`.
    """
    config = config or QuantConfig()
    table.require_model(prepared.digest)
    kept_float = candidate_refusals(prepared, config)
    program = prepared.program
    representative = _range_groups(prepared, kept_float)
    estimate = RANGE_ESTIMATORS[config.range_estimator]
    full_range = RANGE_ESTIMATORS["minmax"]
    # What shares its parameters with an input or output of the graph is not clipped either.
    whole = {
        representative.get(spec.name, spec.name) for spec in (*program.inputs, *program.outputs)
    }
    producers = program.producers()
    params: dict[str, QuantParams] = {}
    chosen: dict[str, QuantParams] = {}
    for node in program.nodes:
        if node.name in kept_float:
            continue
        for name in (*data_values(node, program.constants), *node.outputs):
            source = representative.get(name, name)
            if source not in chosen:
                known = _known_params(source, program, producers.get(source))
                if known is not None:
                    chosen[source] = known
                elif source in table.statistics:
                    method = full_range if source in whole else estimate
                    low, high = method(table.statistics[source])
                    if node.op_type == "GlobalAveragePool" and name in node.outputs:
                        # onnxruntime's kernel refuses multipliers of 256 and more.
                        high = max(high, low + float(params[node.inputs[0]].scale))
                    chosen[source] = params_from_range(low, high)
                else:
                    raise CalibrationError(
                        f"the calibration file has no statistics of {source!r}, which node "
                        f"{node.name!r} needs; calibrate this model again"
                    )
            params[name] = chosen[source]
    return QuantPlan(params, kept_float)


def _known_params(name: str, program: Program, producer: Node | None) -> QuantParams | None:
    """Parameters that need no statistics: of a constant, or of an output fixed to [0, 1]."""
    if name in program.constants:
        array = program.constants[name]
        return params_from_range(float(array.min()), float(array.max()))
    rule = None if producer is None else rule_of(producer)
    # 1/256 rather than 1/255: the scale every runtime's Softmax and Sigmoid kernels expect.
    return per_tensor(1 / 256, 0, np.uint8) if rule and rule.output == "fixed" else None


def _range_groups(prepared: Prepared, kept_float: Mapping[str, str]) -> dict[str, str]:
    """Value -> the value whose statistics give its parameters.

    Data movement passes its input's parameters on; an absorbed clamp passes its output's
    parameters back to its producer.
    """
    program = prepared.program
    group: dict[str, str] = {}
    for node in program.nodes:
        rule = rule_of(node)
        if node.name in kept_float or rule is None or rule.output != "same_as_input":
            continue
        source, output = node.inputs[0], node.outputs[0]
        if node.name in prepared.clamps:
            # The whole group that ended in `source` now ends in `output`.
            root = group.get(source, source)
            for member, old in list(group.items()):
                if old == root:
                    group[member] = output
            group[root] = output
        else:
            group[output] = group.get(source, source)
    return group


def _is_float32(program: Program, name: str) -> bool:
    spec = program.specs.get(name)
    return spec is None or spec.dtype == np.float32
