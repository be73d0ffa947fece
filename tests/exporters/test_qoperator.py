from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from quantkit.config import QuantConfig
from quantkit.evaluation.integer_share import measured_mac_percent, planned_mac_percent
from quantkit.exporters.contract import EXPORTERS
from quantkit.exporters.qdq import qdq_graph
from quantkit.exporters.qoperator import qoperator_graph, write_qoperator
from quantkit.graph.model_io import load_model, serialize
from quantkit.integer_session import open_integer_session
from quantkit.quantized_model.model import QuantizedModel
from quantkit.quantized_model.qdq_reader import read_qdq
from quantkit.quantized_model.qoperator_forms import QLINEAR_OPS
from tests.exporters.real_networks import each_real_network, quantized_real_network
from tests.models import network as text_network
from tests.quantized_model.checks import check_equals_onnxruntime
from tests.quantized_model.qdq_texts import SHAPE
from tests.quantized_model.qdq_texts import write as write_pairs
from tests.quantized_model.qoperator_checks import QDQ, check_codes, write_text
from tests.quantized_model.random_networks import random_network
from tests.small_networks import (
    NETWORKS,
    Network,
    onnxruntime_outputs,
    quantized,
    quantized_network,
    random_feeds,
)

NAMES = sorted(NETWORKS)
# Ops that move or clamp codes themselves.
ON_CODES = {"Clip", "Flatten", "MaxPool", "Pad", "Reshape", "Transpose"}
# A Relu, and a bound between two codes, are read back as the Clip between codes that they are.
WITH_CLAMPS = {"clip_inside_the_range", "clip_of_the_input", "relu_of_an_output", "relu_read_twice"}


