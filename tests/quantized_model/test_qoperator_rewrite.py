"""QOperator nodes one by one, as ONNX text, against onnxruntime."""

from pathlib import Path

import numpy as np
import pytest

from quantkit.errors import ModelError, UnsupportedModelError
from quantkit.graph.program import Array
from quantkit.ops.contract import OPS
from quantkit.quantized_model.qdq_reader import read_qdq
from tests.quantized_model.qoperator_checks import check_codes, write_text

PICTURE = "float[N,4,6,6] x"
RNG = np.random.default_rng(0)
U8, I8 = np.uint8, np.int8


def scalars(**values: float) -> dict[str, Array]:
    """Names with ``z`` are uint8 zero points, the others scales."""
    return {
        name: np.array(value, U8 if "z" in name else np.float32) for name, value in values.items()
    }


PARAMS = scalars(xs=0.03, xz=120, ys=0.05, yz=100, ws=0.01, ts=0.04, tz=90)


def codes(*shape: int, dtype: type[np.integer] = I8) -> Array:
    info = np.iinfo(dtype)
    return RNG.integers(info.min + 1, info.max, shape).astype(dtype)


def feeds(*shape: int) -> dict[str, Array]:
    return {"x": np.random.default_rng(3).normal(0.0, 1.5, shape).astype(np.float32)}


def body(*lines: str) -> str:
    """Q at the input ``x`` and DQ of ``yq``, with these lines between."""
    return "\n".join(
        [
            "xq = QuantizeLinear(x, xs, xz)",
            *lines,
            "[y_DequantizeLinear] y = DequantizeLinear(yq, ys, yz)",
        ]
    )


def only_float_for_lack_of_kernels(op_types: set[str], kept: dict[str, str]) -> bool:
    return all(reason.startswith("no integer kernel") for reason in kept.values()) or (
        op_types <= set(OPS) and not kept
    )


