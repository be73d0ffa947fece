from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from quantkit.config import QuantConfig
from quantkit.exporters.contract import EXPORTERS
from quantkit.exporters.qdq import qdq_graph, write_qdq
from quantkit.graph.model_io import load_model, serialize
from quantkit.graph.ort_session import open_session, optimized_program
from quantkit.integer_session import open_integer_session
from quantkit.pipeline import quantize
from quantkit.plan import make_plan
from quantkit.quantized_model.model import quantize_model
from quantkit.quantized_model.qdq_reader import read_qdq
from tests.exporters.real_networks import each_real_network, quantized_real_network
from tests.quantized_model.checks import (
    check_close_to_float,
    check_equals_onnxruntime,
    check_fused,
    check_read_back,
)
from tests.quantized_model.random_networks import random_network
from tests.small_networks import (
    NETWORKS,
    Network,
    calibrated,
    calibration_feeds,
    float_model,
    onnxruntime_outputs,
    quantized,
    quantized_network,
    random_feeds,
)

NAMES = sorted(NETWORKS)


@pytest.mark.parametrize("name", NAMES)
def test_onnxruntime_runs_integer_kernels(name: str) -> None:
    check_fused(qdq_graph(quantized_network(name)), in_floats=NETWORKS[name].float_in_onnxruntime)


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("name", NAMES)
def test_integer_session_equals_onnxruntime(name: str, batch: int) -> None:
    model = quantized_network(name)
    check_equals_onnxruntime(model, qdq_graph(model), NETWORKS[name].feeds(batch))


@pytest.mark.parametrize("name", NAMES)
def test_read_back_and_export_give_the_same_bytes(name: str, tmp_path: Path) -> None:
    model = quantized_network(name)
    back = check_read_back(model, qdq_graph(model), tmp_path)
    check_equals_onnxruntime(back, qdq_graph(model), NETWORKS[name].feeds(2))


@pytest.mark.parametrize("name", NAMES)
def test_close_to_the_float_network(name: str) -> None:
    network, model = NETWORKS[name], quantized_network(name)
    check_close_to_float(
        qdq_graph(model), network.model(), calibration_feeds(network), min_sqnr_db=30.0
    )


@pytest.mark.parametrize("name", NAMES)
def test_valid_and_deterministic(name: str) -> None:
    first = serialize(qdq_graph(quantized(NETWORKS[name])[0]))
    onnx.checker.check_model(first, full_check=True)
    assert first == serialize(qdq_graph(quantized(NETWORKS[name])[0]))


@pytest.mark.parametrize("name", NAMES)
def test_interface_is_the_float_networks(name: str) -> None:
    source, exported = NETWORKS[name].model(), qdq_graph(quantized_network(name))
    for old, new in (
        (source.graph.inputs, exported.graph.inputs),
        (source.graph.outputs, exported.graph.outputs),
    ):
        assert [(v.name, str(v.shape), v.dtype) for v in old] == [
            (v.name, str(v.shape), v.dtype) for v in new
        ]
    assert exported.opset_imports[""] == source.opset_imports[""]
    assert exported.ir_version == source.ir_version


def test_names_are_onnxruntimes() -> None:
    exported = qdq_graph(quantized_network("mobile"))
    values = {value.name for node in exported.graph for value in node.outputs}
    assert {
        "x_QuantizeLinear_Output",
        "x_DequantizeLinear_Output",
        "y_QuantizeLinear_Input",
        "y_QuantizeLinear_Output",
        "w2_DequantizeLinear_Output",
    } <= values
    assert {"x_scale", "x_zero_point", "w2_quantized", "w2_scale", "w2_zero_point"} <= set(
        exported.graph.initializers
    )
    assert {"w2", "b2", "g0_gamma"}.isdisjoint(exported.graph.initializers)


def test_every_name_is_used_once_beside_look_alikes(tmp_path: Path) -> None:
    network = Network(
        """(float[N,4] x, float[4,4] w, float[4,3] w_quantized) => (float[N,3] y) {
          x_QuantizeLinear_Output = MatMul(x, w)
          y_QuantizeLinear_Input = Relu(x_QuantizeLinear_Output)
          y = MatMul(y_QuantizeLinear_Input, w_quantized)
        }""",
        (4,),
    )
    model, _ = quantized(network)
    exported = qdq_graph(model)
    names = [value.name for node in exported.graph for value in node.outputs]
    names += list(exported.graph.initializers)
    assert len(names) == len(set(names))
    check_fused(exported, in_floats=frozenset())
    check_equals_onnxruntime(model, exported, network.feeds(3))
    ir.save(exported, tmp_path / "q.onnx")
    check_equals_onnxruntime(read_qdq(tmp_path / "q.onnx"), exported, network.feeds(3))


