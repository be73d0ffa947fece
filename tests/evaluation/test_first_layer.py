"""What the first layer says of its data, against NumPy's convolution and the closed form."""

import numpy as np
import pytest

from quantkit.evaluation.first_layer import first_layer
from quantkit.passes.prepare import prepare
from tests.models import network, normal

BN = "n = BatchNormalization (c, gamma, beta, mean, variance)  y = Relu (n)"


def test_misfit_is_the_divergence_of_two_normal_distributions() -> None:
    weights = {
        "w": np.array([[[[2.0]]]], np.float32),
        "gamma": np.array([3], np.float32),
        "beta": np.array([0.5], np.float32),
        "mean": np.zeros(1, np.float32),
        "variance": np.ones(1, np.float32),
    }
    body = f"c = Conv (x, w)  {BN}"
    layer = first_layer(prepare(network(body, weights, inputs="float[N,1,8,8] x")), "x")
    assert layer is not None
    mean, variance = 0.75, 4.0
    # Behind the BatchNormalization: mean 3 * (2 * mean) + 0.5, variance (3 * 2)^2 * variance.
    ratio, z = 4 * variance, 2 * mean
    expected = (ratio + z**2 - 1 - np.log(ratio)) / 2
    assert layer.misfit(np.array([mean]), variance) == pytest.approx(expected, rel=1e-4)


def test_spread_bounds_what_the_layer_makes_of_data() -> None:
    weights = {
        "w": normal(16, 1, 3, 3),
        "gamma": np.full(16, 2, np.float32),
        **{name: np.zeros(16, np.float32) for name in ("beta", "mean")},
        "variance": np.ones(16, np.float32),
    }
    body = f"c = Conv (x, w)  {BN}"
    layer = first_layer(prepare(network(body, weights, inputs="float[N,1,8,8] x")), "x")
    assert layer is not None
    flat = 2 * weights["w"].astype(np.float64).reshape(16, 9)
    low, high = layer.spread(variance=9.0)
    # Independent values, and those that follow the signs of the weights.
    assert low <= 3 * np.median(np.linalg.norm(flat, axis=1)) / 2 * (1 + 1e-4)
    assert high == pytest.approx(3 * np.median(np.abs(flat).sum(axis=1)) / 2, rel=1e-4)


@pytest.mark.parametrize(
    ("body", "inputs", "shape", "mean_axes"),
    [
        ("c = Conv <pads = [0, 0, 0, 0]> (x, w)", "float[N,4,3,3] x", (4, 3, 3), (1, 2)),
        ("c = Conv <group = 2> (x, grouped)", "float[N,4,3,3] x", (4, 3, 3), (1, 2)),
        (
            "t = Transpose <perm = [0, 3, 1, 2]> (x)  c = Conv (t, w)",
            "float[N,3,3,4] x",
            (3, 3, 4),
            (0, 1),
        ),
        ("c = Gemm <transB = 1> (x, rows, b)", "float[N,4] x", (4,), ()),
        ("c = Gemm (x, columns, b)", "float[N,4] x", (4,), ()),
    ],
)
def test_z_is_what_the_network_computes_for_constant_channels(
    body: str, inputs: str, shape: tuple[int, ...], mean_axes: tuple[int, ...]
) -> None:
    kernels = {
        "w": normal(6, 4, 3, 3),
        "grouped": normal(6, 2, 3, 3),
        "rows": normal(6, 4),
        "columns": normal(4, 6),
        "b": normal(6),
    }
    used = {name: array for name, array in kernels.items() if f" {name})" in body.replace(",", ")")}
    statistics = {
        "gamma": np.array([1, -2, 3, 0.5, 1, 1], np.float32),
        "beta": normal(6, seed=3),
        "mean": normal(6, seed=4),
        "variance": np.full(6, 2.0, np.float32),
    }
    is_picture = len(shape) == 3
    model = network(
        f"{body}  {BN}",
        used | statistics,
        inputs=inputs,
        outputs="float[N,C,H,W] y" if is_picture else "float[N,C] y",
    )
    mean = normal(4, seed=5).astype(np.float64)
    x = mean.reshape([1, 4, 1, 1] if is_picture else [1, 4]) * np.ones(
        (1, 4, 3, 3) if is_picture else (1, 4)
    )
    layer = first_layer(prepare(model), "x")
    assert layer is not None
    if "grouped" in used:
        halves = [kernels["grouped"][:3], kernels["grouped"][3:]]
        raw = np.concatenate(
            [np.einsum("ncij,ocij->no", x[:, 2 * g : 2 * g + 2], halves[g]) for g in (0, 1)], axis=1
        )[0]
    elif is_picture:
        raw = np.einsum("ncij,ocij->no", x, kernels["w"])[0]
    else:
        rows = kernels["rows"] if "rows" in used else kernels["columns"].T
        raw = x[0] @ rows.T + kernels["b"]
    z = (raw - statistics["mean"]) / np.sqrt(2.0 + 1e-5) * np.sign(statistics["gamma"])
    np.testing.assert_allclose(layer.z(mean), z, rtol=1e-5, atol=1e-5)
    assert layer.node.op_type in body


def test_switched_off_channels_say_nothing() -> None:
    weight = normal(3, 3, 1, 1)
    weight[1] = 0
    weights = {
        "w": weight,
        "gamma": np.array([1, 1, 0], np.float32),
        **{name: np.zeros(3, np.float32) for name in ("beta", "mean")},
        "variance": np.array([1, 1e-9, 1], np.float32),
    }
    layer = first_layer(prepare(network(f"c = Conv (x, w)  {BN}", weights)), "x")
    assert layer is not None
    assert layer.weight.shape == (1, 3, 1, 1)
