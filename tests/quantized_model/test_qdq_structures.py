"""Graph structures that other tools write, each equal to onnxruntime bit for bit."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from quantkit.errors import ModelError, UnsupportedModelError
from quantkit.exporters.qdq import qdq_graph
from quantkit.graph.ort_session import open_session, optimized_program
from quantkit.integer_session import open_integer_session
from quantkit.numerics.affine import dequantize
from quantkit.quantized_model.model import QuantizedModel
from quantkit.quantized_model.qdq_reader import read_qdq
from tests.quantized_model.checks import check_equals_onnxruntime
from tests.quantized_model.qdq_texts import NODES, SHAPE, check, write
from tests.small_networks import onnxruntime_outputs, random_feeds

TRANSPOSED = "int8[3,2,1,1] w_quantized = {10, -20, 127, -127, 64, 3}"
FLOAT_WEIGHT = "float[2,3,1,1] w = {0.2, -0.4, 2.0, -1.27, 0.6, 0.03}"
PER_TENSOR = {"ws": "float ws = {0.02}", "wz": "int8 wz = {0}"}
NO_BIAS = {"bd": "", "c": "[conv] c = Conv(xd, wd)"}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            {
                "w": TRANSPOSED,
                "wd": """w0 = DequantizeLinear<axis = 1>(w_quantized, ws, wz)
                         wd = Transpose<perm = [1,0,2,3]>(w0)""",
            },
            id="transpose-behind-the-weight",
        ),
        pytest.param(
            {
                "w": "int8[1,1,3,2] w_quantized = {10, -20, 127, -127, 64, 3}",
                "wd": """w0 = DequantizeLinear<axis = -1>(w_quantized, ws, wz)
                         w1 = Identity(w0)
                         wd = Transpose<perm = [3,2,0,1]>(w1)""",
            },
            id="channels-last-weight",
        ),
        pytest.param(
            {
                "w": "float[3,2,1,1] w = {0.2, -0.4, 2.0, -1.27, 0.6, 0.03}",
                "wd": """wq = QuantizeLinear<axis = 1>(w, ws, wz)
                         w0 = DequantizeLinear<axis = 1>(wq, ws, wz)
                         wd = Transpose<perm = [1,0,2,3]>(w0)""",
            },
            id="transpose-behind-a-pair",
        ),
        pytest.param(
            {
                "w": TRANSPOSED.replace("w_quantized", "w"),
                "wd": """wq = Transpose<perm = [1,0,2,3]>(w)
                         wd = DequantizeLinear<axis = 0>(wq, ws, wz)""",
            },
            id="codes-transposed",
        ),
        pytest.param(
            {
                "w": FLOAT_WEIGHT,
                "wd": """wq = QuantizeLinear<axis = 0>(w, ws, wz)
                         wc = Clip(wq, low, high)
                         wd = DequantizeLinear<axis = 0>(wq, ws, wz)""",
                "+clip": "int8 low = {-127}, int8 high = {127}",
            },
            id="clip-of-weight-codes",
        ),
        pytest.param(
            {
                "xd": "xc = Clip(xq, low, high) xd = DequantizeLinear(xc, xs, xz)",
                "+clip": "uint8 low = {0}, uint8 high = {127}",
            },
            id="clip-of-codes",
        ),
        pytest.param(
            {"xd": "xi = Identity(xq) xd = DequantizeLinear(xi, xs, xz)"}, id="identity-of-codes"
        ),
        pytest.param(
            {"xd": "xt = Transpose<perm=[0,1,3,2]>(xq) xd = DequantizeLinear(xt, xs, xz)"},
            id="transpose-of-codes",
        ),
        pytest.param(
            {
                "ws": "float[2] ws0 = {0.02, 0.01}",
                "wd": "ws = Identity(ws0) wd = DequantizeLinear<axis = 0>(w_quantized, ws, wz)",
            },
            id="scale-through-identity",
        ),
        pytest.param(
            {
                "xs": "",
                "xq": "xs = Constant<value = float {0.03}>() xq = QuantizeLinear(x, xs, xz)",
            },
            id="scale-of-a-constant-node",
        ),
        pytest.param(
            {
                "ys": "",
                "yz": "",
                "yq": "yq = QuantizeLinear(c, xs, xz)",
                "yd": "y = DequantizeLinear(yq, xs, xz)",
            },
            id="shared-scale",
        ),
        pytest.param({"xz": "int8 xz = {7}", "yz": "int8 yz = {-100}"}, id="int8-activations"),
        pytest.param({"yz": "int8 yz = {-28}"}, id="uint8-in-int8-out"),
        pytest.param({"xz": "int8 xz = {-8}"}, id="int8-in-uint8-out"),
        pytest.param(
            {"w": FLOAT_WEIGHT, "wd": "", "bd": "", "c": "[conv] c = Conv(xd, w)"},
            id="float-weight",
        ),
        pytest.param(
            {
                "w": FLOAT_WEIGHT,
                "wd": "",
                "b": "float[2] b = {0.3, -0.12}",
                "bd": "",
                "c": "[conv] c = Conv(xd, w, b)",
            },
            id="float-weight-and-bias",
        ),
        pytest.param(
            {
                "w": FLOAT_WEIGHT.replace("{0.2, -0.4", "{0.2, 0.4").replace("-1.27", "1.27"),
                "wd": "",
                "bd": "",
                "c": "[conv] c = Conv(xd, w)",
            },
            id="positive-float-weight",
        ),
        pytest.param(
            {
                "c": "[conv] d = Conv(xd, wd, bd) c = Reshape(d, shape)",
                "+s": "int64[4] shape = {0,2,6,6}",
            },
            id="reshape-before-q",
        ),
        pytest.param(
            {
                "c": "[conv] d = Conv(xd, wd, bd) e = Relu(d) c = Transpose<perm=[0,1,3,2]>(e)",
                "yz": "uint8 yz = {0}",
            },
            id="relu-and-transpose-before-q",
        ),
        pytest.param(
            {"xd": "x0 = DequantizeLinear(xq, xs, xz) xd = MaxPool<kernel_shape=[1,1]>(x0)"},
            id="pool-behind-dq",
        ),
        pytest.param(
            {
                "xd": """x0 = DequantizeLinear(xq, xs, xz)
                         xd = Pad(x0, pads)""",
                "c": "[conv] c = Conv<pads = [0,0,0,0], strides = [2,2]>(xd, wd, bd)",
                "+pads": "int64[8] pads = {0,0,2,2,0,0,4,4}",
            },
            id="pad-between-dq-and-conv",
        ),
    ],
)
def test_integer_structures(tmp_path: Path, changes: dict[str, str]) -> None:
    path = write(tmp_path, changes)
    kernels = {node.op_type for node in optimized_program(path).nodes}
    assert "QLinearConv" in kernels
    assert "Conv" not in kernels
    check(path, kept_float=set())


@pytest.mark.parametrize("opset", [10, 11, 12])
def test_opsets_without_a_channel_axis(opset: int, tmp_path: Path) -> None:
    changes = {
        **PER_TENSOR,
        "wd": "wd = DequantizeLinear(w_quantized, ws, wz)",
        **NO_BIAS,
    }
    model = read_qdq(path := write(tmp_path, changes, opset=opset))
    assert not model.plan.kept_float
    check_equals_onnxruntime(model, path, random_feeds(model.prepared.model, SHAPE, 3, seed=0))


@pytest.mark.parametrize("opset", range(13, 26))
def test_every_later_opset(opset: int, tmp_path: Path) -> None:
    model = read_qdq(path := write(tmp_path, {}, opset=opset))
    assert not model.plan.kept_float
    check_equals_onnxruntime(model, path, random_feeds(model.prepared.model, SHAPE, 3, seed=0))


def test_a_float_bias_of_two_convolutions_has_two_scales(tmp_path: Path) -> None:
    """onnxruntime quantizes it for each of them."""
    path = write(
        tmp_path,
        {
            "w": "int8[3,3,1,1] w_quantized = {10, -20, 127, -127, 64, 3, 5, 6, -7}",
            "ws": "float ws = {0.02}",
            "wz": "int8 wz = {0}",
            "wd": "wd = DequantizeLinear(w_quantized, ws, wz)",
            "b": "float[3] b = {0.3, -0.1, 0.2}",
            "bs": "",
            "bz": "",
            "bd": "",
            "+t": "float t = {0.1}",
            "+u": "uint8 u = {90}",
            "c": """[first] e = Conv(xd, wd, b)
                    eq = QuantizeLinear(e, t, u)
                    ed = DequantizeLinear(eq, t, u)
                    [second] c = Conv(ed, wd, b)""",
        },
        outputs="float[N,3,6,6] y",
    )
    kernels = [node.op_type for node in optimized_program(path).nodes]
    assert kernels.count("QLinearConv") == 2
    check(path, kept_float=set())


@pytest.mark.parametrize(
    ("outputs", "changes"),
    [
        ("float[N,2,6,6] y, float[N,3,6,6] xd", {}),
        ("float[N,2,6,6] y, float[2,3,1,1] wd", {}),
        (
            "float[N,2,6,6] y, int8[2,3,1,1] v",
            {"wd": f"{NODES['wd']} v = Identity(w_quantized)"},
        ),
    ],
)
def test_what_is_dequantized_or_coded_may_be_an_output_too(
    tmp_path: Path, outputs: str, changes: dict[str, str]
) -> None:
    """The Conv reads the same codes as without that output."""
    path = write(tmp_path, changes, outputs=outputs)
    model = read_qdq(path)
    assert "conv" not in model.plan.kept_float
    feeds = random_feeds(model.prepared.model, SHAPE, 3, seed=0)
    expected = open_session(path).run(feeds)
    session = open_integer_session(model).run(feeds)
    exported = onnxruntime_outputs(qdq_graph(model), feeds)
    for name, array in expected.items():
        np.testing.assert_array_equal(session[name], array)
        np.testing.assert_array_equal(exported[name], array)


def test_codes_as_input_and_output(tmp_path: Path) -> None:
    path = write(tmp_path, {"xq": "", "yd": ""}, outputs="uint8[N,2,6,6] yq")
    graph = ir.load(path)
    value = graph.graph.inputs[0]
    value.name, value.type = "xq", ir.TensorType(ir.DataType.UINT8)
    ir.save(graph, path)
    model = read_qdq(path)
    assert not model.plan.kept_float
    assert model.code_boundaries == {"xq", "yq"}
    assert model.code_tensors == {"yq": "yq"}
    codes = np.random.default_rng(0).integers(0, 256, (3, *SHAPE)).astype(np.uint8)
    session = open_integer_session(model, strict_integer=True)
    expected = open_session(path).run({"xq": codes})["yq"]
    np.testing.assert_array_equal(session.run_codes({"xq": codes}, ["yq"])["yq"], expected)
    # Real values may be fed too: they are quantized to the same codes.
    real = dequantize(codes, model.plan.params["xq"])
    np.testing.assert_array_equal(session.run_codes({"xq": real}, ["yq"])["yq"], expected)


def test_codes_that_are_an_output_and_read(tmp_path: Path) -> None:
    path = write(tmp_path, {}, outputs="float[N,2,6,6] y, uint8[N,2,6,6] yq")
    model = read_qdq(path)
    feeds = random_feeds(model.prepared.model, SHAPE, 2, seed=0)
    expected, session = open_session(path).run(feeds), open_integer_session(model)
    codes = session.run_codes(feeds, ["yq"])["yq"]
    np.testing.assert_array_equal(codes, expected["yq"])
    np.testing.assert_array_equal(session.run(feeds)["y"], expected["y"])


@pytest.mark.parametrize(
    ("changes", "node", "reason"),
    [
        (
            {"yq": "", "yd": "", "c": "[conv] y = Conv(xd, wd, bd)"},
            "conv",
            "its output 'y' is not quantized in the file",
        ),
        (
            {"xq": "xi = Cast<to = 2>(x) xd = DequantizeLinear(xi, xs, xz)", "xd": ""},
            "node_xd",
            "its codes come from",
        ),
        (
            {
                "w": "int8[2,3] w_quantized = {10, -20, 127, -127, 64, 3}",
                "wd": """w0 = DequantizeLinear<axis = 0>(w_quantized, ws, wz)
                         wd = Reshape(w0, shape)""",
                "+s": "int64[4] shape = {2,3,1,1}",
            },
            "conv",
            "the weight is computed, not a constant",
        ),
        (
            {
                "w": "int8[1,1,3,2] w_quantized = {10, -20, 127, -127, 64, 3}",
                "wd": """w0 = DequantizeLinear<axis = 3>(w_quantized, ws, wz)
                         wd = Transpose(w0)""",
            },
            "conv",
            "the weight is computed, not a constant",
        ),
        (
            {"w": FLOAT_WEIGHT, "wd": "", "c": "[conv] c = Conv(xd, w, bd)"},
            "conv",
            "its weight 'w'",
        ),
        (
            {
                "wd": "wd = DequantizeLinear<axis = 1, block_size = 2>(w_quantized, ws, wz)",
                "ws": "float[2,2,1,1] ws = {0.02, 0.01, 0.03, 0.04}",
                "wz": "int8[2,2,1,1] wz = {0, 1, -2, 3}",
            },
            "conv",
            "its weight 'w' is quantized to blocks of 2 values",
        ),
        (
            {"xs": "float[3] xs = {0.03, 0.02, 0.01}", "xz": "uint8[3] xz = {120, 120, 120}"},
            "conv",
            "'x' is quantized per channel",
        ),
    ],
    ids=[
        "no-output-q",
        "lone-dq",
        "reshaped-weight",
        "transposed-without-perm",
        "bias-only",
        "blocks",
        "channels",
    ],
)
def test_float_islands(tmp_path: Path, changes: dict[str, str], node: str, reason: str) -> None:
    path = write(tmp_path, changes, opset=21)
    model = read_qdq(path)
    reasons = model.plan.kept_float
    assert any(reason in text for text in reasons.values()), reasons
    assert node == "node_xd" or reason in reasons[node]
    feeds = random_feeds(model.prepared.model, SHAPE, 3, seed=0)
    expected = open_session(path).run(feeds)["y"]
    actual = open_integer_session(model).run(feeds)["y"]
    # Codes where the output has them, otherwise floats of the same sums in another order.
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_half_floats_stay_as_they_are(tmp_path: Path) -> None:
    changes = {
        "xs": "float half = {0.03}",
        "xq": """xs = Cast<to = 10>(half)
                 x16 = Cast<to = 10>(x)
                 [x_q] xq = QuantizeLinear(x16, xs, xz)""",
        "xd": "[x_dq] xe = DequantizeLinear(xq, xs, xz) xd = Cast<to = 1>(xe)",
    }
    path = write(tmp_path, changes, opset=19)
    model = read_qdq(path)
    assert model.plan.kept_float["x_q"] == "quantizes float16 values, which no integer kernel takes"
    feeds = random_feeds(model.prepared.model, SHAPE, 3, seed=0)
    check_equals_onnxruntime(model, path, feeds)


def test_weights_of_4_bits_become_real_values(tmp_path: Path) -> None:
    path = write(tmp_path, {}, opset=21)
    model = ir.load(path)
    codes = np.array([1, -2, 7, -8, 4, 3]).reshape(2, 3, 1, 1)
    for name, array in (("w_quantized", codes), ("wz", np.zeros(2, np.int64))):
        value = model.graph.initializers[name]
        kind = ir.DataType.INT4
        value.type = ir.TensorType(kind)
        value.const_value = ir.tensor(array.tolist(), dtype=kind, name=name)
    ir.save(model, path)
    read = read_qdq(path)
    assert read.plan.kept_float == {"conv": "its weight 'w' is quantized to int4 codes"}
    expected = codes.astype(np.float32) * np.array([0.02, 0.01], np.float32).reshape(2, 1, 1, 1)
    np.testing.assert_array_equal(read.prepared.program.constants["w"], expected)
    feeds = random_feeds(read.prepared.model, SHAPE, 3, seed=0)
    check_equals_onnxruntime(read, path, feeds)


def test_activations_of_4_bits_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, {"xz": "uint4 xz = {7}"}, opset=21)
    with pytest.raises(UnsupportedModelError, match=r"node 'x_dq': .* uint4 codes is not"):
        read_qdq(path)


def test_a_graph_within_a_node_stays_as_it_is(tmp_path: Path) -> None:
    changes = {
        "yd": """y0 = DequantizeLinear(yq, ys, yz)
                 [choice] y = If (flag) <
                   then_branch = yes () => (float[N,2,6,6] t) {
                     tq = QuantizeLinear(y0, xs, xz)
                     t = DequantizeLinear(tq, xs, xz)
                   },
                   else_branch = no () => (float[N,2,6,6] e) { e = Identity(y0) }
                 >""",
        "+flag": "bool flag = {1}",
    }
    model = read_qdq(write(tmp_path, changes))
    assert model.plan.kept_float == {"choice": "If holds a graph of its own"}


def test_16_bit_activations_are_integer(tmp_path: Path) -> None:
    """onnxruntime has no kernels for them: its float result is within one code."""
    changes = {
        "xs": "float xs = {0.0002}",
        "xz": "uint16 xz = {30000}",
        "ys": "float ys = {0.0003}",
        "yz": "uint16 yz = {33000}",
        "b": "float[2] b = {0.3, -0.1234567}",
        "bd": "",
        "c": "[conv] c = Conv(xd, wd, b)",
    }
    path = write(tmp_path, changes, opset=21)
    model = read_qdq(path)
    assert not model.plan.kept_float
    assert model.constants["b"].data.dtype == np.int64
    feeds = random_feeds(model.prepared.model, SHAPE, 3, seed=0)
    gap = open_integer_session(model).run(feeds)["y"] - open_session(path).run(feeds)["y"]
    assert np.abs(gap).max() <= 0.00031


def test_a_joined_chain_is_not_comparable(tmp_path: Path) -> None:
    changes = {
        "yd": """c1 = DequantizeLinear(yq, ys, yz)
                 q2 = QuantizeLinear(c1, ts, tz)
                 [end] y = DequantizeLinear(q2, ts, tz)""",
        "+t": "float ts = {0.07}, uint8 tz = {90}",
    }
    model = QuantizedModel.from_qdq(write(tmp_path, changes))
    assert "joins the two Q/DQ pairs" in model.not_comparable["end_requantize"]


def test_from_qdq_is_read_qdq(tmp_path: Path) -> None:
    path = write(tmp_path, {})
    one, other = QuantizedModel.from_qdq(path), read_qdq(path)
    assert one.accumulator_bounds == other.accumulator_bounds
    with pytest.raises(ModelError, match="does not exist"):
        QuantizedModel.from_qdq(tmp_path / "none.onnx")
