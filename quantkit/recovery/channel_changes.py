"""What equalization and absorption did to the channels of a value, and how a model file tells it.

A value of the rewritten network is ``factor * x - shift``, with x the float model's. Whoever
compares them layer by layer must know. Factors are powers of 2^(1/8) and shifts have 6 digits, so
a few characters a channel tell all.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantkit.errors import ModelError
from quantkit.graph.program import Array

Float64Array = npt.NDArray[np.float64]

METADATA_KEY = "channel_changes"
_STEPS_PER_OCTAVE = 8
# What a sound file stays far below: products with float32 values are finite.
_MOST_OCTAVES, _LARGEST_SHIFT = 64.0, 1e30


@dataclass(frozen=True, slots=True, eq=False)
class ChannelChange:
    """One value's channels, axis 1.

    Attributes:
        factors: float64, (C,), or () for all alike; > 0.
        shifts: float64, (C,), or () for all alike.
    """

    factors: Float64Array
    shifts: Float64Array

    def applied(self, x: Array) -> Array:
        """The float model's value as the rewritten network has it, float32.

        Args:
            x: (N, C, ...), or (N, k C) where channels were flattened in blocks.

        Raises:
            ModelError: It has another number of channels.
        """
        factors, shifts = (_aligned(array, x.shape) for array in (self.factors, self.shifts))
        return np.asarray(x * factors - shifts, np.float32)

    def undone(self, y: Array) -> Array:
        """The rewritten network's value as the float model has it: the inverse of ``applied``."""
        factors, shifts = (_aligned(array, y.shape) for array in (self.factors, self.shifts))
        return np.asarray((y + shifts) / factors, np.float32)


UNCHANGED = ChannelChange(np.ones(()), np.zeros(()))


def on_grid(factors: Float64Array) -> Float64Array:
    """The nearest powers of 2^(1/8)."""
    return np.asarray(np.exp2(np.rint(np.log2(factors) * _STEPS_PER_OCTAVE) / _STEPS_PER_OCTAVE))


def at_most_on_grid(factors: Float64Array) -> Float64Array:
    """The largest powers of 2^(1/8) that are no larger."""
    return np.asarray(np.exp2(np.floor(np.log2(factors) * _STEPS_PER_OCTAVE) / _STEPS_PER_OCTAVE))


def six_digits(shifts: Float64Array) -> Float64Array:
    """The same numbers with six significant digits."""
    return np.asarray([float(f"{shift:.6g}") for shift in shifts])


def to_text(changes: Mapping[str, ChannelChange]) -> str:
    """JSON: by value name, the factors' logarithms in eighths of an octave, and the shifts."""
    return json.dumps(
        {
            name: [
                np.rint(np.log2(change.factors) * _STEPS_PER_OCTAVE).astype(int).tolist(),
                [float(f"{shift:.6g}") for shift in change.shifts] if change.shifts.any() else 0,
            ]
            for name, change in changes.items()
        },
        separators=(",", ":"),
    )


def from_text(text: str) -> dict[str, ChannelChange]:
    """The inverse of :func:`to_text`.

    Raises:
        ModelError: The text is damaged.
    """
    try:
        return {
            name: ChannelChange(
                np.exp2(_vector(steps, _MOST_OCTAVES * _STEPS_PER_OCTAVE) / _STEPS_PER_OCTAVE),
                _vector(shifts, _LARGEST_SHIFT),
            )
            for name, (steps, shifts) in json.loads(text).items()
        }
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ModelError(
            f"what the model's metadata say of rescaled channels cannot be read ({error})"
        ) from error


def _vector(numbers: npt.ArrayLike, largest: float) -> Float64Array:
    array = np.asarray(numbers, np.float64)
    if array.ndim > 1 or array.size == 0 or not (np.abs(array) <= largest).all():
        raise ValueError(f"numbers of at most {largest:g} expected, one per channel")
    return array


def _aligned(array: Float64Array, shape: tuple[int, ...]) -> Float64Array:
    if array.ndim == 0:
        return array
    if len(shape) < 2 or shape[1] % array.size:
        raise ModelError(
            f"the model's metadata tell of {array.size} rescaled channels of a value of shape "
            f"{'x'.join(map(str, shape))}: they are of another network"
        )
    repeated = np.repeat(array, shape[1] // array.size)
    return repeated.reshape(1, -1, *[1] * (len(shape) - 2))