def op_types(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def check_exported(
    model: QuantizedModel, network: Network, folder: Path, *, same_qdq: bool = True
) -> QuantizedModel:
    """onnxruntime gives the session's codes, and the file says all that the model says."""
    path = folder / "qoperator.onnx"
    write_qoperator(model, path)
    onnx.checker.check_model(onnx.load(path))
    feeds = network.feeds(3)
    check_equals_onnxruntime(model, path, feeds)
    back = check_codes(path, feeds)
    assert set(back.plan.kept_float) == set(model.plan.kept_float)
    assert dict(back.accumulator_bounds) == dict(model.accumulator_bounds)
    names = [name for name in back.code_tensors if name in model.plan.params]
    assert names
    expected = open_integer_session(model).run_codes(feeds, names)
    for name, codes in open_integer_session(back).run_codes(feeds, names).items():
        np.testing.assert_array_equal(codes, expected[name], err_msg=name)
    if same_qdq:
        assert serialize(qdq_graph(back)) == serialize(qdq_graph(model))
    return back


@pytest.mark.parametrize("name", NAMES)
def test_same_codes_in_onnxruntime_and_read_back(name: str, tmp_path: Path) -> None:
    network, model = NETWORKS[name], quantized_network(name)
    check_exported(model, network, tmp_path, same_qdq=name not in WITH_CLAMPS)
    feeds = network.feeds(2)
    qdq = onnxruntime_outputs(qdq_graph(model), feeds)
    for key, array in onnxruntime_outputs(tmp_path / "qoperator.onnx", feeds).items():
        np.testing.assert_array_equal(array, qdq[key], err_msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_computes_on_codes(name: str) -> None:
    network = NETWORKS[name]
    exported = qoperator_graph(quantized_network(name))
    kinds = op_types(exported)
    floats = {k for k in kinds if not k.startswith("Q") and k not in QDQ | ON_CODES}
    assert set(network.kept_float) <= floats
    assert floats.isdisjoint(QLINEAR_OPS)
    if not floats:
        assert kinds.count("QuantizeLinear") == len(exported.graph.inputs)
        assert kinds.count("DequantizeLinear") == len(exported.graph.outputs)


@pytest.mark.parametrize("name", NAMES)
def test_interface_is_the_float_networks(name: str) -> None:
    source, exported = NETWORKS[name].model(), qoperator_graph(quantized_network(name))
    for old, new in (
        (source.graph.inputs, exported.graph.inputs),
        (source.graph.outputs, exported.graph.outputs),
    ):
        assert [(v.name, str(v.shape), v.dtype) for v in old] == [
            (v.name, str(v.shape), v.dtype) for v in new
        ]
    assert exported.opset_imports[""] == source.opset_imports[""]


def test_names_are_onnxruntimes() -> None:
    exported = qoperator_graph(quantized_network("mobile"))
    values = {value.name for node in exported.graph for value in node.outputs}
    assert {"x_quantized", "y_quantized", "f_quantized", "y"} <= values
    assert {"x_scale", "x_zero_point", "w2_quantized", "w2_scale", "w2_zero_point"} <= set(
        exported.graph.initializers
    )
    # Only what is read is left: no scale of a bias, no real weight.
    read = {value.name for node in exported.graph for value in node.inputs if value is not None}
    assert set(exported.graph.initializers) <= read
    assert {"stem_quant", "depthwise_quant", "join_quant", "classes_quant"} <= {
        node.name for node in exported.graph
    }
    assert exported.opset_imports["com.microsoft"] == 1


def test_every_name_is_used_once_beside_look_alikes(tmp_path: Path) -> None:
    network = Network(
        """(float[N,4] x, float[4,4] w, float[4,3] w_quantized) => (float[N,3] y) {
          x_quantized = MatMul(x, w)
          y_QuantizeLinear = Relu(x_quantized)
          y = MatMul(y_QuantizeLinear, w_quantized)
        }""",
        (4,),
    )
    model, _ = quantized(network)
    exported = qoperator_graph(model)
    names = [value.name for node in exported.graph for value in node.outputs]
    names += list(exported.graph.initializers)
    assert len(names) == len(set(names))
    check_exported(model, network, tmp_path, same_qdq=False)


OTHER_OPS = {
    "mul": ("m = Mul(c, x)", "QLinearMul"),
    "concat": ("m = Concat<axis = 1>(c, x)\n[last] d = Conv(m, v)", "QLinearConcat"),
    "sigmoid": ("m = Sigmoid(c)", "QLinearSigmoid"),
    "leaky": ("m = LeakyRelu<alpha = 0.2>(c)", "QLinearLeakyRelu"),
    "softmax": ("m = Softmax<axis = 1>(c)", "QLinearSoftmax"),
    "slice": ("a, b = Split<axis = 1>(c)\nm = Add(a, b)", "Split"),
    "nearest": (
        """f = Constant<value = float[4] {1.0, 1.0, 2.0, 2.0}>()
        empty = Constant<value = float[0] {}>()
        m = Resize<mode = "nearest">(c, empty, f)""",
        "Resize",
    ),
}


@pytest.mark.parametrize("name", sorted(OTHER_OPS))
def test_other_ops(name: str, tmp_path: Path) -> None:
    lines, expected = OTHER_OPS[name]
    if name != "concat":
        channels = 2 if name == "slice" else 4
        lines += f"\n[last] d = Conv(m, v{channels})"
    network = Network(
        f"""(float[N,4,8,8] x, float[4,4,3,3] w, float[4,8,1,1] v, float[4,4,1,1] v4,
        float[4,2,1,1] v2) => (float[N,4,H,W] y) {{
          c = Conv<pads = [1,1,1,1]>(x, w)
          {lines}
          y = Conv(d, v4)
        }}""",
        (4, 8, 8),
    )
    model, _ = quantized(network)
    if any(reason.startswith("no integer kernel") for reason in model.plan.kept_float.values()):
        pytest.skip(f"no integer kernel for {name}")
    assert expected in op_types(qoperator_graph(model))
    check_exported(model, network, tmp_path)


@pytest.mark.parametrize(
    "config", [QuantConfig(per_channel=False), QuantConfig(reduce_range=True)], ids=repr
)
def test_options(config: QuantConfig, tmp_path: Path) -> None:
    model, _ = quantized(NETWORKS["mobile"], config)
    check_exported(model, NETWORKS["mobile"], tmp_path)


@pytest.mark.parametrize(
    ("name", "excluded"),
    [("mobile", "last"), ("mobile", "join"), ("mobile", "stem"), ("mobile", "classes")],
)
def test_an_excluded_node_stays_float(name: str, excluded: str, tmp_path: Path) -> None:
    model, _ = quantized(NETWORKS[name], QuantConfig(nodes_to_exclude=(excluded,)))
    back = check_exported(model, NETWORKS[name], tmp_path)
    assert back.plan.kept_float[excluded] == "excluded by --nodes-to-exclude"
    assert excluded in {node.name for node in qoperator_graph(model).graph}


@pytest.mark.parametrize("seed", range(30))
def test_random_networks(seed: int, tmp_path: Path) -> None:
    network = random_network(seed)
    model, _ = quantized(network, seed=seed)
    exported, feeds = qoperator_graph(model), network.feeds(3, seed=seed)
    actual = open_integer_session(model).run(feeds)
    for name, array in onnxruntime_outputs(exported, feeds).items():
        # onnxruntime adds in another order in a float island.
        step = 0.0 if not model.plan.kept_float else 1e-5
        if name in model.plan.params and step:
            step = 1.001 * float(model.plan.params[name].scale)
        np.testing.assert_allclose(actual[name], array, rtol=0.0, atol=step)
    if any(node.op_type == "QuantizeLinear" for node in exported.graph):
        ir.save(exported, tmp_path / "q.onnx")
        back = open_integer_session(read_qdq(tmp_path / "q.onnx")).run(feeds)
        for name, array in actual.items():
            np.testing.assert_array_equal(back[name], array)


@pytest.mark.parametrize(
    ("dtype", "expected"), [("uint8", "QLinearConv"), ("int8", "Conv")], ids=str
)
def test_types_that_no_kernel_takes_are_left_between_pairs(
    tmp_path: Path, dtype: str, expected: str
) -> None:
    """uint8 weights go with uint8 codes only."""
    zero = 120 if dtype == "uint8" else -8
    changes = {
        "xz": f"{dtype} xz = {{{zero}}}",
        "yz": f"{dtype} yz = {{{zero}}}",
        "w": "uint8[2,3,1,1] w_quantized = {10, 20, 255, 0, 64, 130}",
        "wz": "uint8[2] wz = {128, 128}",
    }
    model = read_qdq(write_pairs(tmp_path, changes))
    exported = qoperator_graph(model)
    assert expected in op_types(exported)
    feeds = random_feeds(model.prepared.model, SHAPE, 3, seed=0)
    actual = open_integer_session(model).run(feeds)["y"]
    step = float(model.plan.params["y"].scale) * 1.001 if dtype == "int8" else 0.0
    got = onnxruntime_outputs(exported, feeds)["y"]
    np.testing.assert_allclose(got, actual, rtol=0.0, atol=step)


def test_parameters_that_change_on_the_way_keep_the_pairs(tmp_path: Path) -> None:
    changes = {
        "c": "[conv] c = Conv(xd, wd, bd)",
        "yd": """yd = DequantizeLinear(yq, ys, yz)
                 p = MaxPool<kernel_shape = [2,2]>(yd)
                 pq = QuantizeLinear(p, ts, tz)
                 y = DequantizeLinear(pq, ts, tz)""",
        "+t": "float ts = {0.07}, uint8 tz = {90}",
    }
    path = write_pairs(tmp_path, changes, outputs="float[N,2,5,5] y")
    model = read_qdq(path)
    kinds = op_types(qoperator_graph(model))
    assert kinds == [
        *("QuantizeLinear", "QLinearConv", "DequantizeLinear", "MaxPool"),
        *("QuantizeLinear", "DequantizeLinear"),
    ]
    feeds = random_feeds(model.prepared.model, SHAPE, 3, seed=0)
    check_equals_onnxruntime(model, qoperator_graph(model), feeds)


def test_scales_per_channel_raise_the_opset_for_pairs_only(tmp_path: Path) -> None:
    """QLinearConv has them since opset 10, DequantizeLinear since 13."""
    path = write_text(
        tmp_path,
        """xq = QuantizeLinear(x, s, z)
        [c_quant] yq = QLinearConv(xq, s, z, w, t, u, s, z)
        y = DequantizeLinear(yq, s, z)""",
        {
            "s": np.array(0.03, np.float32),
            "z": np.array(100, np.uint8),
            "w": np.arange(-6, 6, dtype=np.int8).reshape(4, 3, 1, 1) * 20,
            "t": np.linspace(0.01, 0.05, 4, dtype=np.float32),
            "u": np.zeros(4, np.int8),
        },
        inputs="float[N,3,6,6] x",
        outputs="float[N,4,6,6] y",
        opset=11,
    )
    feeds = random_feeds(load_model(path), (3, 6, 6), 2, seed=0)
    model = check_codes(path, feeds)
    assert qdq_graph(model).opset_imports[""] == 13
    for exported in (qdq_graph(model), qoperator_graph(model)):
        check_equals_onnxruntime(model, exported, feeds)


@pytest.mark.parametrize("op_type", ["ConvInteger", "MatMulInteger"])
def test_int32_sums_are_written_as_they_were(tmp_path: Path, op_type: str) -> None:
    shape = (8,) if op_type == "MatMulInteger" else (4, 6, 6)
    weight_shape = (8, 5) if op_type == "MatMulInteger" else (5, 4, 3, 3)
    path = write_text(
        tmp_path,
        f"""xq = QuantizeLinear(x, s, z)
        [p] sums = {op_type}(xq, w, z, u)
        real = Cast<to = 1>(sums)
        y = Mul(real, factor)""",
        {
            "s": np.array(0.03, np.float32),
            "z": np.array(100, np.uint8),
            "w": np.random.default_rng(0).integers(-128, 128, weight_shape, np.int8),
            "u": np.array(5, np.int8),
            "factor": np.array(0.0003, np.float32),
        },
        inputs=f"float[{', '.join(map(str, ('N', *shape)))}] x",
        outputs="float[N,5] y" if len(shape) == 1 else "float[N,5,4,4] y",
    )
    feeds = random_feeds(load_model(path), shape, 2, seed=0)
    model = check_codes(path, feeds)
    for exported in (qdq_graph(model), qoperator_graph(model)):
        assert op_type in op_types(exported)
        ir.save(exported, tmp_path / "again.onnx")
        onnx.checker.check_model(onnx.load(tmp_path / "again.onnx"))
        check_codes(tmp_path / "again.onnx", feeds)
        expected = onnxruntime_outputs(path, feeds)["y"]
        actual = onnxruntime_outputs(tmp_path / "again.onnx", feeds)["y"]
        np.testing.assert_array_equal(actual, expected)


def test_before_opset_13_codes_are_not_moved(tmp_path: Path) -> None:
    """ONNX lets Clip and MaxPool take 8-bit codes since opset 12, Resize since 13."""
    model = text_network(
        """xq = QuantizeLinear(x, s, z)
        xd = DequantizeLinear(xq, s, z)
        p = MaxPool<kernel_shape = [2,2]>(xd)
        pq = QuantizeLinear(p, s, z)
        y = DequantizeLinear(pq, s, z)""",
        {"s": np.array(0.03, np.float32), "z": np.array(100, np.uint8)},
        opset=11,
    )
    ir.save(model, tmp_path / "q.onnx")
    back = read_qdq(tmp_path / "q.onnx")
    exported = qoperator_graph(back)
    assert exported.opset_imports[""] == 11
    assert op_types(exported) == op_types(model)
    check_equals_onnxruntime(back, exported, random_feeds(back.prepared.model, (3, 8, 8), 2, 0))


def test_registered_writer_writes_a_whole_file(tmp_path: Path) -> None:
    assert EXPORTERS["qoperator"] is write_qoperator
    model = quantized_network("mobile")
    write_qoperator(model, tmp_path / "q.onnx")
    assert (tmp_path / "q.onnx").read_bytes() == serialize(qoperator_graph(model))
    assert [path.name for path in tmp_path.iterdir()] == ["q.onnx"]


def test_the_model_itself_is_not_changed() -> None:
    model = quantized_network("several_outputs")
    before = serialize(model.prepared.model)
    assert serialize(qoperator_graph(model)) == serialize(qoperator_graph(model))
    assert serialize(model.prepared.model) == before


def test_metadata_is_the_qdq_exporters(tmp_path: Path) -> None:
    model, _ = quantized(NETWORKS["mobile"], QuantConfig(nodes_to_exclude=("last",)))
    write_qoperator(model, tmp_path / "q.onnx")
    written = load_model(tmp_path / "q.onnx")
    assert dict(written.metadata_props) == dict(qdq_graph(model).metadata_props)
    assert written.producer_name == "quantkit"


def test_the_share_of_integers_is_found_in_the_file(tmp_path: Path) -> None:
    model = quantized_network("mobile")
    write_qoperator(model, tmp_path / "q.onnx")
    planned = planned_mac_percent(model)
    measured = measured_mac_percent(tmp_path / "q.onnx", model.prepared.program)
    assert planned == measured == 100.0


@pytest.mark.slow
@each_real_network
def test_real_networks(zoo: Path, file: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    model = quantized_real_network(zoo, file, shape)
    exported = qoperator_graph(model)
    kinds = op_types(exported)
    assert kinds.count("QuantizeLinear") == len(exported.graph.inputs)
    assert kinds.count("DequantizeLinear") == len(exported.graph.outputs)
    write_qoperator(model, tmp_path / "q.onnx")
    feeds = random_feeds(model.prepared.model, shape, 2, seed=3)
    check_equals_onnxruntime(model, tmp_path / "q.onnx", feeds)
    back = check_codes(tmp_path / "q.onnx", feeds)
    check_equals_onnxruntime(back, qdq_graph(back), feeds)
