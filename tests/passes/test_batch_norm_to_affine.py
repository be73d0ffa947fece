"""A BatchNormalization that stands alone becomes a depthwise Conv where there is one."""

import numpy as np
import pytest

from tests.models import batch_norm_weights, network
from tests.passes.checks import assert_prepared, op_types, refusal

BN = "y = BatchNormalization <epsilon = 0.01> (x, gamma, beta, mean, variance)"


@pytest.mark.parametrize("sizes", ["9", "5,5", "H,W", "3,4,5"])
def test_becomes_a_depthwise_conv(sizes: str) -> None:
    model = network(
        BN, batch_norm_weights(3), inputs=f"float[N,3,{sizes}] x", outputs=f"float[N,3,{sizes}] y"
    )
    prepared = assert_prepared(model)
    (node,) = prepared.program.nodes
    assert (node.op_type, node.integer("group", 1)) == ("Conv", 3)


@pytest.mark.parametrize("sizes", ["", ",2,2,2,2"])
def test_other_ranks_stay(sizes: str) -> None:
    model = network(
        BN, batch_norm_weights(3), inputs=f"float[N,3{sizes}] x", outputs=f"float[N,3{sizes}] y"
    )
    prepared = assert_prepared(model)
    assert op_types(prepared) == ["BatchNormalization"]
    assert "a Conv's has 3 to 5" in refusal(prepared, "batch_norm_to_affine")


def test_float64_stays_because_onnxruntime_has_no_such_conv() -> None:
    model = network(
        BN,
        batch_norm_weights(3, dtype=np.float64),
        inputs="double[N,3,4,4] x",
        outputs="double[N,3,4,4] y",
    )
    prepared = assert_prepared(model, relative=1e-12)
    reason = refusal(prepared, "batch_norm_to_affine")
    assert reason == "onnxruntime has no Conv for float64"


def test_float16_with_float32_parameters() -> None:
    model = network(
        BN,
        batch_norm_weights(3),
        inputs="float16[N,3,4,4] x",
        outputs="float16[N,3,4,4] y",
    )
    prepared = assert_prepared(model, relative=4e-3)
    assert op_types(prepared) == ["Conv"]
