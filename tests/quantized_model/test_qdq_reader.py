from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from quantkit.config import QuantConfig
from quantkit.errors import UnsupportedModelError
from quantkit.exporters.qdq import qdq_graph
from quantkit.integer_session import open_integer_session
from quantkit.numerics.affine import dequantize, per_tensor, quantize
from quantkit.quantized_model.qdq_reader import read_qdq
from tests.quantized_model.checks import check_equals_onnxruntime, check_fused
from tests.quantized_model.qdq_texts import QUANTIZED_ON_LOAD, SHAPE, check, write
from tests.small_networks import NETWORKS, quantized, random_feeds


def test_reads_the_plain_case(tmp_path: Path) -> None:
    model = check(write(tmp_path, {}), kept_float=set())
    (conv,) = model.prepared.program.nodes
    assert conv.op_type == "Conv"
    assert model.code_tensors == {"x": "xq", "y": "yq"}
    # Channel 1: every code at the end that suits its weight, and the bias -400.
    assert model.accumulator_bounds == {"conv": 127 * 135 + 64 * 120 + 3 * 120 + 400}
    check_fused(qdq_graph(model), in_floats=frozenset())


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            {
                "ws": "float ws = {0.02}",
                "wz": "int8 wz = {0}",
                "bs": "float bs = {0.0006}",
                "bz": "int32 bz = {0}",
                "wd": "wd = DequantizeLinear(w_quantized, ws, wz)",
                "bd": "bd = DequantizeLinear(b_quantized, bs, bz)",
            },
            id="per-tensor",
        ),
        pytest.param(
            {"wd": "wd = DequantizeLinear<axis = 0>(w_quantized, ws)"}, id="no-zero-point"
        ),
        pytest.param(
            {"wd": "wd = DequantizeLinear<axis = -4>(w_quantized, ws, wz)"}, id="negative-axis"
        ),
        pytest.param(
            {
                "w": "uint8[2,3,1,1] w_quantized = {10, 20, 255, 0, 64, 130}",
                "wz": "uint8[2] wz = {128, 128}",
            },
            id="uint8-weight",
        ),
        pytest.param({"bs": "float[2] bs = {0.000601, 0.0002999}"}, id="bias-scale-nearly"),
        pytest.param(
            {"b": "float[2] b = {0.3, -0.1234567}", "bd": "", "c": "[conv] c = Conv(xd, wd, b)"},
            id="float-bias",
        ),
        pytest.param(
            {"b": "float[2] b = {0.0, 0.0}", "bd": "", "c": "[conv] c = Conv(xd, wd)"}, id="no-bias"
        ),
        pytest.param(
            {"w": "float[2,3,1,1] w = {0.2, -0.4, 2.0, -1.27, 0.6, 0.03}", "wd": QUANTIZED_ON_LOAD},
            id="quantized-on-load",
        ),
        pytest.param(
            {
                "xq": "xq = com.microsoft.QuantizeLinear(x, xs, xz)",
                "xd": "xd = com.microsoft.DequantizeLinear(xq, xs, xz)",
            },
            id="contrib-ops",
        ),
        pytest.param(
            {"xs": "float[1] xs = {0.03}", "xz": "uint8[1] xz = {120}"}, id="vectors-of-one"
        ),
        pytest.param(
            {"c": "[conv] d = Conv(xd, wd, bd) c = Relu(d)", "yz": "uint8 yz = {0}"},
            id="relu-implied",
        ),
    ],
)
def test_integer_variants(tmp_path: Path, changes: dict[str, str]) -> None:
    _ = check(write(tmp_path, changes), kept_float=set())


