"""Identity and Dropout in every position."""

import numpy as np
import pytest

from tests.models import network
from tests.passes.checks import assert_prepared, op_types, refusal

TWO = "float[N,3,8,8] y, float[N,3,8,8] z"


@pytest.mark.parametrize(
    ("body", "outputs", "expected"),
    [
        ("a = Relu (x)\ny = Identity (a)", "float[N,3,8,8] y", ["Relu"]),
        ("a = Identity (x)\ny = Relu (a)", "float[N,3,8,8] y", ["Relu"]),
        ("a = Identity (x)\nb = Identity (a)\ny = Relu (b)", "float[N,3,8,8] y", ["Relu"]),
        ("a = Relu (x)\nb = Identity (a)\ny = Identity (b)", "float[N,3,8,8] y", ["Relu"]),
        ("y = Identity (x)", "float[N,3,8,8] y", ["Identity"]),
        ("a = Identity (x)\ny = Identity (a)", "float[N,3,8,8] y", ["Identity"]),
        ("a = Relu (x)\ny = Identity (a)\nz = Identity (a)", TWO, ["Relu", "Identity"]),
        ("a = Relu (x)\ny = Identity (a)\nz = Neg (a)", TWO, ["Relu", "Neg"]),
        ("y = Relu (x)\nz = Identity (y)", TWO, ["Relu", "Identity"]),
        ("z = Relu (x)\na = Identity (z)\ny = Neg (a)", TWO, ["Relu", "Neg"]),
    ],
)
def test_identity(body: str, outputs: str, expected: list[str]) -> None:
    assert op_types(assert_prepared(network(body, {}, outputs=outputs))) == expected


@pytest.mark.parametrize("opset", [7, 10])
def test_dropout_with_a_ratio_attribute(opset: int) -> None:
    model = network("a = Relu (x)\ny = Dropout <ratio = 0.5> (a)", {}, opset=opset)
    assert op_types(assert_prepared(model)) == ["Relu"]


@pytest.mark.parametrize("inputs", ["(a)", "(a, ratio)", "(a, ratio, no)", "(a, , no)"])
@pytest.mark.parametrize("outputs", ["y", "y, mask"])
def test_inference_dropout(inputs: str, outputs: str) -> None:
    weights = {"ratio": np.array(0.3, np.float32), "no": np.array(False)}
    model = network(f"a = Relu (x)\n{outputs} = Dropout {inputs}", weights)
    assert op_types(assert_prepared(model)) == ["Relu"]


def test_dropout_whose_mask_is_used() -> None:
    model = network(
        "a = Relu (x)\ny, mask = Dropout (a)\nz = Cast <to = 1> (mask)", {}, outputs=TWO
    )
    assert refusal(assert_prepared(model), "remove_identity") == "its mask is used"


def test_dropout_in_training() -> None:
    """A ratio of 0 drops nothing, so the function can still be compared."""
    weights = {"ratio": np.array(0, np.float32), "yes": np.array(True)}
    model = network("a = Relu (x)\ny = Dropout (a, ratio, yes)", weights)
    reason = refusal(assert_prepared(model), "remove_identity")
    assert reason == "is in training mode, or may be"


def test_dropout_whose_mode_a_caller_may_feed() -> None:
    weights = {"ratio": np.array(0, np.float32), "mode": np.array(False)}
    model = network("a = Relu (x)\ny = Dropout (a, ratio, mode)", weights)
    model.graph.inputs.append(model.graph.initializers["mode"])
    reason = refusal(assert_prepared(model), "remove_identity")
    assert reason == "is in training mode, or may be"


def test_the_declared_output_shape_survives() -> None:
    """What came before the Identity may have no known shape, as in ppocr_cls of the zoo."""
    model = network(
        "a = Reshape (x, s)\ny = Identity (a)",
        {},
        inputs="float[N,3,8,8] x, int64[K] s",
        outputs="float[N,192] y",
    )
    feeds = {"x": np.ones((2, 3, 8, 8), np.float32), "s": np.array([0, -1])}
    prepared = assert_prepared(model, feeds=feeds)
    assert prepared.program.outputs[0].shape == ("N", 192)


def test_an_initializer_that_is_an_output() -> None:
    model = network(
        "z = Identity (c)\ny = Relu (x)",
        {"c": np.ones(3, np.float32)},
        outputs="float[N,3,8,8] y, float[3] z",
    )
    assert "constant" in refusal(assert_prepared(model), "remove_identity")