@pytest.mark.parametrize(("opset", "expected"), [(11, 13), (13, 13), (21, 21)])
def test_opset_is_raised_only_where_channels_need_it(opset: int, expected: int) -> None:
    text = "(float[N,4] x, float[4,3] w) => (float[N,3] y) { y = MatMul(x, w) }"
    prepared, table = calibrated(float_model(text, opset=opset), (4,))
    model = quantize_model(prepared, make_plan(prepared, table))
    exported = qdq_graph(model)
    assert exported.opset_imports[""] == expected
    check_equals_onnxruntime(model, exported, random_feeds(exported, (4,), 3, seed=1))


def test_metadata_of_user_and_quantkit_survive(tmp_path: Path) -> None:
    network = NETWORKS["mobile"]
    source = network.model()
    source.metadata_props["names"] = "{0: 'cat'}"
    source.producer_name, source.producer_version = "pytorch", "2.9"
    data = [network.feeds(1, seed=seed) for seed in range(3)]
    result = quantize(calibrated(source, network.input_shape)[0], data)
    path = tmp_path / "q.onnx"
    result.save(path)
    exported = load_model(path)
    assert exported.metadata_props["names"] == "{0: 'cat'}"
    assert exported.producer_name == "quantkit"
    assert exported.producer_version == result.model.metadata["version"]
    back = read_qdq(path)
    assert dict(back.metadata) == dict(result.model.metadata)
    assert serialize(qdq_graph(back)) == path.read_bytes()


def test_the_model_itself_is_not_changed() -> None:
    model = quantized_network("several_outputs")
    before = serialize(model.prepared.model)
    _ = qdq_graph(model)
    assert serialize(model.prepared.model) == before


def test_implied_clamps_are_left_out_and_others_kept() -> None:
    kinds = {node.op_type for node in qdq_graph(quantized_network("mobile")).graph}
    assert kinds.isdisjoint({"Clip", "Relu"})
    kinds = {node.op_type for node in qdq_graph(quantized_network("clip_inside_the_range")).graph}
    assert "Clip" in kinds


def test_a_clamp_between_two_scales_is_not_left_out(tmp_path: Path) -> None:
    """Another tool may quantize before and after a Relu: both roundings happen."""
    text = """<ir_version: 8, opset_import: ["": 17]>
    network (float[N,50] x) => (float[N,50] y)
    <float s = {0.05}, uint8 z = {100}, float t = {0.03}, uint8 u = {0}> {
      a = QuantizeLinear(x, s, z)
      b = DequantizeLinear(a, s, z)
      c = Relu(b)
      d = QuantizeLinear(c, t, u)
      y = DequantizeLinear(d, t, u)
    }"""
    ir.save(ir.from_onnx_text(text), tmp_path / "relu.onnx")
    model = read_qdq(tmp_path / "relu.onnx")
    assert not model.plan.kept_float
    feeds = random_feeds(model.prepared.model, (50,), 4, seed=0)
    check_equals_onnxruntime(model, tmp_path / "relu.onnx", feeds)
    check_equals_onnxruntime(model, qdq_graph(model), feeds)


@pytest.mark.parametrize(
    "config", [QuantConfig(per_channel=False), QuantConfig(reduce_range=True)], ids=repr
)
def test_options(config: QuantConfig, tmp_path: Path) -> None:
    network = NETWORKS["mobile"]
    model, _ = quantized(network, config)
    exported = qdq_graph(model)
    check_fused(exported, in_floats=frozenset())
    check_equals_onnxruntime(model, exported, network.feeds(3))
    _ = check_read_back(model, exported, tmp_path)


@pytest.mark.parametrize(
    ("name", "excluded", "in_floats"),
    [
        # onnxruntime quantizes the weight of a float Conv between Q/DQ by itself; the Clip is
        # what keeps it from that.
        ("mobile", "last", {"Clip", "Conv"}),
        ("mobile", "depthwise", {"Clip", "Conv"}),
        ("mobile", "join", {"Clip", "Add"}),
        ("mobile", "stem", {"Conv"}),
        ("mobile", "classes", {"Clip", "Gemm"}),
        ("matmul", "m", {"MatMul"}),
    ],
)
def test_an_excluded_node_is_float_in_onnxruntime(
    name: str, excluded: str, in_floats: set[str], tmp_path: Path
) -> None:
    network = NETWORKS[name]
    model, _ = quantized(network, QuantConfig(nodes_to_exclude=(excluded,)))
    exported = qdq_graph(model)
    kinds = {node.op_type for node in optimized_program(exported).nodes}
    assert in_floats <= kinds
    check_equals_onnxruntime(model, exported, network.feeds(3))
    _ = check_read_back(model, exported, tmp_path)


