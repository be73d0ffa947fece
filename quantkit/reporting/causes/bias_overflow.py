"""Biases at the end of int32, and weights that lost their codes to keep them inside.

A bias has the step ``s_x s_w``. Where that is too small for it, other tools clip the bias, and
quantkit raises ``s_w``, so that the bias fits into 31 bits and the weights are left a few codes.
"""

from collections.abc import Iterator

import numpy as np

from quantkit.ops.contract import OPS
from quantkit.quantized_model.model import weight_and_bias
from quantkit.reporting.causes.findings import Findings
from quantkit.reporting.causes.noise import harmful_layers, noise_percents, so_far
from quantkit.reporting.causes.remedies import keep_float, per_channel
from quantkit.reporting.report import Cause

_END = 2**31 - 2
# quantkit raises the scale until the bias fits into this.
_RAISED = 0.99 * 2**30
# Of 127: what is left of the weights' codes has lost two bits.
_FEW_STEPS = 31


def bias_overflow(findings: Findings) -> Iterator[Cause]:
    """Layers with a bias at its limit."""
    percents, nodes = noise_percents(findings), findings.nodes()
    for layer in harmful_layers(findings):
        node = nodes[layer.node]
        weight_name, bias_name = weight_and_bias(node) if node.op_type in OPS else ("", "")
        constants = findings.model.constants
        if weight_name not in constants or bias_name not in constants:
            continue
        weight, bias = constants[weight_name], constants[bias_name].data
        largest = np.abs(bias.astype(np.float64)).max(initial=0.0)
        steps = int(np.abs(weight.data.astype(np.int64)).max(initial=0))
        is_shared = not weight.params.is_per_channel
        is_raised = is_shared and largest >= _RAISED and steps <= _FEW_STEPS
        if largest < _END and not is_raised:
            continue
        can = OPS[node.op_type].has_channel_scales(node, weight.data.ndim)
        yield Cause(
            node=layer.node,
            cause="bias overflow",
            evidence=f"its largest bias is {largest:.3g} steps, int32 ends at {2**31:.3g}; its "
            f"weights use {steps} of 127 steps; {so_far(layer)}",
            remedy=per_channel() if is_shared and can else keep_float(findings, layer.node),
            noise_percent=percents.get(layer.node),
        )