PICTURES = {
    "conv": (
        """[c_quant] yq = QLinearConv<pads = [1,1,1,1], group = 2>
          (xq, xs, xz, w, ws4, wz4, ys, yz, b)""",
        {
            "w": codes(4, 2, 3, 3),
            "ws4": np.array([0.01, 0.02, 0.005, 0.03], np.float32),
            "wz4": np.zeros(4, I8),
            "b": np.array([100, -2000, 30, 4], np.int32),
        },
    ),
    "conv-weight-zero-point": (
        "[c_quant] yq = QLinearConv(xq, xs, xz, w, ws4, wz, ys, yz)",
        {
            "w": codes(4, 4, 3, 3, dtype=U8),
            "ws4": np.array([0.01, 0.02, 0.005, 0.03], np.float32),
            "wz": np.array(130, U8),
        },
    ),
    "conv-channels-last": (
        """tq = Transpose<perm = [0,2,3,1]>(xq)
        [c_quant] uq = com.microsoft.QLinearConv<channels_last = 1, strides = [2,1]>
          (tq, xs, xz, w, ws, wz, ys, yz, b)
        yq = Transpose<perm = [0,3,1,2]>(uq)""",
        {"w": codes(5, 4, 3, 3), "wz": np.array(0, I8), "b": np.arange(5, dtype=np.int32) * 300},
    ),
    "average": (
        "[a] yq = com.microsoft.QLinearAveragePool<kernel_shape = [2,2]>(xq, xs, xz, ys, yz)",
        {},
    ),
    "average-channels-last": (
        """[a] yq = com.microsoft.QLinearAveragePool<kernel_shape = [2,2], channels_last = 1>
          (xq, xs, xz, ys, yz)""",
        {},
    ),
    "global-average": (
        "[a] yq = com.microsoft.QLinearGlobalAveragePool(xq, xs, xz, ys, yz)",
        {},
    ),
    "global-average-channels-last": (
        """[a] yq = com.microsoft.QLinearGlobalAveragePool<channels_last = 1>
          (xq, xs, xz, ys, yz)""",
        {},
    ),
    "add": ("yq = com.microsoft.QLinearAdd(xq, xs, xz, xq, xs, xz, ys, yz)", {}),
    "add-constant": (
        "yq = com.microsoft.QLinearAdd(xq, xs, xz, k, ts, tz, ys, yz)",
        {"k": codes(1, 4, 1, 1, dtype=U8)},
    ),
    "without-zero-point": (
        "yq = com.microsoft.QLinearSigmoid(xq, xs, , ys, yz)",
        {"xz": np.array(0, U8)},
    ),
    "mul": ("yq = com.microsoft.QLinearMul(xq, xs, xz, xq, xs, xz, ys, yz)", {}),
    "concat": (
        """tq = com.microsoft.QLinearAdd(xq, xs, xz, xq, xs, xz, ts, tz)
        yq = com.microsoft.QLinearConcat<axis = 1>(ys, yz, xq, xs, xz, tq, ts, tz)""",
        {},
    ),
    "sigmoid": ("yq = com.microsoft.QLinearSigmoid(xq, xs, xz, ys, yz)", {}),
    "leaky-relu": ("yq = com.microsoft.QLinearLeakyRelu<alpha = 0.3>(xq, xs, xz, ys, yz)", {}),
    "leaky-relu-default": ("yq = com.microsoft.QLinearLeakyRelu(xq, xs, xz, ys, yz)", {}),
    "softmax": (
        "yq = com.microsoft.QLinearSoftmax<axis = 1, opset = 17>(xq, xs, xz, ys, yz)",
        {},
    ),
    "softmax-default-axis": (
        "yq = com.microsoft.QLinearSoftmax<opset = 17>(xq, xs, xz, ys, yz)",
        {},
    ),
    "softmax-of-another-opset": (
        "yq = com.microsoft.QLinearSoftmax<axis = -1, opset = 11>(xq, xs, xz, ys, yz)",
        {},
    ),
    "where": (
        "yq = com.microsoft.QLinearWhere(m, xq, xs, xz, k, ts, tz, ys, yz)",
        {"m": RNG.random((1, 4, 6, 6)) < 0.5, "k": codes(1, 4, 6, 6, dtype=U8)},
    ),
}


@pytest.mark.parametrize("name", sorted(PICTURES))
def test_one_node(name: str, tmp_path: Path) -> None:
    line, constants = PICTURES[name]
    constants = {**PARAMS, **constants}
    if name.startswith("softmax"):
        constants |= scalars(ys=1 / 256, yz=0)
    text = body(line)
    path = write_text(tmp_path, text, constants, inputs=PICTURE, outputs="float[N,C,H,W] y")
    model = check_codes(path, feeds(3, 4, 6, 6))
    kinds = {node.op_type for node in model.prepared.program.nodes}
    assert only_float_for_lack_of_kernels(kinds, dict(model.plan.kept_float))


MATRICES = {
    "gemm": (
        "[g_quant] yq = com.microsoft.QGemm<transB = 1>(xq, xs, xz, w, ws5, wz5, b, ys, yz)",
        {
            "w": codes(5, 8),
            "ws5": np.linspace(0.01, 0.03, 5, dtype=np.float32),
            "wz5": np.zeros(5, I8),
            "b": np.arange(5, dtype=np.int32) * 1000,
        },
    ),
    "gemm-without-bias": (
        "yq = com.microsoft.QGemm(xq, xs, xz, w, ws, wz, , ys, yz)",
        {"w": codes(8, 5), "wz": np.array(3, I8)},
    ),
    "gemm-bias-is-one-number": (
        "yq = com.microsoft.QGemm(xq, xs, xz, w, ws5, wz5, b, ys, yz)",
        {
            "w": codes(8, 5),
            "ws5": np.linspace(0.01, 0.03, 5, dtype=np.float32),
            "wz5": np.zeros(5, I8),
            "b": np.array([2000], np.int32),
        },
    ),
    "gemm-alpha": (
        "yq = com.microsoft.QGemm<alpha = 0.5>(xq, xs, xz, w, ws, wz, b, ys, yz)",
        {"w": codes(8, 5), "wz": np.array(0, I8), "b": np.arange(5, dtype=np.int32) * 1000},
    ),
    "matmul": (
        "yq = QLinearMatMul(xq, xs, xz, w, ws5, wz5, ys, yz)",
        {
            "w": codes(8, 5),
            "ws5": np.linspace(0.01, 0.03, 5, dtype=np.float32),
            "wz5": np.zeros(5, I8),
        },
    ),
    "matmul-row-of-scales": (
        "yq = QLinearMatMul(xq, xs, xz, w, ws5, wz5, ys, yz)",
        {
            "w": codes(8, 5),
            "ws5": np.linspace(0.01, 0.03, 5, dtype=np.float32)[None],
            "wz5": np.zeros((1, 5), I8),
        },
    ),
    "matmul-of-two": (
        """tq = Transpose(xq)
        yq = QLinearMatMul(xq, xs, xz, tq, xs, xz, ys, yz)""",
        {},
    ),
}


