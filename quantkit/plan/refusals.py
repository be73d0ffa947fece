"""Which nodes can be integers, and why the others stay float: no calibration is needed."""

from collections.abc import Mapping

import numpy as np

from quantkit.config import QuantConfig
from quantkit.errors import ConfigError
from quantkit.graph.program import Array, Node, Program
from quantkit.ops.contract import OPS, QuantRule
from quantkit.passes.prepare import Prepared

# This many products of any two 8-bit codes minus zero points fit in int32.
_LONGEST_PRODUCT = (2**31 - 1) // 255**2


def candidate_refusals(prepared: Prepared, config: QuantConfig | None = None) -> dict[str, str]:
    """Why each node that cannot (or shall not) be quantized stays float; the others are absent.

    Needs no calibration, so ``inspect`` can tell before any data is seen.

    Raises:
        ConfigError: ``nodes_to_exclude``, ``nodes_to_reduce_range`` or ``op_types_to_quantize``
            names nothing in the model.
    """
    config = config or QuantConfig()
    program = prepared.program
    _check_choice(prepared, config)
    reasons: dict[str, str] = {}
    for node in program.nodes:
        absorber = prepared.clamps.get(node.name)
        if absorber is not None:
            # Codes are clamped where they are made, so the clamp goes wherever its producer goes.
            if absorber in reasons:
                reasons[node.name] = f"clamps {absorber}, which stays float"
            continue
        reason = _chosen_float(node, config) or op_refusal(node, program)
        if reason is not None:
            reasons[node.name] = reason
    _drop_idle_movement(prepared, reasons)
    _drop_islands(prepared, reasons)
    return reasons


def op_refusal(node: Node, program: Program) -> str | None:
    """Why the op, its attributes or its inputs cannot be integers, or None."""
    if node.has_subgraph:
        return f"{node.op_type} holds a graph of its own"
    if rule_of(node) is None:
        name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        return f"no integer kernel for {name}"
    for name in node.inputs:
        if name in program.feedable:
            return f"its input {name!r} is also a graph input, which a caller may feed"
    constants: list[Array | None] = [program.constants.get(name) for name in node.inputs]
    reason = OPS[node.op_type].refusal(node, constants)
    if reason is not None:
        return reason
    names = data_values(node, program.constants)
    for name in (*names, *quantized_outputs(node)):
        dtype = (
            program.constants[name].dtype
            if name in program.constants
            else program.specs[name].dtype
            if name in program.specs
            else None
        )
        if dtype is not None and dtype != np.float32:
            return f"{name!r} is {dtype}, not float32"
    for name in node.inputs:
        if name and name not in names and name not in program.constants:
            return f"its input {name!r} is computed, not a constant"
    return _product_refusal(node, program) if node.op_type == "MatMul" else None


def data_values(node: Node, constants: Mapping[str, object]) -> tuple[str, ...]:
    """Names of the inputs that carry activations (of a node whose op is registered).

    A weight that is computed, the second operand of a MatMul, is an activation too.
    """
    rule = OPS[node.op_type].rule
    names = enumerate(node.inputs)
    if rule.data_inputs is not None:
        return tuple(name for position, name in names if position in rule.data_inputs and name)
    return tuple(
        name
        for position, name in names
        if name and position != rule.bias and (position != rule.weight or name not in constants)
    )


def quantized_outputs(node: Node) -> tuple[str, ...]:
    """Names of the outputs that hold codes (of a node whose op is registered)."""
    if OPS[node.op_type].rule.output == "plain":
        return ()
    return tuple(name for name in node.outputs if name)


def product_length(node: Node, program: Program) -> int | None:
    """How many products a MatMul without a constant weight sums up; None where it is not known."""
    for name, axis in zip(node.inputs, (-1, -2), strict=True):
        spec, constant = program.specs.get(name), program.constants.get(name)
        shape = constant.shape if constant is not None else (spec.shape or ()) if spec else ()
        # A vector is one row, or one column.
        size = shape[max(axis, -len(shape))] if shape else None
        if isinstance(size, int):
            return size
    return None


def rule_of(node: Node) -> QuantRule | None:
    """The quantization rule of a node's op, or None where no op is registered for it."""
    return OPS[node.op_type].rule if node.domain == "" and node.op_type in OPS else None


def _chosen_float(node: Node, config: QuantConfig) -> str | None:
    if node.name in config.nodes_to_exclude:
        return "excluded by --nodes-to-exclude"
    if config.op_types_to_quantize and node.op_type not in config.op_types_to_quantize:
        return "not among --op-types-to-quantize"
    return None


