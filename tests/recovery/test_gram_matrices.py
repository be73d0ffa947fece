import math
from dataclasses import dataclass, replace

import numpy as np
import pytest

from quantkit.calibration.dataset import Dataset, open_dataset
from quantkit.config import QuantConfig
from quantkit.errors import UnreadableSampleError
from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import per_tensor
from quantkit.quantized_model.model import QuantizedModel
from quantkit.recovery.gram_matrices import (
    InputMoments,
    _columns,
    _positions,
    gram_bytes,
    input_moments,
    weight_matrices,
)
from tests.small_networks import (
    NETWORKS,
    Network,
    float_model,
    onnxruntime_outputs,
    quantized,
)

# (input, weight, attributes): fewer windows than are ever left out.
CONVOLUTIONS = {
    "standard": ((3, 7, 6), (4, 3, 3, 3), "<pads = [1,1,1,1]>"),
    "pointwise": ((5, 6, 6), (4, 5, 1, 1), ""),
    "strided": ((3, 9, 8), (4, 3, 3, 2), "<pads = [0,1,2,0], strides = [2,3]>"),
    "dilated": ((3, 9, 9), (4, 3, 3, 3), "<pads = [2,2,2,2], dilations = [2,2]>"),
    "grouped": ((6, 6, 6), (4, 3, 3, 3), "<pads = [0,1,2,0], group = 2>"),
    "depthwise": ((4, 6, 7), (4, 1, 3, 3), "<pads = [1,1,1,1], group = 4>"),
    "two_per_channel": ((3, 6, 7), (6, 1, 3, 3), "<group = 3>"),
    "same_upper": ((2, 7, 7), (3, 2, 4, 4), '<auto_pad = "SAME_UPPER", strides = [2,2]>'),
    "same_lower": ((2, 7, 7), (3, 2, 4, 4), '<auto_pad = "SAME_LOWER", strides = [2,2]>'),
    "apart": ((2, 12, 11), (3, 2, 1, 2), '<auto_pad = "SAME_UPPER", strides = [5,6]>'),
    "one_axis": ((4, 12), (6, 2, 3), "<pads = [2,0], strides = [2], group = 2>"),
    "three_axes": ((2, 4, 5, 3), (3, 2, 2, 3, 1), "<pads = [1,0,0,0,1,0], strides = [1,2,1]>"),
}


def sizes(shape: tuple[int, ...]) -> str:
    return ",".join(map(str, shape))


def convolution(kind: str) -> Network:
    shape, weight, attributes = CONVOLUTIONS[kind]
    outputs = ",".join("CHWD"[: len(shape)])
    return Network(
        f"""(float[N,{sizes(shape)}] x, float[{sizes(weight)}] w, float[{weight[0]}] b)
          => (float[N,{outputs}] y) {{ [layer] y = Conv{attributes}(x, w, b) }}""",
        shape,
    )


def moments_of(
    network: Network, x: Array, config: QuantConfig | None = None, threads: int = 1
) -> tuple[InputMoments, QuantizedModel]:
    model, _ = quantized(network, config)
    assert not model.plan.kept_float
    dataset = samples(model, x)
    return input_moments(model, model.prepared.program.nodes, dataset, threads=threads)[
        "layer"
    ], model


def samples(model: QuantizedModel, x: Array) -> Dataset:
    return open_dataset(x, model.prepared.program.inputs, preprocessing=None)


def seen(model: QuantizedModel, x: Array) -> Array:
    """What the integer layer sees of ``x``, in real units, rounded in plain NumPy."""
    params = model.plan.params["x"]
    codes = np.rint(x / params.scale) + params.zero_point
    real: Array = (np.clip(codes, params.qmin, params.qmax) - params.zero_point) * params.scale
    return real.astype(np.float32)


