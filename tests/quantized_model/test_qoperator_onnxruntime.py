"""QOperator files of onnxruntime's own quantizer."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.shape_inference import quant_pre_process

from quantkit.exporters.qdq import qdq_graph
from quantkit.graph.model_io import load_model
from quantkit.graph.ort_session import open_session
from quantkit.integer_session import open_integer_session
from quantkit.quantized_model.qoperator_forms import form_of
from tests.quantized_model.checks import check_equals_onnxruntime
from tests.quantized_model.qoperator_checks import (
    QDQ,
    check_codes,
    op_types,
    quantize_to_qoperator,
)
from tests.small_networks import NETWORKS, quantized_network, random_feeds

OPTIONS: dict[str, dict[str, Any]] = {
    "u8s8": {},
    "u8u8": {"weight_type": QuantType.QUInt8},
    "s8s8": {"activation_type": QuantType.QInt8},
    "channels": {"per_channel": True},
}


# onnxruntime's quantizer writes no valid QOperator file of a Where ("unknown tensors").
NAMES = sorted(set(NETWORKS) - {"where"})


@pytest.mark.parametrize("option", sorted(OPTIONS))
@pytest.mark.parametrize("name", NAMES)
def test_every_code_is_onnxruntimes(name: str, option: str, tmp_path: Path) -> None:
    source, path = tmp_path / "float.onnx", tmp_path / "quantized.onnx"
    ir.save(NETWORKS[name].model(), source)
    feeds = [NETWORKS[name].feeds(1, seed=seed) for seed in range(4)]
    quantize_to_qoperator(source, path, feeds, **OPTIONS[option])
    assert any(op_type.startswith("QLinear") for op_type in op_types(path))
    model = check_codes(path, NETWORKS[name].feeds(3))
    # What the file computes on codes is integer; what it leaves float is not always.
    on_codes = {
        str(node.name).removesuffix("_quant")
        for node in load_model(path).graph
        if form_of(node) is not None
    }
    assert on_codes
    assert on_codes.isdisjoint(model.plan.kept_float)
    if not model.plan.kept_float:
        check_equals_onnxruntime(model, qdq_graph(model), NETWORKS[name].feeds(2))


@pytest.mark.parametrize("name", ["average_with_border", "max_pool", "mobile", "residual"])
def test_what_onnxruntimes_optimizer_writes(name: str, tmp_path: Path) -> None:
    """It puts channels last."""
    network = NETWORKS[name]
    path = tmp_path / "optimized.onnx"
    _ = open_session(qdq_graph(quantized_network(name)), optimized_to=path)
    assert any(
        "channels_last" in node.attributes or node.op_type == "NhwcMaxPool"
        for node in load_model(path).graph
    )
    model = check_codes(path, network.feeds(2))
    assert not model.plan.kept_float
    integer = {node.op_type for node in model.prepared.program.nodes} - {"Transpose"}
    original = quantized_network(name).prepared.program
    assert integer == {node.op_type for node in original.nodes} - {"Relu", "Clip"}


def test_nodes_have_the_float_models_names(tmp_path: Path) -> None:
    source, path = tmp_path / "float.onnx", tmp_path / "quantized.onnx"
    network = NETWORKS["residual"]
    ir.save(network.model(), source)
    quantize_to_qoperator(source, path, [network.feeds(1)])
    model = check_codes(path, network.feeds(1))
    assert {"sum", "again"} <= {node.name for node in model.prepared.program.nodes}
    assert {"sum_quant", "again_quant"} <= {node.name for node in load_model(path).graph}
    assert model.code_tensors["x"] == "x_quantized"


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="u8s8"),
        pytest.param({"per_channel": True}, id="channels"),
        pytest.param({"activation_type": QuantType.QInt8}, id="s8s8"),
    ],
)
@pytest.mark.parametrize(
    ("file", "shape"),
    [
        ("resnet8_cifar10", (3, 32, 32)),
        ("kws_dscnn", (1, 49, 10)),
        ("mobilenet_v1_025", (3, 224, 224)),
    ],
)
def test_real_networks(
    zoo: Path, file: str, shape: tuple[int, ...], options: dict[str, Any], tmp_path: Path
) -> None:
    source, path = tmp_path / "float.onnx", tmp_path / "quantized.onnx"
    quant_pre_process(str(zoo / "models" / f"{file}.onnx"), str(source), skip_symbolic_shape=True)
    float_model = load_model(source)
    feeds = [random_feeds(float_model, shape, 1, seed=seed) for seed in range(2)]
    quantize_to_qoperator(source, path, feeds, **options)
    model = check_codes(path, random_feeds(float_model, shape, 2, seed=5))
    assert not model.plan.kept_float
    assert len(model.code_tensors) > 10
    strict = open_integer_session(model, strict_integer=True)
    feeds_of_one = random_feeds(float_model, shape, 1, seed=6)
    fast = open_integer_session(model).run(feeds_of_one)
    for name, array in strict.run(feeds_of_one).items():
        np.testing.assert_array_equal(fast[name], array)
    assert op_types(path) - QDQ <= {
        *("QLinearConv", "QGemm", "QLinearAdd", "QLinearAveragePool", "QLinearMatMul"),
        *("QLinearGlobalAveragePool", "QLinearSoftmax", "Reshape", "Flatten", "Transpose"),
        *("Squeeze", "Identity"),
    }
