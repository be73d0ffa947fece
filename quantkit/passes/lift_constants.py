"""Constant nodes become initializers, local functions are inlined, every node gets a name."""

import onnx_ir as ir
import onnx_ir.passes.common as common

from quantkit.passes.note import PassNote

# Before this IR version every initializer had to be listed as a graph input as well.
_IR_VERSION_OF_OPTIONAL_INPUTS = 4


def lift_constants(model: ir.Model) -> list[PassNote]:
    """Bring the graph into the form the other passes expect; no note."""
    if model.functions:
        common.InlinePass()(model)
    if model.ir_version < _IR_VERSION_OF_OPTIONAL_INPUTS:
        common.RemoveInitializersFromInputsPass()(model)
        model.ir_version = _IR_VERSION_OF_OPTIONAL_INPUTS
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.TopologicalSortPass()(model)
    taken = {node.name for node in model.graph if node.name}
    seen: set[str] = set()
    for node in model.graph:
        if not node.name or node.name in seen:
            base = node.name or node.outputs[0].name or node.op_type
            name, number = base, 1
            while name in taken:
                number += 1
                name = f"{base}_{number}"
            node.name = name
            taken.add(name)
        seen.add(node.name)
    return []