def check_moments(moments: InputMoments, inputs: Array) -> None:
    """``inputs``: (group, K, count)."""
    inputs = inputs.astype(np.float64)
    count = inputs.shape[2]
    mean = inputs.mean(axis=2)
    expected = inputs @ inputs.swapaxes(1, 2) / count - mean[:, :, None] * mean[:, None]
    assert moments.count == count
    np.testing.assert_allclose(moments.mean, mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(moments.covariance, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation_type", ["uint8", "int8"])
@pytest.mark.parametrize("kind", sorted(CONVOLUTIONS))
def test_a_convolution_with_unit_vectors_gives_its_own_windows(
    kind: str, activation_type: str
) -> None:
    """onnxruntime lays the windows: output k of a group is what input k of it is everywhere."""
    network = convolution(kind)
    shape, weight, attributes = CONVOLUTIONS[kind]
    x = network.feeds(11, seed=5)["x"] + np.float32(0.3)
    config = QuantConfig.model_validate({"activation_type": activation_type})
    moments, model = moments_of(network, x, config)
    group = len(moments.mean)
    inner = math.prod(weight[1:])
    units = np.tile(np.eye(inner).reshape(inner, *weight[1:]), (group, *[1] * (len(weight) - 1)))
    probe = float_model(
        f"""(float[N,{sizes(shape)}] x, float[{sizes(units.shape)}] w)
          => (float[N,{",".join("CHWD"[: len(shape)])}] y) {{ y = Conv{attributes}(x, w) }}""",
        constants={"w": units},
    )
    windows = onnxruntime_outputs(probe, {"x": seen(model, x)})["y"]
    by_input = np.moveaxis(windows, 0, 1).reshape(group, inner, -1)
    check_moments(moments, by_input)


def test_windows_by_plain_loops() -> None:
    network = convolution("strided")
    x = network.feeds(3, seed=5)["x"]
    moments, model = moments_of(network, x)
    padded = np.pad(seen(model, x), ((0, 0), (0, 0), (0, 2), (1, 0)))
    columns = [
        [padded[n, c, i * 2 + ki, j * 3 + kj] for n in range(3) for i in range(5) for j in range(3)]
        for c in range(3)
        for ki in range(3)
        for kj in range(2)
    ]
    check_moments(moments, np.asarray(columns)[np.newaxis])


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_gemm(transposed: int) -> None:
    shape = "5,6" if transposed else "6,5"
    network = Network(
        f"""(float[N,6] x, float[{shape}] w, float[5] b) => (float[N,5] y) {{
          [layer] y = Gemm<transB = {transposed}>(x, w, b) }}""",
        (6,),
    )
    x = network.feeds(20, seed=5)["x"]
    moments, model = moments_of(network, x)
    check_moments(moments, seen(model, x).T[np.newaxis])


def test_a_gemm_of_a_transposed_input() -> None:
    node = Node("n", "Gemm", "", 17, ("x", "w"), ("y",), {"transA": 1})
    x_q = np.arange(12, dtype=np.uint8).reshape(3, 4)
    columns = _columns(node, x_q, np.zeros((3, 2)), per_tensor(1.0, 0, np.uint8), seed=0)
    np.testing.assert_array_equal(columns, x_q[np.newaxis])


def test_a_matmul_of_three_axes() -> None:
    network = Network(
        "(float[N,4,6] x, float[6,5] w) => (float[N,4,5] y) { [layer] y = MatMul(x, w) }", (4, 6)
    )
    x = network.feeds(9, seed=5)["x"]
    moments, model = moments_of(network, x)
    check_moments(moments, seen(model, x).reshape(-1, 6).T[np.newaxis])


def test_codes_of_16_bits() -> None:
    network = convolution("grouped")
    x = network.feeds(9, seed=5)["x"]
    config = QuantConfig(tensors_in_16_bits=("x",))
    moments, model = moments_of(network, x, config)
    assert model.plan.params["x"].dtype == np.uint16
    eight, _ = moments_of(network, x)
    np.testing.assert_allclose(moments.covariance, eight.covariance, atol=2e-3)


def test_matrices_multiply_as_the_layer_does() -> None:
    rng = np.random.default_rng(0)
    for node, shape, weight in (
        (Node("n", "Gemm", "", 17, ("x", "w"), ("y",), {"transB": 1}), (4, 6), (5, 6)),
        (Node("n", "Gemm", "", 17, ("x", "w"), ("y",), {}), (4, 6), (6, 5)),
        (Node("n", "MatMul", "", 17, ("x", "w"), ("y",), {}), (4, 6), (6, 5)),
        (Node("n", "Conv", "", 17, ("x", "w"), ("y",), {"group": 2}), (4, 6, 1), (8, 3, 1)),
    ):
        x, w = rng.normal(0, 1, shape), rng.normal(0, 1, weight)
        matrices = weight_matrices(node, w)
        assert matrices is not None
        assert np.shares_memory(matrices, w)
        groups = x.reshape(len(x), len(matrices), -1).swapaxes(0, 1)
        y = (groups @ matrices).swapaxes(0, 1).reshape(len(x), -1)
        if node.op_type == "Conv":
            halves = [x[:, :3, 0] @ w[:4, :, 0].T, x[:, 3:, 0] @ w[4:, :, 0].T]
            np.testing.assert_allclose(y, np.concatenate(halves, axis=1))
        else:
            np.testing.assert_allclose(y, x @ (w.T if node.integer("transB", 0) else w))
        assert gram_bytes(node, w) == 8 * matrices.shape[0] * matrices.shape[1] ** 2


def test_other_layers_have_no_matrices() -> None:
    node = Node("n", "ConvTranspose", "", 17, ("x", "w"), ("y",), {})
    assert weight_matrices(node, np.zeros((3, 4, 2, 2))) is None
    assert gram_bytes(node, np.zeros((3, 4, 2, 2))) == 0
    stack = Node("n", "MatMul", "", 17, ("x", "w"), ("y",), {})
    assert weight_matrices(stack, np.zeros((2, 4, 3))) is None


def test_the_bits_do_not_depend_on_threads() -> None:
    network = NETWORKS["mobile"]
    model, _ = quantized(network)
    dataset = samples(model, network.feeds(40, seed=5)["x"])
    nodes = [n for n in model.prepared.program.nodes if n.op_type in ("Conv", "Gemm")]
    told: list[tuple[int, int]] = []
    first, *others = (
        input_moments(model, nodes, dataset, threads=threads, progress=lambda *at: told.append(at))
        for threads in (1, 2, 1, 3)
    )
    assert set(first) == {node.name for node in nodes}
    assert told[:5] == [(8, 40), (16, 40), (24, 40), (32, 40), (40, 40)]
    for other in others:
        for name, moments in first.items():
            np.testing.assert_array_equal(other[name].covariance, moments.covariance)
            np.testing.assert_array_equal(other[name].mean, moments.mean)


def test_many_windows_are_drawn_and_the_draw_repeats() -> None:
    few, many = _positions(10_000, 9, 3), _positions(10_000, 500, 3)
    assert (len(few), len(many), len(_positions(200, 500, 3))) == (64, 256, 200)
    assert len(np.unique(many)) == 256
    np.testing.assert_array_equal(many, _positions(10_000, 500, 3))
    assert not np.array_equal(many, _positions(10_000, 500, 4))


def test_rows_that_fill_a_fixed_batch_do_not_count() -> None:
    network = Network(
        """(float[4,3,6,6] x, float[2,3,1,1] w) => (float[4,2,6,6] y) { [layer] y = Conv(x, w) }""",
        (3, 6, 6),
    )
    model, _ = quantized(replace(network, text=network.text.replace("[4,", "[N,")))
    fixed = replace(
        model.prepared.program,
        inputs=tuple(replace(spec, shape=(4, 3, 6, 6)) for spec in model.prepared.program.inputs),
    )
    model = replace(model, prepared=replace(model.prepared, program=fixed))
    x = network.feeds(6, seed=5)["x"]
    dataset = samples(model, x)
    moments = input_moments(model, fixed.nodes, dataset)["layer"]
    check_moments(moments, np.moveaxis(seen(model, x), 1, 0).reshape(1, 3, -1))


@dataclass(frozen=True)
class _Damaged:
    names: tuple[str, ...]
    stamp: str = ""
    splittable: bool = False

    def read(self, index: int) -> dict[str, Array]:
        raise UnreadableSampleError(f"{self.names[index]!r} is damaged")


def test_no_readable_sample() -> None:
    network = convolution("pointwise")
    model, _ = quantized(network)
    dataset = samples(model, network.feeds(2)["x"])
    damaged = replace(dataset, source=_Damaged(dataset.sample_names))
    with pytest.raises(UnreadableSampleError, match=r"none of the 2 samples can be read.*damaged"):
        input_moments(model, model.prepared.program.nodes, damaged)
