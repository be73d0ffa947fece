"""Files of other tools: onnxruntime's own quantizer, and the zoo's files."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from quantkit.calibration.batches import batches
from quantkit.calibration.dataset import open_dataset
from quantkit.calibration.preprocessing import PRESETS
from quantkit.exporters.qdq import qdq_graph
from quantkit.graph.model_io import load_model
from quantkit.graph.ort_session import open_session, with_outputs
from quantkit.graph.program import Array
from quantkit.integer_session import open_integer_session
from quantkit.quantized_model.qdq_reader import read_qdq
from tests.quantized_model.checks import check_equals_onnxruntime
from tests.small_networks import NETWORKS, Network

SOME = ["mobile", "residual", "matmul", "softmax", "max_pool", "several_outputs", "float_island"]


class Samples(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: list[dict[str, Array]]) -> None:
        self._feeds: Iterator[dict[str, Array]] = iter(feeds)

    def get_next(self) -> dict[str, Array] | None:
        return next(self._feeds, None)


def quantized_by_onnxruntime(
    network: Network, folder: Path, *, preprocess: bool = False, **options: Any
) -> Path:
    source, path = folder / "float.onnx", folder / "quantized.onnx"
    ir.save(network.model(), source)
    if preprocess:
        quant_pre_process(str(source), str(source), skip_symbolic_shape=True)
    quantize_static(
        str(source),
        str(path),
        Samples([network.feeds(1, seed=seed) for seed in range(4)]),
        **{
            "quant_format": QuantFormat.QDQ,
            "activation_type": QuantType.QUInt8,
            "weight_type": QuantType.QInt8,
            **options,
        },
    )
    return path


def run_int8(path: Path, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """With int8 kernels: by default onnxruntime on x86 turns int8 activations into uint8 ones."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


@pytest.mark.parametrize("preprocess", [False, True], ids=["plain", "preprocessed"])
@pytest.mark.parametrize("per_channel", [False, True], ids=["per-tensor", "per-channel"])
@pytest.mark.parametrize("name", SOME)
def test_uint8_files_of_onnxruntime(
    name: str, per_channel: bool, preprocess: bool, tmp_path: Path
) -> None:
    network = NETWORKS[name]
    path = quantized_by_onnxruntime(
        network, tmp_path, per_channel=per_channel, preprocess=preprocess
    )
    model = read_qdq(path)
    types = {node.name: node.op_type for node in model.prepared.program.nodes}
    # Without its preprocessing onnxruntime leaves BatchNormalization in the graph.
    floats = {types[node] for node in model.plan.kept_float} - {"BatchNormalization"}
    assert floats == network.kept_float or (name, preprocess) == ("mobile", False)
    for batch in (1, 5):
        check_equals_onnxruntime(model, path, network.feeds(batch))
    check_equals_onnxruntime(model, qdq_graph(model), network.feeds(2))


@pytest.mark.parametrize("symmetric", [False, True], ids=["asymmetric", "symmetric"])
@pytest.mark.parametrize("kind", [QuantType.QUInt8, QuantType.QInt8], ids=["uint8", "int8"])
@pytest.mark.parametrize("name", SOME)
def test_kinds_of_activations(name: str, kind: Any, symmetric: bool, tmp_path: Path) -> None:
    network = NETWORKS[name]
    path = quantized_by_onnxruntime(
        network,
        tmp_path,
        per_channel=True,
        activation_type=kind,
        extra_options={"ActivationSymmetric": symmetric},
    )
    model = read_qdq(path)
    feeds = network.feeds(5)
    expected, actual = run_int8(path, feeds), open_integer_session(model).run(feeds)
    for output, array in expected.items():
        np.testing.assert_array_equal(actual[output], array)


