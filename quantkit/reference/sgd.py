"""Stochastic gradient descent with momentum and weight decay.

``velocity = momentum * velocity + gradient + weight_decay * parameter``
``parameter = parameter - learning_rate * velocity``

Source: ONNX ai.onnx.preview.training Momentum-1 with ``mode = standard`` and beta = 1; PyTorch's
``torch.optim.SGD`` without dampening.
"""

from collections.abc import Callable, Mapping

import numpy as np

from quantkit.errors import ShapeMismatchError
from quantkit.reference.arrays import FloatArray, require_shape


def sgd_step(
    parameters: Mapping[str, FloatArray],
    gradients: Mapping[str, FloatArray],
    velocities: Mapping[str, FloatArray],
    *,
    learning_rate: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    is_decayed: Callable[[str], bool] = lambda _: True,
) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Take one step.

    Args:
        parameters: Arrays by name; one without a gradient is passed on as it is.
        gradients: Gradients by name, each shaped like its parameter.
        velocities: As the previous step returned them; empty before the first.
        learning_rate: Size of the step.
        momentum: Share of the velocity that is kept.
        weight_decay: Pull towards 0, added to the gradient.
        is_decayed: Says by name which parameters are pulled; default all.

    Returns:
        The new parameters and the new velocities; the arrays given are not changed.

    Raises:
        ShapeMismatchError: A gradient or velocity is not shaped like its parameter, or a gradient
            belongs to no parameter.
    """
    stepped = dict(parameters)
    new_velocities = {}
    for name, gradient in gradients.items():
        if name not in parameters:
            raise ShapeMismatchError(f"gradient {name!r} belongs to no parameter")
        parameter = parameters[name]
        require_shape(f"gradient {name!r}", gradient, parameter.shape)
        velocity = velocities.get(name, np.zeros_like(parameter))
        require_shape(f"velocity {name!r}", velocity, parameter.shape)
        decay = weight_decay if is_decayed(name) else 0.0
        velocity = momentum * velocity + gradient + decay * parameter
        new_velocities[name] = velocity
        stepped[name] = parameter - learning_rate * velocity
    return stepped, new_velocities
