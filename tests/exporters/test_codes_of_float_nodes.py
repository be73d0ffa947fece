"""Codes of constants that only float nodes read stay codes in both formats."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from quantkit.exporters.contract import EXPORTERS
from quantkit.graph.model_io import load_model
from quantkit.graph.ort_session import optimized_program
from quantkit.graph.surgery import constant_array
from quantkit.quantized_model.qdq_reader import read_qdq
from tests.quantized_model.qdq_texts import SHAPE, write
from tests.small_networks import onnxruntime_outputs, random_feeds

each_format = pytest.mark.parametrize("file_format", ["qdq", "qoperator"])

BATCH_NORM = {
    "c": "[conv] d = Conv(xd, wd, bd) [bn] c = BatchNormalization(d, gamma, beta, mean, var)",
    "+bn": """float[2] gamma = {1.5, -0.7}, float[2] beta = {0.1, 0.2},
              float[2] mean = {0.3, -0.1}, float[2] var = {1.0, 2.0}""",
}
WEIGHT_ONLY = {
    **dict.fromkeys(("xq", "xd", "yq", "yd"), ""),
    "c": "[conv] y = Conv(x, wd, bd)",
}
SHARED = {"c": "[conv] c = Conv(xd, wd, bd) [other] z = Conv(x, wd, bd)"}
WIDE_OPERAND = {
    "c": """kd = com.microsoft.DequantizeLinear(k_quantized, ks, kz)
            d = Conv(xd, wd, bd) [add] c = Add(d, kd)""",
    "+k": "int16[2,1,1] k_quantized = {-300, 4000}, float ks = {0.001}, int16 kz = {0}",
}


def exported(path: Path, file_format: str) -> Path:
    """Whole, and equal to its source in onnxruntime, bit for bit; nothing more is fused."""
    model = read_qdq(path)
    target = path.with_name(f"{file_format}.onnx")
    EXPORTERS[file_format](model, target)
    onnx.checker.check_model(target, full_check=True)
    feeds = random_feeds(model.prepared.model, SHAPE, 3, seed=0)
    expected = onnxruntime_outputs(path, feeds)
    for name, array in onnxruntime_outputs(target, feeds).items():
        np.testing.assert_array_equal(array, expected[name])
    assert Counter(kinds(path)) == Counter(kind for kind in kinds(target) if kind != "Clip")
    assert read_qdq(target).plan.kept_float.keys() == model.plan.kept_float.keys()
    return target


def kinds(path: Path) -> list[str]:
    return [node.op_type for node in optimized_program(path).nodes]


def stored(path: Path) -> dict[str, ir.DataType | None]:
    return {name: value.dtype for name, value in load_model(path).graph.initializers.items()}


@each_format
@pytest.mark.parametrize(
    ("changes", "outputs"),
    [
        pytest.param(BATCH_NORM, "float[N,2,6,6] y", id="batch-norm"),
        pytest.param(WEIGHT_ONLY, "float[N,2,6,6] y", id="weight-only"),
        pytest.param(SHARED, "float[N,2,6,6] y, float[N,2,6,6] z", id="shared"),
    ],
)
def test_weights_and_biases_stay_codes(
    changes: dict[str, str], outputs: str, file_format: str, tmp_path: Path
) -> None:
    source = write(tmp_path, changes, outputs)
    target = exported(source, file_format)
    arrays = stored(target)
    assert arrays["w_quantized"] == ir.DataType.INT8
    assert arrays["b_quantized"] == ir.DataType.INT32
    # Once only, and not as floats beside it.
    assert not {"w", "b", "w_quantized_2", "b_quantized_2"} & arrays.keys()


@each_format
def test_16_bit_codes_before_opset_21(file_format: str, tmp_path: Path) -> None:
    source = write(tmp_path, WIDE_OPERAND)
    assert stored(exported(source, file_format))["k_quantized"] == ir.DataType.INT16


@each_format
def test_a_float_weight_stays_float_for_a_float_node(file_format: str, tmp_path: Path) -> None:
    """onnxruntime quantizes it for the other node, and its codes are not its real values."""
    changes = {
        "w": "float[2,3,1,1] w = {0.21, -0.43, 2.5, -1.27, 0.64, 0.031}",
        **dict.fromkeys(("wd", "bd"), ""),
        "c": "[conv] c = Conv(xd, w) [other] z = Conv(x, w)",
    }
    source = write(tmp_path, changes, "float[N,2,6,6] y, float[N,2,6,6] z")
    graph = load_model(exported(source, file_format)).graph
    (weight,) = [node.inputs[1] for node in graph if node.name == "other"]
    assert weight is not None
    assert weight.dtype == ir.DataType.FLOAT
    assert constant_array(weight) is not None
