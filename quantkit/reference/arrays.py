"""The array type and the shape checks of the float reference."""

import numpy as np
import numpy.typing as npt

from quantkit.errors import ShapeMismatchError

FloatArray = npt.NDArray[np.floating]
"""float32 or float64; every function returns the dtype it was given."""


def require_shape(name: str, array: npt.NDArray[np.generic], expected: tuple[int, ...]) -> None:
    """Check that an array has exactly the expected shape.

    Args:
        name: The argument's name, for the message.
        array: The array, any dtype.
        expected: The shape it must have.

    Raises:
        ShapeMismatchError: It has another shape.
    """
    if array.shape != expected:
        raise ShapeMismatchError(f"{name} must have shape {expected}, got {array.shape}")


def require_spatial(name: str, array: FloatArray) -> None:
    """Check that an array is laid out as (N, C, *spatial).

    Args:
        name: The argument's name, for the message.
        array: The array.

    Raises:
        ShapeMismatchError: It has fewer than three axes.
    """
    if array.ndim < 3:
        raise ShapeMismatchError(
            f"{name} must have shape (N, C, spatial...) with at least 3 axes, got {array.shape}"
        )


def per_channel(vector: FloatArray, like: FloatArray) -> FloatArray:
    """View a (C,) vector so that it broadcasts over ``like``, which is (N, C, ...).

    Args:
        vector: One number per channel, (C,).
        like: The array it will be combined with.

    Returns:
        The same numbers, (C, 1, 1, ...).
    """
    return vector.reshape(-1, *(1,) * (like.ndim - 2))
