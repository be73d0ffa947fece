"""The fully connected layer: ``y = x @ weight.T + bias``, an ONNX Gemm with ``transB = 1``."""

from quantkit.errors import ShapeMismatchError
from quantkit.reference.arrays import FloatArray, require_shape


def linear(x: FloatArray, weight: FloatArray, bias: FloatArray | None = None) -> FloatArray:
    """Multiply by a weight matrix and add a bias.

    Args:
        x: (..., K).
        weight: (O, K).
        bias: (O,), or None.

    Returns:
        (..., O), of ``x``'s dtype.

    Raises:
        ShapeMismatchError: The shapes do not fit each other.
    """
    _require_fit(x, weight)
    y: FloatArray = x @ weight.T
    if bias is not None:
        require_shape("bias", bias, (len(weight),))
        y += bias
    return y


def linear_backward(
    grad_y: FloatArray, x: FloatArray, weight: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Gradients of :func:`linear`.

    Args:
        grad_y: Gradient of the output, (..., O).
        x: The input of the forward call, (..., K).
        weight: (O, K).

    Returns:
        ``(grad_x, grad_weight, grad_bias)``, shaped and typed like x, weight and bias.

    Raises:
        ShapeMismatchError: The shapes do not fit each other.
    """
    _require_fit(x, weight)
    require_shape("grad_y", grad_y, (*x.shape[:-1], len(weight)))
    rows_y, rows_x = grad_y.reshape(-1, len(weight)), x.reshape(-1, x.shape[-1])
    return grad_y @ weight, rows_y.T @ rows_x, rows_y.sum(axis=0)


def _require_fit(x: FloatArray, weight: FloatArray) -> None:
    if x.ndim < 1 or weight.ndim != 2 or x.shape[-1] != weight.shape[1]:
        raise ShapeMismatchError(
            f"weight must have shape (O, K) with K the last size of x, "
            f"got weight {weight.shape} and x {x.shape}"
        )
