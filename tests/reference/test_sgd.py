from fractions import Fraction

import numpy as np
import pytest

from quantkit.errors import ShapeMismatchError
from quantkit.reference.arrays import FloatArray
from quantkit.reference.sgd import sgd_step


def test_three_steps_equal_exact_fractions() -> None:
    # Powers of two: float64 makes no rounding error, so the oracle holds bit for bit.
    rate, momentum, decay = 0.25, 0.5, 0.125
    parameter, velocity = Fraction(3), Fraction(0)
    parameters: dict[str, FloatArray] = {"w": np.array([3.0])}
    velocities: dict[str, FloatArray] = {}
    for gradient in (1.0, -2.0, 0.5):
        velocity = Fraction(momentum) * velocity + Fraction(gradient) + Fraction(decay) * parameter
        parameter -= Fraction(rate) * velocity
        parameters, velocities = sgd_step(
            parameters,
            {"w": np.array([gradient])},
            velocities,
            learning_rate=rate,
            momentum=momentum,
            weight_decay=decay,
        )
        assert float(parameter) == parameters["w"][0]
        assert float(velocity) == velocities["w"][0]


def test_only_the_decayed_are_pulled_and_what_has_no_gradient_passes() -> None:
    one = np.ones(2, dtype=np.float32)
    given = {"weight": one, "scale": one, "running": one}
    stepped, velocities = sgd_step(
        given,
        {"weight": 0 * one, "scale": 0 * one},
        {},
        learning_rate=1.0,
        weight_decay=0.5,
        is_decayed=lambda name: name == "weight",
    )
    np.testing.assert_array_equal(stepped["weight"], [0.5, 0.5])
    np.testing.assert_array_equal(stepped["scale"], [1, 1])
    assert stepped["running"] is one
    assert set(velocities) == {"weight", "scale"}
    assert {array.dtype for array in stepped.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(given["weight"], [1, 1])


def test_what_does_not_fit_is_refused() -> None:
    one = np.ones(2)
    with pytest.raises(ShapeMismatchError, match="gradient 'b' belongs to no parameter"):
        sgd_step({"a": one}, {"b": one}, {}, learning_rate=1)
    with pytest.raises(
        ShapeMismatchError, match=r"gradient 'a' must have shape \(2,\), got \(3,\)"
    ):
        sgd_step({"a": one}, {"a": np.ones(3)}, {}, learning_rate=1)
    with pytest.raises(
        ShapeMismatchError, match=r"velocity 'a' must have shape \(2,\), got \(3,\)"
    ):
        sgd_step({"a": one}, {"a": one}, {"a": np.ones(3)}, learning_rate=1)