def test_a_dilated_average_is_right_in_onnxruntime() -> None:
    """onnxruntime's integer kernel ignores dilations, so the node must not be fused."""
    network = Network(
        """(float[N,3,9,9] x, float[3,3,1,1] w) => (float[N,3,5,5] y) {
          c = Conv(x, w)
          [dilated] a = AveragePool<kernel_shape = [3,3], dilations = [2,2]>(c)
          y = Conv(a, w)
        }""",
        (3, 9, 9),
    )
    prepared, table = calibrated(float_model(network.text, opset=19), (3, 9, 9))
    model = quantize_model(prepared, make_plan(prepared, table))
    assert set(model.plan.kept_float) == {"dilated"}
    check_equals_onnxruntime(model, qdq_graph(model), network.feeds(3))
    check_close_to_float(
        qdq_graph(model), prepared.model, calibration_feeds(network), min_sqnr_db=25.0
    )


def test_movement_that_the_planner_keeps_float_stays_float(tmp_path: Path) -> None:
    """The file says which nodes are float: codes could be passed on through the MaxPool."""
    network = Network(
        """(float[N,3,8,8] x, float[4,3,3,3] w) => (float[N,4,6,6] y, float[N,3,4,4] z) {
          y = Conv(x, w)
          [pool] z = MaxPool<kernel_shape = [2,2], strides = [2,2]>(x)
        }""",
        (3, 8, 8),
    )
    model, _ = quantized(network)
    assert set(model.plan.kept_float) == {"pool"}
    back = check_read_back(model, qdq_graph(model), tmp_path)
    assert dict(back.plan.kept_float) == dict(model.plan.kept_float)
    check_equals_onnxruntime(back, qdq_graph(model), network.feeds(2))


def test_registered_writer_writes_a_whole_file(tmp_path: Path) -> None:
    assert EXPORTERS["qdq"] is write_qdq
    model = quantized_network("mobile")
    write_qdq(model, tmp_path / "q.onnx")
    assert (tmp_path / "q.onnx").read_bytes() == serialize(qdq_graph(model))
    assert [path.name for path in tmp_path.iterdir()] == ["q.onnx"]


@pytest.mark.parametrize("seed", range(40))
def test_random_networks(seed: int, tmp_path: Path) -> None:
    check_random_network(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40, 400))
def test_more_random_networks(seed: int, tmp_path: Path) -> None:
    check_random_network(seed, tmp_path)


def check_random_network(seed: int, folder: Path) -> None:
    network = random_network(seed)
    plain = quantized(network, seed=seed)[0].prepared
    # A node that only moves values is as good as integer wherever its two ends are quantized.
    names = [
        node.name
        for node in plain.program.nodes
        if node.op_type in ("Conv", "Add", "AveragePool", "Softmax", "Shrink", "Sigmoid")
    ]
    excluded = np.random.default_rng(seed).choice(names, 1) if names and seed % 4 == 0 else ()
    config = QuantConfig(nodes_to_exclude=tuple(str(name) for name in excluded))
    model, _ = quantized(network, config, seed=seed)
    exported = qdq_graph(model)
    feeds = network.feeds(3, seed=seed)
    expected, actual = onnxruntime_outputs(exported, feeds), open_integer_session(model).run(feeds)
    for name, array in expected.items():
        # Two float convolutions add in different orders; a code may then round the other way.
        step = float(model.plan.params[name].scale) if name in model.plan.params else 1e-5
        step = 1.001 * step if len(excluded) else 0.0
        np.testing.assert_allclose(actual[name], array, rtol=0.0, atol=step)
        assert np.mean(np.abs(actual[name] - array) > 1e-5) < 0.02
    if any(node.op_type == "QuantizeLinear" for node in exported.graph):
        _ = check_read_back(model, exported, folder)


@pytest.mark.slow
@each_real_network
def test_real_networks(zoo: Path, file: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    model = quantized_real_network(zoo, file, shape)
    exported = qdq_graph(model)
    check_fused(exported, in_floats=frozenset())
    check_equals_onnxruntime(model, exported, random_feeds(model.prepared.model, shape, 2, seed=3))
    _ = check_read_back(model, exported, tmp_path)


def test_dynamic_batch_is_kept() -> None:
    session = open_session(qdq_graph(quantized_network("mobile")))
    assert session.inputs[0].shape == ("N", 3, 16, 16)
    assert session.outputs[0].shape == ("N", 5)