@pytest.mark.parametrize("name", sorted(MATRICES))
def test_one_product(name: str, tmp_path: Path) -> None:
    line, constants = MATRICES[name]
    path = write_text(tmp_path, body(line), {**PARAMS, **constants}, inputs="float[N,8] x")
    assert not check_codes(path, feeds(3, 8)).plan.kept_float


@pytest.mark.parametrize("alpha", [0.3, 1.7])
def test_a_factor_without_bias(tmp_path: Path, alpha: float) -> None:
    line = f"[g] yq = com.microsoft.QGemm<alpha = {alpha}>(xq, xs, xz, w, ws, wz, , ys, yz)"
    constants = {"w": codes(8, 5), "wz": np.array(0, I8)}
    path = write_text(tmp_path, body(line), {**PARAMS, **constants}, inputs="float[N,8] x")
    assert not check_codes(path, feeds(3, 8)).plan.kept_float


def test_a_factor_that_would_round_otherwise_stays_with_the_gemm(tmp_path: Path) -> None:
    weight_scales = np.linspace(0.01, 0.03, 5, dtype=np.float32)
    line = "[g] yq = com.microsoft.QGemm<alpha = 1.7>(xq, xs, xz, w, ws5, wz5, b, ys, yz)"
    constants = {"w": codes(8, 5), "ws5": weight_scales, "wz5": np.zeros(5, I8)}
    constants["b"] = np.arange(5, dtype=np.int32) * 1000
    path = write_text(tmp_path, body(line), {**PARAMS, **constants}, inputs="float[N,8] x")
    model = check_codes(path, feeds(3, 8))
    assert "the product is scaled" in model.plan.kept_float["g"]


MOVED = {
    "max-pool": ("MaxPool<kernel_shape = [2,2]>(xq)", {}),
    "clip": ("Clip(xq, low, high)", {"low": np.array(125, U8), "high": np.array(180, U8)}),
    "clip-below": ("Clip(xq, low)", {"low": np.array(125, U8)}),
    "reshape": ("Reshape(xq, s)", {"s": np.array([0, 2, 12, 6])}),
    "transpose": ("Transpose<perm = [0,2,3,1]>(xq)", {}),
    "slice": ("Slice(xq, a, b)", {"a": np.array([0, 1]), "b": np.array([9, 3])}),
    "gather": ("Gather<axis = 1>(xq, i)", {"i": np.array([3, 0, 1])}),
    "identity": ("Identity(xq)", {}),
    "concat": ("Concat<axis = 1>(xq, xq)", {}),
    "pad": ("Pad(xq, p, v)", {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "v": np.array(7, U8)}),
    "pad-without-a-value": ("Pad(xq, p)", {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1])}),
    "pad-reflected": ('Pad<mode = "reflect">(xq, p)', {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1])}),
    "nearest": (
        'Resize<mode = "nearest">(xq, , r)',
        {"r": np.array([1, 1, 2, 2], np.float32)},
    ),
    "depth-to-space": ("DepthToSpace<blocksize = 2>(xq)", {}),
}


