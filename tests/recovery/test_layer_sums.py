import numpy as np
import pytest

from quantkit.integer_session import open_integer_session
from quantkit.numerics.affine import quantize
from quantkit.quantized_model.model import weight_and_bias
from quantkit.recovery.block_values import Values
from quantkit.recovery.layer_sums import open_layer
from tests.small_networks import NETWORKS, onnxruntime_outputs, quantized


@pytest.mark.parametrize("per_sample", [1, 3])
def test_sums_become_the_codes_of_the_integer_kernels(per_sample: int) -> None:
    model, _ = quantized(NETWORKS["mobile"])
    feeds = NETWORKS["mobile"].feeds(per_sample, seed=5)
    checked = 0
    for step, values, outputs in open_integer_session(model).run_steps(feeds):
        if not weight_and_bias(step.node)[1]:
            continue
        layer = open_layer(model, step.node)
        name = step.node.outputs[0]
        codes = quantize(layer.coded(Values({}, dict(values))), model.plan.params[name])
        difference = np.abs(codes.astype(int) - outputs[name].astype(int))
        assert difference.max() <= 1
        assert difference.mean() < 1e-3
        checked += 1
    assert checked == 5


def test_sums_of_the_float_network() -> None:
    model, _ = quantized(NETWORKS["softmax"])
    feeds = NETWORKS["softmax"].feeds(4, seed=5)
    node = model.prepared.program.nodes[0]
    logits = open_layer(model, node).real(Values(feeds, {}))
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    (expected,) = onnxruntime_outputs(model.prepared.model, feeds).values()
    np.testing.assert_allclose(
        exponentials / exponentials.sum(axis=1, keepdims=True), expected, rtol=1e-5
    )


def test_errors_count_only_what_the_codes_hold() -> None:
    model, _ = quantized(NETWORKS["mobile"])
    layer = open_layer(model, model.prepared.program.nodes[0])
    low, high = layer.clamped(np.array([-1e6, 1e6], np.float32))
    assert low == 0.0  # behind the clamp
    real = np.full((1, 2, 4, 1), high / 2, np.float32)
    real[0, 0, :2, 0] = 3 * high, -1.0
    coded = real - np.float32(0.25)
    sums, counts = layer.errors_within_range(real, coded)
    np.testing.assert_allclose(sums, [0.5, 1.0], rtol=1e-5)
    np.testing.assert_array_equal(counts, [2, 4])
    before, after = layer.squared_errors(real, coded, np.array([0.25, 0.5]))
    np.testing.assert_allclose(before, [2 * 0.25**2, 4 * 0.25**2], rtol=1e-5)
    np.testing.assert_allclose(after, [0.0, 4 * 0.25**2], rtol=1e-5, atol=1e-12)
