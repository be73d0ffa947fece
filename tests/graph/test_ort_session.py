"""Sessions: types, intermediate values, errors in one line."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from quantkit.errors import ModelError, UnreadableSampleError
from quantkit.graph import ort_session
from quantkit.graph.model_io import program_of, save_model
from quantkit.graph.ort_session import (
    between,
    median_latencies_ms,
    open_session,
    optimized_program,
    with_outputs,
)
from quantkit.graph.program import Array
from quantkit.passes.fold_constants import infer_shapes
from tests.models import conv_bn_relu6, network, normal
from tests.passes.checks import random_feeds

# What keeps onnxruntime's telemetry silent.
SILENCERS = ("ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "CI")


def one_line(error: Exception) -> str:
    assert "\n" not in str(error)
    return str(error)


def test_inputs_and_outputs() -> None:
    session = open_session(conv_bn_relu6(), threads=1)
    (x,) = session.inputs
    assert (x.name, x.dtype, x.shape) == ("x", np.dtype(np.float32), ("N", 3, 8, 8))
    outputs = session.run(random_feeds(conv_bn_relu6()))
    assert {name: array.shape for name, array in outputs.items()} == {"y": (2, 4, 8, 8)}


@pytest.mark.parametrize(
    "feeds",
    [
        {"x": np.zeros((1, 4, 8, 8), np.float32)},
        {"x": np.zeros((1, 3, 8, 8), np.float64)},
        {"z": np.zeros((1, 3, 8, 8), np.float32)},
        {},
    ],
)
def test_inputs_that_do_not_fit(feeds: dict[str, Array]) -> None:
    with pytest.raises(UnreadableSampleError, match="onnxruntime cannot run the model on") as error:
        _ = open_session(conv_bn_relu6()).run(feeds)
    _ = one_line(error.value)


def test_models_onnxruntime_refuses(tmp_path: Path) -> None:
    model = network("y = com.microsoft.NoSuchOp (x)", {})
    with pytest.raises(ModelError, match="onnxruntime cannot load the model: ") as error:
        _ = open_session(model)
    assert "NoSuchOp" in one_line(error.value)
    save_model(model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"m\.onnx"):
        _ = open_session(tmp_path / "m.onnx")


def test_intermediate_values() -> None:
    model = conv_bn_relu6()
    more = with_outputs(model, ["r", "y", "c"])
    assert [value.name for value in more.graph.outputs] == ["y", "r", "c"]
    assert [value.name for value in model.graph.outputs] == ["y"]
    values = open_session(more).run(random_feeds(model), ["r"])
    assert values["r"].min() >= 0
    assert values["r"].max() <= 6
    with pytest.raises(ModelError, match="'x' is not computed"):
        _ = with_outputs(model, ["x"])


def test_the_optimized_graph() -> None:
    types = [node.op_type for node in optimized_program(conv_bn_relu6()).nodes]
    assert "BatchNormalization" not in types


def test_a_model_too_large_for_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(_: object) -> bytes:
        raise ModelError("above 2 GiB")

    monkeypatch.setattr(ort_session, "serialize", too_large)
    monkeypatch.setattr("quantkit.graph.model_io._EMBED_LIMIT_BYTES", 1)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    session = open_session(conv_bn_relu6())
    assert list(tmp_path.iterdir()) == []
    assert session.run(random_feeds(conv_bn_relu6()))["y"].shape == (2, 4, 8, 8)


def test_latencies(tmp_path: Path) -> None:
    save_model(conv_bn_relu6(), tmp_path / "a.onnx")
    models = {"a": tmp_path / "a.onnx", "b": tmp_path / "a.onnx"}
    feeds = {name: {"x": normal(1, 3, 8, 8)} for name in models}
    medians = median_latencies_ms(models, feeds, rounds=2, runs_per_round=1, threads=1)
    assert set(medians) == {"a", "b"}
    assert all(value > 0 for value in medians.values())


def test_onnxruntime_reports_nothing_home(tmp_path: Path) -> None:
    """Its telemetry leaves the identifier of its session in the temporary folder."""
    environment = {name: value for name, value in os.environ.items() if name not in SILENCERS}
    environment |= {"TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    code = "import quantkit.graph.ort_session, onnxruntime; onnxruntime.get_device()"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_a_model() -> None:
    model = conv_bn_relu6()
    infer_shapes(model)
    values = open_session(with_outputs(model, ["c", "r"])).run(random_feeds(model))
    part = between(model, {"c": np.dtype(np.float32)}, ["r"])
    assert [value.name for value in part.graph.inputs] == ["c"]
    found = open_session(part).run({"c": values["c"]})
    np.testing.assert_allclose(found["r"], values["r"], rtol=1e-5, atol=1e-6)
    with pytest.raises(ModelError, match="cannot be cut out of the model: ") as error:
        _ = between(model, {"c": np.dtype(np.float32)}, ["nothing"])
    _ = one_line(error.value)
    with pytest.raises(ModelError, match="cannot be cut out of the model: "):
        _ = between(model, {"r": np.dtype(np.float32)}, ["c"])


def test_a_session_without_optimization(tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    _ = open_session(conv_bn_relu6(), optimized=False, optimized_to=path)
    types = [node.op_type for node in program_of(ir.load(path)).nodes]
    assert types == [node.op_type for node in program_of(conv_bn_relu6()).nodes]


def test_int8_kernels() -> None:
    """By default a code that two nodes read is int8 to neither of them."""
    model = ir.from_onnx_text(
        """<ir_version: 8, opset_import: ["": 17]>
        network (float[N,4] x) => (float[N,4] y, float[N,4] z)
        <float s = {0.1}, int8 zero = {3}> {
            q = QuantizeLinear (x, s, zero)
            d = DequantizeLinear (q, s, zero)
            a = Add (d, d)
            b = Mul (d, d)
            aq = QuantizeLinear (a, s, zero)
            bq = QuantizeLinear (b, s, zero)
            y = DequantizeLinear (aq, s, zero)
            z = DequantizeLinear (bq, s, zero)
        }"""
    )
    default = {node.op_type for node in optimized_program(model).nodes}
    int8 = {node.op_type for node in optimized_program(model, int8_kernels=True).nodes}
    assert "QLinearAdd" not in default
    assert {"QLinearAdd", "QLinearMul"} <= int8