OPTIONS: dict[str, dict[str, Any]] = {
    "u8-weights": {"weight_type": QuantType.QUInt8},
    "u8-weights-per-channel": {"weight_type": QuantType.QUInt8, "per_channel": True},
    "asymmetric-weights": {"extra_options": {"WeightSymmetric": False}},
    "weights-with-pairs": {"per_channel": True, "extra_options": {"AddQDQPairToWeight": True}},
    "dedicated-pairs": {"extra_options": {"DedicatedQDQPair": True}},
    "float-biases": {"per_channel": True, "extra_options": {"QuantizeBias": False}},
    "microsoft": {"extra_options": {"UseQDQContribOps": True}},
    "microsoft-pairs": {
        "per_channel": True,
        "extra_options": {"UseQDQContribOps": True, "AddQDQPairToWeight": True},
    },
    "constant-factors-only": {"extra_options": {"MatMulConstBOnly": True}},
    "reduced-range": {"per_channel": True, "reduce_range": True},
    "forced-inputs": {"extra_options": {"ForceQuantizeNoInputCheck": True}},
    "one-scale-removed": {"extra_options": {"QDQKeepRemovableActivations": True}},
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("name", SOME)
def test_options_of_onnxruntime(name: str, option: str, tmp_path: Path) -> None:
    network = NETWORKS[name]
    path = quantized_by_onnxruntime(network, tmp_path, **OPTIONS[option])
    check_equals_onnxruntime(read_qdq(path), path, network.feeds(3))


@pytest.mark.parametrize("kind", [QuantType.QUInt16, QuantType.QInt16], ids=["uint16", "int16"])
@pytest.mark.parametrize("name", SOME)
def test_activations_of_16_bits(name: str, kind: Any, tmp_path: Path) -> None:
    """onnxruntime has no kernels for them, and computes the file in floats.

    Its optimizer would make MatMulNBits of a MatMul, which rounds far more than 16 bits do.
    """
    network = NETWORKS[name]
    path = quantized_by_onnxruntime(network, tmp_path, activation_type=kind)
    model = read_qdq(path)
    feeds = network.feeds(3)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    actual = open_integer_session(model).run(feeds)
    for output, array in zip(names, session.run(names, feeds), strict=True):
        # A code off in one layer may be a few off in the last one.
        step = np.ptp(array.astype(np.float64)) / 2**16
        assert np.abs(actual[output] - array).max() <= 8 * step


def test_weights_alone_may_be_quantized(tmp_path: Path) -> None:
    """Some tools quantize products only; everything between them is float."""
    network = NETWORKS["residual"]
    path = quantized_by_onnxruntime(network, tmp_path, op_types_to_quantize=["Conv", "Gemm"])
    model = read_qdq(path)
    assert model.plan.kept_float
    feeds = network.feeds(3)
    expected, actual = open_session(path).run(feeds), open_integer_session(model).run(feeds)
    for output, array in expected.items():
        np.testing.assert_allclose(actual[output], array, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("per_channel", [False, True], ids=["per-tensor", "per-channel"])
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_all_networks(name: str, per_channel: bool, tmp_path: Path) -> None:
    network = NETWORKS[name]
    path = quantized_by_onnxruntime(network, tmp_path, per_channel=per_channel)
    model = read_qdq(path)
    assert all(model.plan.kept_float.values())
    check_equals_onnxruntime(model, path, network.feeds(5))


@pytest.mark.parametrize("tool", ["onnxruntime", "aimet"])
def test_zoo_files_are_exact_end_to_end(zoo: Path, tool: str) -> None:
    path = zoo / "quantized" / f"mobilenet_v2_{tool}_qdq.onnx"
    model = read_qdq(path)
    assert not model.plan.kept_float
    inputs = model.prepared.program.inputs
    dataset = open_dataset(
        zoo / "imagenet" / "validation", inputs, preprocessing=PRESETS["imagenet"], num_samples=3
    )
    codes = dict(model.code_tensors)
    oracle = open_session(with_outputs(load_model(path), list(codes.values())), threads=1)
    plain, session = open_session(path, threads=1), open_integer_session(model)
    for batch in batches(dataset, 3):
        expected = oracle.run(batch.arrays)
        actual = session.run_codes(batch.arrays, list(codes))
        for value, tensor in codes.items():
            np.testing.assert_array_equal(actual[value], expected[tensor], err_msg=value)
        logits = plain.run(batch.arrays)["logits"]
        np.testing.assert_array_equal(session.run(batch.arrays)["logits"], logits)
