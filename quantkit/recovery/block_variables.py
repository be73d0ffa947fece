"""What may be learned of a block: rounding of weights, biases, steps of activations.

- A weight is rounded up or down, ``w = s_w (floor(w / s_w) + [v >= 1/2])``: the choices of AdaRound
  (Nagel et al. 2020, arXiv:2004.10568). The variable v begins where the given codes say and gets
  the gradient of the rounded weight (straight-through), so that every step is taken on codes.
- A bias moves freely and is rounded in the end.
- A step of activations moves by a factor (its gradient: ``fake_quantization``).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import QuantizedTensor, QuantParams
from quantkit.recovery.block_gradients import Gradients, Operands
from quantkit.recovery.fake_quantization import grid_of
from quantkit.reference.arrays import FloatArray

Float32Array = npt.NDArray[np.float32]
Variables = dict[str, FloatArray]

# How far variables go in all where the gradient always has one sign: v (its interval has length
# 1), a bias in steps of what it is added to, the logarithm of a step. A hundred samples do not
# tell more: on MobileNetV2 0.5, 0.5 and 0.06 left no gain on samples held back, biases that go
# 0.4 gained less than those that go 0.2, rounding that goes 0.3 no more than none at all.
ROUNDING_REACH = 0.05
BIAS_REACH = 1.0
STEP_REACH = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Rounding:
    """The two codes that a weight may have.

    Attributes:
        lower: The smaller one, float32.
        has_choice: Where there are two.
        scale: Broadcasts over the codes.
        start: v to begin with.
    """

    lower: Float32Array
    has_choice: npt.NDArray[np.bool_]
    scale: Float32Array
    start: Float32Array

    def codes(self, v: FloatArray) -> Float32Array:
        """The codes that v chooses."""
        return self.lower + ((v >= 0.5) & self.has_choice)


def rounding_of(weight: Array, codes: QuantizedTensor) -> Rounding:
    """The codes on both sides of every weight, none larger than the largest there is.

    A code that is neither of the two stays.

    Args:
        weight: The real values.
        codes: Their codes so far.
    """
    scale, zero_point = codes.params.aligned(weight.ndim)
    given = codes.data.astype(np.float32)
    largest = np.abs(given).max(initial=0.0)
    exact = np.asarray(weight, np.float32) / scale + zero_point
    lower = np.clip(np.floor(exact), -largest, largest)
    has_choice = ((given == lower) | (given == lower + 1)) & (lower < largest)
    is_up = given > lower
    # Where another step chose the farther code, v begins as far on the other side: at the
    # threshold the first gradient would undo the choice.
    distance = np.abs(exact - lower - np.float32(0.5))
    below = np.nextafter(np.float32(0.5), np.float32(0.0))
    v = np.where(is_up, 0.5 + distance, below - distance)
    lower = np.where(has_choice, lower, given) - zero_point
    return Rounding(
        lower.astype(np.float32), has_choice, np.asarray(scale), np.clip(v, 0, 1).astype(np.float32)
    )


@dataclass(frozen=True, slots=True, eq=False)
class Learnable:
    """A block and what may be learned of it.

    Attributes:
        nodes: Its nodes.
        outputs: Names of its outputs.
        constants: Real values of everything constant.
        params: Parameters of the values it makes, where they are rounded.
        bounds: What clamps leave of these values.
        absorbed: Names of the clamps that are in ``bounds``.
        roundings: By weight name.
        bias_units: By bias name: a step of the sum that it belongs to.
        step_groups: By value name: which step it has; absent: its step stays.
        largest_steps: By the name of the step: what keeps a clamp implied.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, Array]
    params: Mapping[str, QuantParams]
    bounds: Mapping[str, tuple[float, float]]
    absorbed: frozenset[str]
    roundings: Mapping[str, Rounding]
    bias_units: Mapping[str, float]
    step_groups: Mapping[str, str]
    largest_steps: Mapping[str, float]

    def start(self) -> Variables:
        """The variables that change nothing."""
        variables: Variables = {name: r.start.copy() for name, r in self.roundings.items()}
        variables |= {name: np.zeros_like(self.constants[name]) for name in self.bias_units}
        # "" is no name of a value, so the steps' variables cannot meet those of constants.
        variables |= {
            step_key(group): np.zeros(1, np.float32) for group in set(self.step_groups.values())
        }
        return variables

    def rates(self) -> dict[str, float]:
        """How far each variable goes in all."""
        rates = dict.fromkeys(self.roundings, ROUNDING_REACH)
        rates |= dict.fromkeys(self.bias_units, BIAS_REACH)
        return rates | {step_key(group): STEP_REACH for group in self.step_groups.values()}

    def step(self, name: str, variables: Mapping[str, FloatArray]) -> float:
        """The step of a value."""
        before = float(self.params[name].scale)
        group = self.step_groups.get(name)
        if group is None:
            return before
        step = before * math.exp(float(variables[step_key(group)][0]))
        return min(step, self.largest_steps.get(group, math.inf))

    def operands(self, variables: Mapping[str, FloatArray]) -> Operands:
        """What the block computes with."""
        constants = dict(self.constants)
        for name, rounding in self.roundings.items():
            constants[name] = rounding.codes(variables[name]) * rounding.scale
        for name, unit in self.bias_units.items():
            constants[name] = self.constants[name] + variables[name] * unit
        grids = {
            name: grid_of(params, self.step(name, variables), *self.bounds[name])
            for name, params in self.params.items()
        }
        return Operands(constants, grids, self.absorbed)

    def gradients(self, found: Gradients, variables: Mapping[str, FloatArray]) -> Variables:
        """Gradients of the variables."""
        result: Variables = {}
        for name, rounding in self.roundings.items():
            result[name] = found.constants[name] * (rounding.scale * rounding.has_choice)
        for name, unit in self.bias_units.items():
            result[name] = found.constants[name] * np.float32(unit)
        for name, group in self.step_groups.items():
            gradient = found.steps.get(name, 0.0) * self.step(name, variables)
            key = step_key(group)
            result[key] = result.get(key, np.zeros(1, np.float32)) + np.float32(gradient)
        return result


def step_key(group: str) -> str:
    """Name of the variable of a group's step."""
    return f"step of {group}"