@pytest.mark.parametrize("name", sorted(MOVED))
def test_an_op_on_codes(name: str, tmp_path: Path) -> None:
    op, constants = MOVED[name]
    text = body(f"[moved] yq = {op}").replace("(yq, ys, yz)", "(yq, xs, xz)")
    path = write_text(
        tmp_path, text, {**PARAMS, **constants}, inputs=PICTURE, outputs="float[N,C,H,W] y"
    )
    model = check_codes(path, feeds(3, 4, 6, 6))
    kinds = {node.op_type for node in model.prepared.program.nodes}
    assert only_float_for_lack_of_kernels(kinds, dict(model.plan.kept_float))
    assert model.plan.params["y"].equals(model.plan.params["x"])


def test_both_halves_of_a_split_have_the_parameters(tmp_path: Path) -> None:
    text = body(
        "aq, bq = Split<axis = 1>(xq)",
        "yq = com.microsoft.QLinearAdd(aq, xs, xz, bq, xs, xz, ys, yz)",
    )
    path = write_text(tmp_path, text, PARAMS, inputs=PICTURE, outputs="float[N,2,6,6] y")
    model = check_codes(path, feeds(3, 4, 6, 6))
    assert set(model.code_tensors.values()) == {"xq", "aq", "bq", "yq"}


def test_a_shape_and_indices_are_no_codes(tmp_path: Path) -> None:
    text = """xq = QuantizeLinear(x, xs, xz)
    s = Shape(xq)
    i = ArgMax<axis = 1>(xq)
    yq = MaxPool<kernel_shape = [2,2]>(xq)
    y = DequantizeLinear(yq, xs, xz)"""
    path = write_text(
        tmp_path,
        text,
        PARAMS,
        inputs=PICTURE,
        outputs="float[N,4,5,5] y, int64[4] s, int64[N,1,6,6] i",
    )
    _ = check_codes(path, feeds(3, 4, 6, 6))


def test_codes_that_are_fed_and_moved_first(tmp_path: Path) -> None:
    text = """tq = Transpose<perm = [0,3,1,2]>(x)
    [c_quant] yq = QLinearConv(tq, xs, xz, w, ws, wz, ys, yz)
    y = DequantizeLinear(yq, ys, yz)"""
    constants = {**PARAMS, "w": codes(5, 3, 1, 1), "wz": np.array(0, I8)}
    path = write_text(
        tmp_path, text, constants, inputs="uint8[N,6,6,3] x", outputs="float[N,5,6,6] y"
    )
    model = check_codes(path, {"x": codes(2, 6, 6, 3, dtype=U8)})
    assert not model.plan.kept_float
    assert model.plan.params["x"].equals(read_qdq(path).plan.params["x"])
    assert float(model.plan.params["x"].scale) == pytest.approx(0.03)


def test_linear_resize_of_codes_is_a_float_island(tmp_path: Path) -> None:
    text = body('[r] yq = Resize<mode = "linear">(xq, , f)').replace("yq, ys, yz", "yq, xs, xz")
    constants = {**PARAMS, "f": np.array([1, 1, 2, 2], np.float32)}
    path = write_text(tmp_path, text, constants, inputs=PICTURE, outputs="float[N,4,12,12] y")
    assert "onnxruntime rounds in its own way" in read_qdq(path).plan.kept_float["r"]


def test_a_product_with_float_output(tmp_path: Path) -> None:
    weight = {"w": codes(8, 5), "wz": np.array(0, I8), "b": np.arange(5, dtype=np.float32)}
    text = """xq = QuantizeLinear(x, xs, xz)
    [g] y = com.microsoft.QGemm(xq, xs, xz, w, ws, wz)
    [f] z = com.microsoft.MatMulIntegerToFloat(xq, w, xs, ws, xz, wz, b)"""
    path = write_text(
        tmp_path,
        text,
        {**PARAMS, **weight},
        inputs="float[N,8] x",
        outputs="float[N,5] y, float[N,5] z",
    )
    model = check_codes(path, feeds(3, 8))
    assert {"g", "f"} <= set(model.plan.kept_float)
    assert model.plan.kept_float["g"] == "its output 'y' is not quantized in the file"


