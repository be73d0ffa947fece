"""What BatchNormalization recorded, under the names that tensors keep."""

import numpy as np
import onnx_ir as ir

from quantkit.passes.prepare import prepare
from quantkit.passes.trained_statistics import trained_statistics
from tests.models import PICTURE, batch_norm_weights, network, normal

CONV_BN = "c = Conv (x, w)  n = BatchNormalization (c, gamma, beta, mean, variance)  y = Relu (n)"


def conv_bn(inputs: str = PICTURE) -> ir.Model:
    weights = {"w": normal(4, 3, 3, 3), **batch_norm_weights(4)}
    return network(CONV_BN, weights, inputs=inputs)


def test_mean_is_beta_and_std_the_magnitude_of_gamma() -> None:
    weights = batch_norm_weights(4)
    (found,) = trained_statistics(conv_bn()).values()
    np.testing.assert_array_equal(found.mean, weights["beta"].astype(np.float64))
    np.testing.assert_array_equal(found.std, np.abs(weights["gamma"].astype(np.float64)))


def test_names_outlive_the_folding() -> None:
    prepared = prepare(conv_bn())
    assert [node.op_type for node in prepared.program.nodes] == ["Conv", "Relu"]
    assert list(prepared.trained) == [prepared.program.nodes[0].outputs[0]] == ["n"]


def test_constant_nodes_are_read() -> None:
    body = f"gamma = Constant <value_floats = [1.0, -2.0, 3.0, 0.0]> () {CONV_BN}"
    weights = {"w": normal(4, 3, 3, 3), **batch_norm_weights(4)}
    del weights["gamma"]
    (found,) = trained_statistics(network(body, weights)).values()
    np.testing.assert_array_equal(found.std, [1.0, 2.0, 3.0, 0.0])


def test_what_a_caller_may_feed_is_left_out() -> None:
    assert not trained_statistics(conv_bn(inputs="float[N,3,8,8] x, float[4] gamma"))


def test_without_batch_normalization_there_is_nothing() -> None:
    assert not prepare(network("y = Conv (x, w)", {"w": normal(4, 3, 3, 3)})).trained
