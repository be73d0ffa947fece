"""Which values share a range, which keep the full one, and where each range comes from."""

from collections.abc import Mapping

import numpy as np

from quantkit.calibration.statistics import TensorStatistics
from quantkit.config import QuantConfig
from quantkit.graph.program import Node, Program
from quantkit.numerics.affine import QuantParams
from quantkit.passes.prepare import Prepared
from quantkit.plan.code_types import params_of_range, unit_params
from quantkit.plan.refusals import rule_of
from quantkit.range_estimators.contract import RANGE_ESTIMATORS, Range, RangeOptions

# What they give depends on the differences of their largest inputs, which a percentile cuts off.
_KEEP_FULL_INPUT = ("Softmax", "LogSoftmax")
_UINT8: np.dtype[np.integer] = np.dtype(np.uint8)


def full_range_reasons(prepared: Prepared, groups: Mapping[str, str]) -> dict[str, str]:
    """Values that are never clipped, whatever the range estimator, and why.

    These are the inputs and outputs of the graph, the inputs of Softmax and LogSoftmax, and
    whatever shares its parameters with one of them.

    Args:
        prepared: The prepared float graph.
        groups: From :func:`range_groups`.

    Returns:
        Value name -> reason, such as "graph output: full range".
    """
    program = prepared.program
    own: dict[str, str] = {spec.name: "graph output: full range" for spec in program.outputs}
    own |= {spec.name: "graph input: full range" for spec in program.inputs}
    for node in program.nodes:
        if node.domain == "" and node.op_type in _KEEP_FULL_INPUT:
            own.setdefault(node.inputs[0], f"input of {node.op_type}: full range")
    of_group: dict[str, str] = {}
    for name in own:
        of_group.setdefault(groups.get(name, name), name)
    reasons: dict[str, str] = {}
    for name in (*own, *of_group, *groups):
        source = of_group.get(groups.get(name, name))
        if name in own:
            reasons[name] = own[name]
        elif source is not None:
            what = own[source].removesuffix(": full range")
            reasons[name] = f"shares the parameters of {source!r} ({what}): full range"
    return reasons


def range_groups(prepared: Prepared, kept_float: Mapping[str, str]) -> dict[str, str]:
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
            root = group.get(source, source)
            group |= dict.fromkeys((name for name in node.outputs if name), root)
    return group


def known_range(
    name: str,
    program: Program,
    producer: Node | None,
    dtype: np.dtype[np.integer] = _UINT8,
) -> tuple[Range, QuantParams] | None:
    """What needs no statistics: a constant, or an output that its function fixes to [0, 1].

    Args:
        name: Of the value.
        program: The prepared float graph.
        producer: The node that computes the value, if any.
        dtype: Of its codes.
    """
    if name in program.constants:
        array = program.constants[name]
        found = Range(float(array.min()), float(array.max()), "constant: full range")
        return found, params_of_range(found, dtype)
    rule = None if producer is None else rule_of(producer)
    if producer is None or rule is None or rule.fixed_range is None:
        return None
    return Range(*rule.fixed_range, f"fixed by {producer.op_type}"), unit_params(dtype)


def estimated_range(
    statistics: TensorStatistics, config: QuantConfig, full_range: str | None
) -> Range:
    """The range that the configured method chooses.

    Args:
        statistics: Of the tensor.
        config: The user's choices.
        full_range: Why the tensor is not clipped; None: it may be.

    Raises:
        UnknownNameError: There is no such method.
    """
    estimate = RANGE_ESTIMATORS[config.range_estimator]
    if full_range is not None:
        return Range(statistics.minimum, statistics.maximum, full_range)
    return estimate(statistics, RangeOptions(percentile=config.percentile))