def test_chain_of_pairs_is_a_requantization(tmp_path: Path) -> None:
    changes = {
        "yd": """c1 = DequantizeLinear(yq, ys, yz)
                 q2 = QuantizeLinear(c1, ts, tz)
                 y = DequantizeLinear(q2, ts, tz)""",
        "+t": "float ts = {0.07}, uint8 tz = {90}",
    }
    model = read_qdq(write(tmp_path, changes))
    assert not model.plan.kept_float
    assert [node.op_type for node in model.prepared.program.nodes] == ["Conv", "Identity"]
    # Not onnxruntime: its optimizer joins the two pairs to one of a third scale.
    feeds = random_feeds(model.prepared.model, SHAPE, 3, seed=0)
    codes = open_integer_session(model).run_codes(feeds, ["c", "y"])
    real = dequantize(codes["c"], per_tensor(0.04, 100, np.uint8))
    np.testing.assert_array_equal(codes["y"], quantize(real, per_tensor(0.07, 90, np.uint8)))
    ir.save(qdq_graph(model), tmp_path / "again.onnx")
    again = open_integer_session(read_qdq(tmp_path / "again.onnx")).run_codes(feeds, ["y"])
    np.testing.assert_array_equal(again["y"], codes["y"])


def test_chain_of_equal_pairs_is_one(tmp_path: Path) -> None:
    changes = {
        "yd": """c1 = DequantizeLinear(yq, ys, yz)
                 q2 = QuantizeLinear(c1, ys, yz)
                 y = DequantizeLinear(q2, ys, yz)"""
    }
    model = check(write(tmp_path, changes), kept_float=set())
    assert [node.op_type for node in model.prepared.program.nodes] == ["Conv"]


def test_two_pairs_on_one_value(tmp_path: Path) -> None:
    changes = {
        "yd": """y = DequantizeLinear(yq, ys, yz)
                 q2 = QuantizeLinear(x, ts, tz)
                 z = DequantizeLinear(q2, ts, tz)""",
        "+t": "float ts = {0.07}, uint8 tz = {90}",
    }
    path = write(tmp_path, changes, outputs="float[N,2,6,6] y, float[N,3,6,6] z")
    model = read_qdq(path)
    # The input itself stays float; each pair is a quantization of its own.
    assert all(name.endswith("_requantize") for name in model.plan.kept_float)
    assert len(model.plan.kept_float) == 2
    check_equals_onnxruntime(model, path, random_feeds(model.prepared.model, SHAPE, 2, seed=0))


def test_one_code_tensor_read_by_two_dequantizers(tmp_path: Path) -> None:
    changes = {
        "yd": """y = DequantizeLinear(yq, ys, yz)
                 x2 = DequantizeLinear(xq, xs, xz)
                 z0 = Conv(x2, wd, bd)
                 z1 = QuantizeLinear(z0, ys, yz)
                 z = DequantizeLinear(z1, ys, yz)""",
    }
    path = write(tmp_path, changes, outputs="float[N,2,6,6] y, float[N,2,6,6] z")
    _ = check(path, kept_float=set())


def test_a_float_model_is_no_quantized_one(tmp_path: Path) -> None:
    ir.save(NETWORKS["matmul"].model(), tmp_path / "float.onnx")
    with pytest.raises(UnsupportedModelError, match=r"is not quantized: .* `quantkit quantize`"):
        read_qdq(tmp_path / "float.onnx")


def test_sums_that_may_wrap_around_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read_qdq(write(tmp_path, {}))
    assert caplog.messages == []
    largest = 2**31 - 1
    model = read_qdq(write(tmp_path, {"b": f"int32[2] b_quantized = {{{largest}, 0}}"}))
    (message,) = caplog.messages
    bound = model.accumulator_bounds["conv"]
    assert bound > largest
    assert message.startswith(f"node 'conv': sums of up to {bound} exceed int32")


def test_the_reason_of_a_float_node_travels_with_the_file(tmp_path: Path) -> None:
    config = QuantConfig(nodes_to_exclude=("last",))
    model, _ = quantized(NETWORKS["mobile"], config)
    assert "excluded by --nodes-to-exclude" in model.plan.kept_float.values()
    ir.save(qdq_graph(model), tmp_path / "q.onnx")
    assert dict(read_qdq(tmp_path / "q.onnx").plan.kept_float) == dict(model.plan.kept_float)


def test_damaged_reasons_do_no_harm(tmp_path: Path) -> None:
    model, _ = quantized(NETWORKS["mobile"], QuantConfig(nodes_to_exclude=("last",)))
    graph = qdq_graph(model)
    graph.metadata_props["quantkit.kept_float"] = "{"
    ir.save(graph, tmp_path / "q.onnx")
    assert "last" in read_qdq(tmp_path / "q.onnx").plan.kept_float