def _product_refusal(node: Node, program: Program) -> str | None:
    """Why the product of two activations is not proved to fit int32, or None."""
    if node.inputs[1] in program.constants:
        return None
    inner = product_length(node, program)
    if inner is None or inner > _LONGEST_PRODUCT:
        return f"sums of {inner or 'unknown many'} products of codes are not proved to fit int32"
    return None


def _drop_idle_movement(prepared: Prepared, reasons: dict[str, str]) -> None:
    """Leave (in ``reasons``) data movement float that neither follows nor feeds a kernel."""
    program = prepared.program
    producers, consumers = program.producers(), program.consumers()
    idle = {
        node.name: node
        for node in program.nodes
        if node.name not in reasons
        and node.name not in prepared.clamps
        and OPS[node.op_type].rule.output in ("same_as_input", "plain")
    }

    def is_integer(node: Node) -> bool:
        is_kept = node.name not in reasons and node.name not in idle
        return is_kept and OPS[node.op_type].has_onnxruntime_kernel(node)

    changed = True
    while changed:
        changed = False
        for node in tuple(idle.values()):
            producer = producers.get(node.inputs[0])
            follows = producer is not None and is_integer(producer)
            readers = [node for name in node.outputs for node in consumers.get(name, [])]
            feeds = any(map(is_integer, readers))
            # A clamp's input has a wider range, which costs resolution, unless it is quantized
            # anyway: a graph input, or what another kernel reads.
            loses = producer is not None and OPS[node.op_type].rule.clamps
            loses = loses and not any(map(is_integer, consumers[node.inputs[0]]))
            if follows or (feeds and not loses):
                del idle[node.name]
                changed = True
    reasons.update(dict.fromkeys(idle, "only moves, clamps or compares values between float nodes"))


def _drop_islands(prepared: Prepared, reasons: dict[str, str]) -> None:
    """Leave float what onnxruntime computes in floats, unless Q/DQ surround it anyway."""
    program = prepared.program
    producers, consumers = program.producers(), program.consumers()
    islands = {
        node.name: node
        for node in program.nodes
        if node.name not in reasons
        and OPS[node.op_type].rule.output != "same_as_input"
        and not OPS[node.op_type].has_onnxruntime_kernel(node)
    }
    # A node and the clamps that it absorbs are one; the last of them gives the output.
    last = {prepared.clamps.get(node.name, node.name): node for node in program.nodes}

    def is_quantized(name: str) -> bool:
        """Whether an integer node makes or reads the value."""
        nodes = [*consumers.get(name, []), *([producers[name]] if name in producers else [])]
        names = {prepared.clamps.get(node.name, node.name) for node in nodes}
        return any(name not in reasons and name not in islands for name in names)

    for name, node in islands.items():
        computed = [n for n in data_values(node, program.constants) if n not in program.constants]
        if not all(map(is_quantized, (*computed, *quantized_outputs(last[name])))):
            reasons[name] = "onnxruntime computes it in floats, and so does a neighbour"
    for clamp, absorber in prepared.clamps.items():
        if absorber in reasons:
            reasons.setdefault(clamp, f"clamps {absorber}, which stays float")


def _check_choice(prepared: Prepared, config: QuantConfig) -> None:
    names = {node.name for node in prepared.program.nodes}
    types = {node.op_type for node in prepared.program.nodes}
    with_weight = {node.name for node in prepared.program.nodes if _has_weight(node, prepared)}
    for name in config.nodes_to_exclude:
        if name in prepared.clamps:
            raise ConfigError(
                f"--nodes-to-exclude: {name!r} is the clamp of {prepared.clamps[name]!r} and is "
                "computed with it; exclude that node"
            )
        if name not in names:
            raise _unknown_node("--nodes-to-exclude", name, names)
    for name in config.nodes_to_reduce_range:
        if name not in names:
            raise _unknown_node("--reduce-range-node", name, names)
        if name not in with_weight:
            raise ConfigError(f"--reduce-range-node: {name!r} has no constant weight to reduce")
    for op_type in config.op_types_to_quantize:
        if op_type not in types:
            raise ConfigError(
                f"--op-types-to-quantize: the model has no {op_type!r}; "
                f"it has {', '.join(sorted(types))}"
            )


def _unknown_node(option: str, name: str, names: set[str]) -> ConfigError:
    close = ", ".join(sorted(n for n in names if name.lower() in n.lower())[:3])
    hint = f"; did you mean {close}?" if close else "; `quantkit inspect` lists the names"
    return ConfigError(f"{option}: no node is called {name!r}{hint}")


def _has_weight(node: Node, prepared: Prepared) -> bool:
    rule = rule_of(node)
    return (
        rule is not None
        and rule.weight is not None
        and node.inputs[rule.weight] in prepared.program.constants
    )
