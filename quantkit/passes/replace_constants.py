"""The same graph with other weights: for rewritings that keep the network's function."""

from collections.abc import Mapping
from dataclasses import replace

import onnx_ir as ir

from quantkit.graph.program import Array
from quantkit.passes.prepare import Prepared


def replace_constants(prepared: Prepared, arrays: Mapping[str, Array]) -> Prepared:
    """A copy with new values of some initializers; the original is not changed.

    Args:
        prepared: The graph.
        arrays: By initializer name; shape and dtype are those of the old array.
    """
    constants = dict(prepared.program.constants)
    model = prepared.model.clone()
    for name, array in arrays.items():
        old = constants[name]
        assert old.shape == array.shape
        constants[name] = array.astype(old.dtype, copy=False)
        # clone() shares tensors, so the value gets a new one.
        model.graph.initializers[name].const_value = ir.tensor(constants[name], name=name)
    return replace(prepared, model=model, program=replace(prepared.program, constants=constants))
