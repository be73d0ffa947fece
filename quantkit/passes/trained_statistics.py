"""What training left in the graph: mean and standard deviation of normalized tensors.

A BatchNormalization subtracts the running mean of its input and divides by its running standard
deviation, so over the training data its output has, per channel, the mean ``beta`` and the standard
deviation ``|gamma|`` (Nagel et al. 2019, section 4.2.1, use it the same way). Folding forgets both;
this is read before.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir


@dataclass(frozen=True, slots=True, eq=False)
class TrainedStatistics:
    """Of one tensor over the training data.

    Attributes:
        mean: float64, (C,), per channel (axis 1).
        std: Standard deviation, likewise.
    """

    mean: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]


def trained_statistics(model: ir.Model) -> Mapping[str, TrainedStatistics]:
    """The outputs of every BatchNormalization with constant scale and bias, by name."""
    found: dict[str, TrainedStatistics] = {}
    for node in model.graph:
        if node.op_type != "BatchNormalization" or node.domain != "":
            continue
        beta, gamma = _constant(node.inputs[2]), _constant(node.inputs[1])
        name = node.outputs[0].name
        if beta is not None and gamma is not None and name:
            found[name] = TrainedStatistics(beta, np.abs(gamma))
    return found


def _constant(value: ir.Value | None) -> npt.NDArray[np.float64] | None:
    """An initializer's or a Constant node's array; None for what a caller may feed or computes."""
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else np.asarray(tensor.numpy(), np.float64)