@pytest.mark.parametrize("op_type", ["MatMulInteger", "ConvInteger"])
def test_sums_of_known_codes(tmp_path: Path, op_type: str) -> None:
    shape = (8,) if op_type == "MatMulInteger" else (4, 6, 6)
    weight = codes(8, 5) if op_type == "MatMulInteger" else codes(5, 4, 3, 3)
    text = f"""xq = QuantizeLinear(x, xs, xz)
    [p] sums = {op_type}(xq, w, xz, wz)
    real = Cast<to = 1>(sums)
    y = Mul(real, factor)"""
    constants = {
        **PARAMS,
        "w": weight,
        "wz": np.array(5, I8),
        "factor": np.array(0.0003, np.float32),
    }
    dimensions = ", ".join(map(str, ("N", *shape)))
    outputs = "float[N,5] y" if len(shape) == 1 else "float[N,5,4,4] y"
    path = write_text(tmp_path, text, constants, inputs=f"float[{dimensions}] x", outputs=outputs)
    model = check_codes(path, feeds(3, *shape))
    assert set(model.code_tensors.values()) == {"xq", "sums"}
    assert "p" not in model.plan.kept_float


def test_scales_known_only_at_run_time(tmp_path: Path) -> None:
    text = """[d] xq, s, z = DynamicQuantizeLinear(x)
    [p] sums = MatMulInteger(xq, w, z, wz)
    [to_float] real = Cast<to = 1>(sums)
    [scale] both = Mul(s, ws)
    [scaled] t = Mul(real, both)
    tq = QuantizeLinear(t, ys, yz)
    y = DequantizeLinear(tq, ys, yz)"""
    constants = {**PARAMS, "w": codes(8, 5), "wz": np.array(0, I8)}
    path = write_text(tmp_path, text, constants, inputs="float[N,8] x", outputs="float[N,5] y")
    model = check_codes(path, feeds(3, 8))
    assert set(model.plan.kept_float) == {"d", "p", "to_float", "scale", "scaled"}
    for name in ("d", "p"):
        assert model.plan.kept_float[name] == (
            "its scale is known only at run time (dynamic quantization)"
        )


