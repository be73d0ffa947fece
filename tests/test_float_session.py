from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from quantkit.errors import ShapeMismatchError, UnsupportedOpError
from quantkit.float_session import FloatSession, open_float_session
from quantkit.graph.model_io import load_model, program_of
from quantkit.graph.program import Array, Program
from quantkit.passes.prepare import prepare
from tests.quantized_model.random_networks import random_network
from tests.small_networks import NETWORKS, Network, onnxruntime_outputs

ZOO = ("ad_autoencoder", "kws_dscnn", "mobilenet_v1_025", "mobilenet_v2", "resnet8_cifar10",
       "vww_mobilenet_v1", "hand_landmark", "ppocr_cls")  # fmt: skip


def check(program: Program, source: ir.Model, feeds: dict[str, Array], *, rtol: float) -> None:
    """Within ``rtol`` of the largest value of each output."""
    expected = onnxruntime_outputs(source, feeds)
    actual = open_float_session(program).run(feeds)
    assert set(actual) == set(expected)
    for name, array in expected.items():
        assert actual[name].shape == array.shape
        assert np.abs(actual[name] - array).max() <= rtol * np.abs(array).max(), name


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_small_networks(name: str) -> None:
    network = NETWORKS[name]
    source, feeds = network.model(), network.feeds(3)
    check(prepare(source).program, source, feeds, rtol=2e-6)


@pytest.mark.parametrize("seed", range(30))
def test_random_networks(seed: int) -> None:
    network = random_network(seed)
    source = network.model(seed)
    check(prepare(source).program, source, network.feeds(2), rtol=1e-5)


@pytest.mark.parametrize("name", ZOO)
def test_real_networks(zoo: Path, name: str) -> None:
    source = load_model(zoo / "models" / f"{name}.onnx")
    rng = np.random.default_rng(0)
    feeds: dict[str, Array] = {}
    for spec in program_of(source).inputs:
        batch, *rest = spec.shape or ()
        sizes = [size if isinstance(size, int) else 64 for size in rest]
        shape = (batch if isinstance(batch, int) else 1, *sizes)
        feeds[spec.name] = rng.normal(0.0, 1.0, shape).astype(np.float32)
    check(prepare(source).program, source, feeds, rtol=5e-5)
    check(program_of(source), source, feeds, rtol=5e-5)


def session() -> FloatSession:
    return open_float_session(prepare(NETWORKS["mobile"].model()).program)


def test_fetches_any_value() -> None:
    feeds = NETWORKS["mobile"].feeds(2)
    results = session().run(feeds, ["s", "x", "w2", "y"])
    assert list(results) == ["s", "x", "w2", "y"]
    assert results["s"].shape == (2, 8, 8, 8)
    np.testing.assert_array_equal(results["y"], session().run(feeds)["y"])


def test_missing_input_and_unknown_value() -> None:
    with pytest.raises(ShapeMismatchError, match="input 'x' is missing; got nothing"):
        session().run({})
    with pytest.raises(ShapeMismatchError, match="'nowhere' is no value of the graph"):
        session().run(NETWORKS["mobile"].feeds(1), ["nowhere"])


def test_an_op_that_nobody_can_run() -> None:
    network = Network(
        """(float[N,3] x) => (float[N,3] y) { [strange] y = com.microsoft.NoSuchOp(x) }""", (3,)
    )
    source = network.model()
    source.opset_imports["com.microsoft"] = 1
    with pytest.raises(UnsupportedOpError, match=r"node 'strange' \(NoSuchOp\)"):
        open_float_session(program_of(source)).run({"x": np.zeros((1, 3), np.float32)})
