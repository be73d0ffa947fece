"""Numbers per channel from onnxruntime against those of the tensors themselves."""

import numpy as np
import onnx_ir as ir
import pytest

from quantkit.calibration.statistics import observe
from quantkit.errors import ModelError, NonFiniteRangeError
from quantkit.graph.channel_outputs import output_names, with_channel_outputs
from quantkit.graph.ort_session import open_session
from quantkit.passes.fold_constants import infer_shapes

TEXT = """
<ir_version: 8, opset_import: ["": {opset}]>
net (float[N,3,6,5] x) => (float[N,3] z) {{
  y = Relu (x)
  w = LeakyRelu (x)
  p = GlobalAveragePool (w)
  z = Flatten (p)
}}"""


def network(opset: int) -> ir.Model:
    model = ir.from_onnx_text(TEXT.format(opset=opset))
    infer_shapes(model)
    return model


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
@pytest.mark.parametrize("batch", [1, 3])
def test_numbers_per_channel(opset: int, batch: int) -> None:
    model = network(opset)
    extended, channels = with_channel_outputs(model, ["y", "w", "z"])
    assert [output.name for output in model.graph.outputs] == ["z"]
    assert set(channels) == {"y", "w"}  # a tensor of rank 2 is its own channels
    session = open_session(extended, threads=1, many_outputs=True)
    x = np.random.default_rng(0).standard_normal((batch, 3, 6, 5)).astype(np.float32)
    found = session.run({"x": x}, ["y", "w", *output_names(channels)])
    for name, own in channels.items():
        np.testing.assert_array_equal(found[own.minimum], found[name].min(axis=(2, 3)))
        np.testing.assert_array_equal(found[own.maximum], found[name].max(axis=(2, 3)))
        mean = found[own.mean].reshape(batch, 3)
        np.testing.assert_allclose(mean, found[name].mean(axis=(2, 3)), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("bad", "word"), [(np.nan, "NaN"), (np.inf, "infinity")])
def test_values_that_are_not_finite_are_found(bad: float, word: str) -> None:
    extended, channels = with_channel_outputs(network(17), ["w"])
    session = open_session(extended, threads=1)
    for index in range(30):
        x = np.ones((1, 3, 6, 5), np.float32)
        x.reshape(-1)[3 * index] = bad
        found = session.run({"x": x}, ["w", *output_names(channels)])
        own = channels["w"]
        numbers = found[own.minimum], found[own.maximum], found[own.mean]
        with pytest.raises(NonFiniteRangeError, match=word):
            observe(found["w"], exact=False, channels=numbers)


def test_sums_beyond_float32() -> None:
    extended, channels = with_channel_outputs(network(17), ["w"])
    session = open_session(extended, threads=1)
    x = np.full((1, 3, 6, 5), 3e38, np.float32)
    found = session.run({"x": x}, ["w", *output_names(channels)])
    own = channels["w"]
    numbers = found[own.minimum], found[own.maximum], found[own.mean]
    seen = observe(found["w"], exact=True, channels=numbers)
    assert seen.minimum == seen.maximum == float(np.float32(3e38))


def test_unknown_values_are_refused() -> None:
    with pytest.raises(ModelError, match="'absent' is not computed by any node"):
        with_channel_outputs(network(17), ["absent"])