CONV = "[c_quant] yq = QLinearConv(xq, xs, xz, w, ws, wz, ys, yz, b)"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[c_quant] yq = QLinearConv(xq, xs, xz, w, ws, wz, ys)", "Node.c_quant. .*input size 7"),
        (
            "[s] yq = com.microsoft.QLinearSigmoid(xq, xs, xz)",
            r"node 's' \(QLinearSigmoid\): its input 3 is missing",
        ),
        (
            "[a] yq = com.microsoft.QLinearAdd(xq, xs, xz, xq, , xz, ys, yz)",
            r"node 'a' \(QLinearAdd\): its input 4 is missing",
        ),
        (
            """late = ReduceMax<keepdims = 0>(x)
            [c_quant] yq = QLinearConv(xq, late, xz, w, ws, wz, ys, yz)""",
            r"node 'c_quant' \(QLinearConv\): its input 1, 'late', must be a constant",
        ),
        (
            """late = Cast<to = 6>(x)
            [c_quant] yq = QLinearConv(xq, xs, xz, w, ws, wz, ys, yz, late)""",
            "node 'c_quant': its bias 'late' is computed",
        ),
        (
            """tq = QuantizeLinear(x, ts, tz)
            [join] yq = Concat<axis = 1>(xq, tq)""",
            "node 'join': its scale and zero point are not those",
        ),
        (
            "[c_quant] yq = QLinearConv(xq, ts, xz, w, ws, wz, ys, yz)",
            "node 'c_quant': its scale and zero point are not those",
        ),
        (
            "[c_quant] yq = QLinearConv(xq, xs, xz, w, zero, wz, ys, yz)",
            "node 'c_quant': .*scale",
        ),
        (
            "[c_quant] yq = QLinearConv(xq, xs, xz, w, three, wz, ys, yz)",
            "node 'c_quant': .*3 scales",
        ),
        (
            "[c_quant] yq = QLinearConv(xq, xs, xz, w, none, wz, ys, yz)",
            "node 'c_quant' .*: the scale of its weight 'w' is empty",
        ),
        (
            "[c_quant] yq = QLinearConv(xq, xs, xz, w, column, wz, ys, yz)",
            r"node 'c_quant' .*: the scale of its weight 'w' has shape \(5, 1\)",
        ),
        (
            "[c_quant] yq = QLinearConv(xq, xs, xz, w, ws, wz, ys, yz, short)",
            r"node 'c_quant': its bias has shape \(4,\) for 5 output channels",
        ),
        (
            "[a] yq = com.microsoft.QLinearAdd(xq, xs, xz, xq, xs, xz, zero, yz)",
            "node 'a': scale of .* is 0.0",
        ),
        (
            """tq = QLinearConv(xq, xs, xz, w, ws, wz, ts, tz)
            [s] yq = com.microsoft.QLinearSigmoid(tq, ys, yz, ys, yz)""",
            "node 's': its scale and zero point are not those with which 'tq' was quantized",
        ),
    ],
)
def test_malformed_nodes_are_named(tmp_path: Path, line: str, message: str) -> None:
    constants = {
        **PARAMS,
        "w": codes(5, 4, 3, 3),
        "wz": np.array(0, I8),
        "b": np.arange(5, dtype=np.int32),
        "zero": np.array(0.0, np.float32),
        "three": np.array([0.1, 0.2, 0.3], np.float32),
        "none": np.zeros(0, np.float32),
        "column": np.full((5, 1), 0.1, np.float32),
        "short": np.arange(4, dtype=np.int32),
    }
    path = write_text(tmp_path, body(line), constants, inputs=PICTURE, outputs="float[N,C,H,W] y")
    with pytest.raises(ModelError, match=message):
        read_qdq(path)


def test_an_unknown_op_on_codes_is_named(tmp_path: Path) -> None:
    text = body("[odd] yq = com.microsoft.QLinearReduceMean<axes = [1]>(xq, xs, xz, ys, yz)")
    path = write_text(tmp_path, text, PARAMS, inputs=PICTURE, outputs="float[N,C,H,W] y")
    with pytest.raises(
        UnsupportedModelError, match=r"node 'odd': com.microsoft.QLinearReduceMean on integer codes"
    ):
        read_qdq(path)


@pytest.mark.parametrize(
    "line",
    [
        "[odd] yq = QLinearConv(xq, three, wz3, w, ws, wz, ys, yz, b)",
        "[odd] yq = com.microsoft.QLinearAdd(xq, three, wz3, xq, xs, xz, ys, yz)",
    ],
)
def test_activations_have_one_scale(tmp_path: Path, line: str) -> None:
    constants = {
        **PARAMS,
        "w": codes(5, 4, 3, 3),
        "wz": np.array(0, I8),
        "b": np.arange(5, dtype=np.int32),
        "three": np.array([0.1, 0.2, 0.3], np.float32),
        "wz3": np.zeros(3, U8),
    }
    path = write_text(tmp_path, body(line), constants, inputs=PICTURE, outputs="float[N,C,H,W] y")
    with pytest.raises(UnsupportedModelError, match=r"node 'odd' .*its input 0 has 3 scales"):
        read_qdq(path)


def test_softmax_of_another_opset_over_another_axis_is_refused(tmp_path: Path) -> None:
    text = body("[s] yq = com.microsoft.QLinearSoftmax<axis = 1, opset = 11>(xq, xs, xz, ys, yz)")
    path = write_text(tmp_path, text, PARAMS, inputs=PICTURE, outputs="float[N,C,H,W] y")
    with pytest.raises(UnsupportedModelError, match="node 's': QLinearSoftmax of opset 11"):
        read_qdq(path)
