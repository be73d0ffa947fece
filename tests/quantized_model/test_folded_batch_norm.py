from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkit.exporters.qdq import qdq_graph
from quantkit.graph.ort_session import open_session
from quantkit.integer_session import open_integer_session
from quantkit.numerics.affine import QuantizedTensor, QuantParams, per_tensor
from quantkit.quantized_model.folded_batch_norm import scaled_codes
from quantkit.quantized_model.model import QuantizedModel
from tests.quantized_model.checks import check_equals_onnxruntime
from tests.quantized_model.qdq_texts import SHAPE, write
from tests.small_networks import random_feeds

BATCH_NORM = {
    "c": "[conv] d = Conv(xd, wd, bd) [bn] c = BatchNormalization(d, gamma, beta, mean, var)",
    "+bn": """float[2] gamma = {1.5, -0.7}, float[2] beta = {0.1, 0.2},
              float[2] mean = {0.3, -0.1}, float[2] var = {1.0, 2.0}""",
}


def test_by_default_both_are_float_and_the_reason_says_how_to_fold(tmp_path: Path) -> None:
    path = write(tmp_path, BATCH_NORM)
    model = QuantizedModel.from_qdq(path)
    assert set(model.plan.kept_float) == {"conv", "bn"}
    hint = "bn (BatchNormalization) reads it; fold that with --fold-batch-norm (fold_batch_norm"
    assert hint in model.plan.kept_float["conv"]
    assert not model.not_comparable
    feeds = random_feeds(model.prepared.model, SHAPE, 3, seed=0)
    check_equals_onnxruntime(model, path, feeds)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="quantized-bias"),
        pytest.param({"bd": "", "b": "float[2] b = {0.06, -0.12}"}, id="float-bias"),
        pytest.param({"bd": ""}, id="no-bias"),
        pytest.param({"ws": "float ws = {0.02}", "wz": "int8 wz = {0}", "bd": ""}, id="per-tensor"),
        pytest.param({"relu": "", "yz": "uint8 yz = {0}"}, id="relu-behind"),
    ],
)
def test_folding_makes_one_integer_node(changes: dict[str, str], tmp_path: Path) -> None:
    text = BATCH_NORM["c"]
    if changes.get("bd") == "":
        bias = ", b" if "b" in changes else ""
        text = text.replace("Conv(xd, wd, bd)", f"Conv(xd, wd{bias})")
    if "relu" in changes:
        text = text.replace("] c =", "] e =") + " [relu] c = Relu(e)"
    path = write(tmp_path, {**BATCH_NORM, **changes, "c": text})
    model = QuantizedModel.from_qdq(path, fold_batch_norm=True)
    assert not model.plan.kept_float
    assert set(model.not_comparable) == {"conv"}
    assert model.constants["w"].params.axis == 0
    feeds = random_feeds(model.prepared.model, SHAPE, 3, seed=0)
    # The exported file has no BatchNormalization, so there the codes are onnxruntime's again.
    check_equals_onnxruntime(model, qdq_graph(model), feeds)
    # Nothing but roundings: within 1 code of what onnxruntime computes in floats.
    gap = np.abs(open_integer_session(model).run(feeds)["y"] - open_session(path).run(feeds)["y"])
    assert gap.max() <= 1.001 * float(model.plan.params["y"].scale)
    weight = model.prepared.program.constants["w"]
    np.testing.assert_array_equal(weight, model.constants["w"].dequantize())


def test_a_nearly_dead_channel_keeps_its_bias(tmp_path: Path) -> None:
    changes = {
        "+bn": BATCH_NORM["+bn"].replace("1.5", "1e-9").replace("{0.1, 0.2}", "{3.0, 0.2}"),
    }
    path = write(tmp_path, {**BATCH_NORM, **changes})
    model = QuantizedModel.from_qdq(path, fold_batch_norm=True)
    assert np.abs(model.constants["b"].data.astype(np.int64)).max() <= 2**30 + 128
    feeds = random_feeds(model.prepared.model, SHAPE, 3, seed=0)
    ours = open_integer_session(model).run(feeds)["y"]
    assert np.abs(ours - open_session(path).run(feeds)["y"]).max() <= 0.04001


CODES = st.lists(st.integers(-128, 127), min_size=6, max_size=6)


@given(
    CODES,
    st.tuples(*[st.floats(-4, 4).filter(lambda f: f == 0 or abs(f) > 1e-3)] * 2),
    st.sampled_from([0, 5, -128]),
)
def test_the_codes_stand_for_the_product(
    codes: list[int], factors: tuple[float, float], zero: int
) -> None:
    weight = QuantizedTensor(
        np.array(codes, np.int8).reshape(2, 3),
        QuantParams(
            np.array([0.5, 2.0], np.float32), np.full(2, zero, np.int32), np.dtype(np.int8), 0
        ),
    )
    factor = np.array(factors)
    folded = scaled_codes(weight, factor, 0, np.full(2, 1e-30))
    expected = weight.dequantize() * factor[:, None]
    steps = np.abs(folded.dequantize() - expected) / folded.params.scale[:, None]
    # -128 has no counterpart: it loses one step, and nothing else loses any.
    allowed = np.where((factor < 0)[:, None] & (weight.data == -128) & (zero == 0), 1.0, 0.0)
    np.testing.assert_allclose(steps, allowed, atol=1e-4, rtol=0)


def test_a_factor_of_zero_leaves_no_weight() -> None:
    weight = QuantizedTensor(
        np.array([[1, 2], [3, 4]], np.int8),
        per_tensor(0.5, 0, np.int8),
    )
    folded = scaled_codes(weight, np.array([0.0, 2.0]), 0, np.full(2, 1e-30))
    np.testing.assert_array_equal(folded.data, [[0, 0], [3, 4]])
    np.testing.assert_array_equal(folded.params.scale, [0.5, 1.0])
